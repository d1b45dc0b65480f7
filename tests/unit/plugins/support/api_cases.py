# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The test matrix of every module for a resource of an engine's API: {create, no-op, update, delete} x {normal, check, diff}."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from api_replay import Call, replay
from module_harness import Result, run_module

CONNECTION = {"api_url": "https://central.example.org:8443/", "api_token": "a-token"}
MODES = {"normal": (False, False), "check": (True, False), "diff": (False, True), "check and diff": (True, True)}


@dataclass
class Case:
    """One transition: the options, the spec that must be sent (None: DELETE) and the server's answer."""

    options: dict[str, t.Any]
    spec: dict[str, t.Any] | None
    before: dict[str, t.Any] | None
    after: dict[str, t.Any] | None
    changed_secrets: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return self.before != self.after or bool(self.changed_secrets)


def run_case(module: t.Any, path: str, case: Case, mode: str) -> Result:
    """Run one case in one mode and assert calls, `changed`, result and diff."""
    check, diff = MODES[mode]
    method = "DELETE" if case.spec is None else "PUT"
    answer = {"changed": case.changed, "before": case.before, "after": case.after, "changed_secrets": list(case.changed_secrets)}
    calls = [Call(method, path + "?dry_run=true", answer, case.spec)]
    if case.changed and not check:
        calls.append(Call(method, path, answer, case.spec))
    with replay(*calls):
        result = run_module(module, dict(CONNECTION, **case.options), check=check, diff=diff)
    assert not result.failed, result.raw
    assert result.changed is case.changed
    assert result.data[module.result_key] == case.after
    if case.changed and diff:
        assert result.data["diff"]["before"] == (case.before or {})
        assert case.changed_secrets or result.data["diff"]["after"] == (case.after or {})
    return result
