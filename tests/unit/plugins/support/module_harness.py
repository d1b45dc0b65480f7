# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a module class in this process and returns what Ansible would see."""

from __future__ import annotations

import contextlib
import io
import json
import typing as t
from dataclasses import dataclass, field
from unittest import mock

from ansible.module_utils import _internal, basic
from ansible.module_utils.common import warnings as module_warnings
from ansible.module_utils.testing import patch_module_args


@dataclass
class Result:
    """What a module printed, parsed, and as raw text (to look for secrets in)."""

    data: dict[str, t.Any]
    raw: str
    warnings: list[str] = field(default_factory=list)
    logged: str = ""  # what went to the system's log

    @property
    def failed(self) -> bool:
        return bool(self.data.get("failed"))

    @property
    def changed(self) -> bool:
        return bool(self.data.get("changed"))


def run_module(cls: t.Any, params: dict[str, t.Any], check: bool = False, diff: bool = False) -> Result:
    """Give a module its options as Ansible would and return what it printed, argument validation and no_log included."""
    args = dict(params, _ansible_check_mode=check, _ansible_diff=diff, _ansible_remote_tmp="/tmp", _ansible_keep_remote_files=False)
    out = io.StringIO()
    logged: list[str] = []
    no_journal = mock.patch.object(basic, "has_journal", False)
    log = mock.patch.object(basic.AnsibleModule, "_log_to_syslog", lambda _module, message: logged.append(str(message)))
    # Warnings pile up in this process, where a real module has a process of its own.
    fresh = mock.patch.dict(module_warnings._global_warnings, clear=True)
    # Tests of other plugins import the controller into this process; a module on its host knows none.
    target = mock.patch.object(_internal, "is_controller", False)
    with patch_module_args(args), mock.patch("sys.stdout", out), no_journal, log, fresh, target, contextlib.suppress(SystemExit):
        cls.main()
    raw = out.getvalue()
    data = json.loads(raw)
    warnings = [item if isinstance(item, str) else str(item) for item in data.get("warnings", [])]
    return Result(data=data, raw=raw, warnings=warnings, logged="\n".join(logged))
