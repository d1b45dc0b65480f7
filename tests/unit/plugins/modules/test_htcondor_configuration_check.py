# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module htcondor_configuration_check: what applying a configuration requires, and what an interrupted run leaves for the next one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hep.distcloud.plugins.modules import htcondor_configuration_check as check
from module_harness import run_module

SPEC: dict[str, Any] = {"restart": ["UID_DOMAIN", "DAEMON_LIST"], "maps": {}, "unit": {}}
NOTHING = {"running": True, "reconfigure": False, "restart": [], "pending": False, "journal": None}


def test_present_set_requires_nothing() -> None:
    assert check.plan(True, set(), SPEC, None) == NOTHING


def test_differences_are_written_to_the_journal() -> None:
    made = check.plan(True, {"UID_DOMAIN", "OTHER"}, SPEC, None)
    assert made == {**NOTHING, "reconfigure": True, "restart": ["UID_DOMAIN"], "journal": {"reconfigure": True, "restart": ["UID_DOMAIN"]}}


def test_stopped_service_needs_no_journal() -> None:
    made = check.plan(False, {"UID_DOMAIN"}, SPEC, {"reconfigure": True, "restart": []})
    assert (made["pending"], made["journal"]) == (False, None)


def test_pending_changes_are_applied_without_differences() -> None:
    left = {"reconfigure": True, "restart": ["DAEMON_LIST"]}
    assert check.plan(True, set(), SPEC, left) == {**NOTHING, **left, "pending": True, "journal": left}


def test_maps_and_unit_are_written_to_the_journal(tmp_path: Path) -> None:
    there = tmp_path / "map"
    there.write_text("* alice atlas\n")
    spec = {**SPEC, "maps": {str(there): "* alice atlas"}, "unit": {str(tmp_path / "absent"): "[Service]"}}
    assert check.plan(True, set(), spec, None)["journal"] == {"reconfigure": False, "restart": ["condor.service"]}
    spec = {**SPEC, "maps": {str(there): "* bob atlas"}}
    assert check.plan(True, set(), spec, None) == {**NOTHING, "journal": {"reconfigure": True, "restart": []}}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, None),
        (json.dumps({"reconfigure": False, "restart": ["UID_DOMAIN"]}), {"reconfigure": False, "restart": ["UID_DOMAIN"]}),
        ("cut off", {"reconfigure": True, "restart": []}),
        ("[]", {"reconfigure": True, "restart": []}),
    ],
)
def test_unreadable_journal_requires_reconfiguration(tmp_path: Path, text: str | None, found: Any) -> None:
    path = tmp_path / "journal"
    if text is not None:
        path.write_text(text)
    assert check.read_journal(str(path)) == found


def test_broken_expression_is_named_and_empty_is_valid() -> None:
    pytest.importorskip("classad2")
    assert check.broken_expression({"SEC_TOKEN_REVOCATION_EXPR": ""}, ["SEC_TOKEN_REVOCATION_EXPR", "START"]) == ""
    assert check.broken_expression({"START": "(1 +"}, ["START"]).startswith("START is not a ClassAd expression")


STAND_IN = """
class ExprTree:
    def __init__(self, text):
        compile(text, "expression", "eval")
"""


def test_python_of_the_host_checks_expressions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Ansible's Python lacks the bindings."""
    monkeypatch.setitem(sys.modules, "classad2", None)
    monkeypatch.setattr(check, "SYSTEM_PYTHON", sys.executable)
    (tmp_path / "classad2.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert check.broken_expression({"START": "(1 + 1)", "RANK": " "}, ["START", "RANK", "OTHER"]) == ""
    problem = check.broken_expression({"START": "1", "RANK": "(1 +"}, ["START", "RANK"])
    assert problem.startswith("RANK is not a ClassAd expression: ") and problem.endswith("\n(1 +")


@pytest.mark.parametrize("program", [sys.executable, "/nonexistent/python3"])
def test_missing_bindings_are_a_warning(host: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    warnings: list[str] = []
    monkeypatch.setitem(sys.modules, "classad2", None)
    monkeypatch.setattr(check, "SYSTEM_PYTHON", program)
    monkeypatch.setattr(check, "CHECK", "import classad_that_is_missing")
    monkeypatch.setattr(AnsibleModule, "warn", lambda self, text: warnings.append(text))
    assert not call(host, "START = (1 +\n", expressions=["START"]).failed
    (text,) = warnings
    assert "expressions of the new HTCondor configuration were not checked: " in text


CONFIG_VAL = """#!%s
import os, pathlib, sys
top = pathlib.Path(os.environ["CONDOR_CONFIG"])
folder = pathlib.Path(top.read_text().split()[-1])
text = "".join(path.read_text() for path in sorted(folder.iterdir()))
if "nonsense" in text:
    sys.exit("error: nonsense")
print(text)
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with a stand-in for HTCondor whose service runs."""
    live, top, programs = tmp_path / "config.d", tmp_path / "condor_config", tmp_path / "bin"
    live.mkdir()
    programs.mkdir()
    (live / "10.conf").write_text("UID_DOMAIN = a\n")
    top.write_text(f"LOCAL_CONFIG_DIR = {live}\n")
    for name, text in (("condor_config_val", CONFIG_VAL % sys.executable), ("systemctl", "#!/bin/sh\nexit 0\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(check, "LIVE", str(live))
    monkeypatch.setattr(check, "TOP", str(top))
    return tmp_path


def call(host: Path, text: str, *, dry: bool = False, **others: Any) -> Any:
    options = {"files": {"10.conf": text}, "restart": ["UID_DOMAIN"], "journal": str(host / "journal"), **others}
    return run_module(check.HtcondorConfigurationCheck, options, check=dry)


def test_journal_makes_the_next_run_changed(host: Path) -> None:
    new = "UID_DOMAIN = b\nOTHER = 1\n"
    dry = call(host, new, dry=True)
    assert not dry.changed and not (host / "journal").exists()
    assert (dry.data["reconfigure"], dry.data["restart"], dry.data["pending"]) == (True, ["UID_DOMAIN"], False)
    first = call(host, new)
    assert (host / "journal").stat().st_mode & 0o777 == 0o600
    assert not first.changed and json.loads((host / "journal").read_text()) == {"reconfigure": True, "restart": ["UID_DOMAIN"]}
    (host / "config.d" / "10.conf").write_text(new)
    for mode in (True, False):
        again = call(host, new, dry=mode)
        assert again.changed and again.data["pending"] and again.data["restart"] == ["UID_DOMAIN"]


def test_unreadable_set_is_refused(host: Path) -> None:
    result = call(host, "nonsense")
    assert result.failed and "cannot be read, nothing was changed.\nerror: nonsense" in result.data["msg"]
    assert not (host / "journal").exists()
