"""Role htcondor: what taking up a configuration needs, and what a run that broke off leaves for the next one."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[3] / "roles" / "htcondor" / "files" / "check_configuration.py"
SPEC = importlib.util.spec_from_file_location("check_configuration", FILE)
assert SPEC and SPEC.loader
check = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check)

WISH: dict[str, Any] = {"restart": ["UID_DOMAIN", "DAEMON_LIST"], "maps": {}, "unit": {}}
NOTHING = {"running": True, "reconfigure": False, "restart": [], "pending": False, "journal": None}


def test_a_set_that_is_there_needs_nothing() -> None:
    assert check.plan(True, set(), WISH, None) == NOTHING


def test_what_differs_is_noted_before_it_is_changed() -> None:
    made = check.plan(True, {"UID_DOMAIN", "OTHER"}, WISH, None)
    assert made == {**NOTHING, "reconfigure": True, "restart": ["UID_DOMAIN"], "journal": {"reconfigure": True, "restart": ["UID_DOMAIN"]}}


def test_a_service_that_does_not_run_takes_up_everything_when_it_starts() -> None:
    made = check.plan(False, {"UID_DOMAIN"}, WISH, {"reconfigure": True, "restart": []})
    assert (made["pending"], made["journal"]) == (False, None)


def test_what_was_left_is_taken_up_although_no_file_differs() -> None:
    left = {"reconfigure": True, "restart": ["DAEMON_LIST"]}
    assert check.plan(True, set(), WISH, left) == {**NOTHING, **left, "pending": True, "journal": left}


def test_maps_and_the_unit_are_noted_too(tmp_path: Path) -> None:
    there = tmp_path / "map"
    there.write_text("* alice atlas\n")
    wish = {**WISH, "maps": {str(there): "* alice atlas"}, "unit": {str(tmp_path / "absent"): "[Service]"}}
    assert check.plan(True, set(), wish, None)["journal"] == {"reconfigure": False, "restart": ["condor.service"]}
    wish = {**WISH, "maps": {str(there): "* bob atlas"}}
    assert check.plan(True, set(), wish, None) == {**NOTHING, "journal": {"reconfigure": True, "restart": []}}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, None),
        (json.dumps({"reconfigure": False, "restart": ["UID_DOMAIN"]}), {"reconfigure": False, "restart": ["UID_DOMAIN"]}),
        ("cut off", {"reconfigure": True, "restart": []}),
        ("[]", {"reconfigure": True, "restart": []}),
    ],
)
def test_the_journal_is_read_or_counts_as_something_to_take_up(tmp_path: Path, text: str | None, found: Any) -> None:
    path = tmp_path / "journal"
    if text is not None:
        path.write_text(text)
    assert check.noted(str(path)) == found


def test_an_expression_that_htcondor_leaves_empty_is_none_and_a_broken_one_is_named() -> None:
    pytest.importorskip("classad2")
    assert check.broken_expression({"SEC_TOKEN_REVOCATION_EXPR": ""}, ["SEC_TOKEN_REVOCATION_EXPR", "START"]) == ""
    assert check.broken_expression({"START": "(1 +"}, ["START"]).startswith("START is not a ClassAd expression")
