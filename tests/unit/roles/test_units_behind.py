"""Role certificates: which units run with older files than there are."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[3] / "roles" / "certificates" / "files" / "units_behind.py"
SPEC = importlib.util.spec_from_file_location("units_behind", FILE)
assert SPEC and SPEC.loader
units_behind = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(units_behind)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("ActiveState=active\nStateChangeTimestamp=@1700000000\n", (True, 1_700_000_000)),
        ("ActiveState=inactive\nStateChangeTimestamp=\n", (False, 0)),
        ("ActiveState=failed\nStateChangeTimestamp=n/a\n", (False, 0)),
    ],
)
def test_what_systemd_says_is_read(text: str, state: tuple[bool, int]) -> None:
    assert units_behind.parse_state(text) == state


def test_units_with_younger_files_are_named_once(tmp_path: Path) -> None:
    path = tmp_path / "one.pem"
    path.write_text("")
    os.utime(path, (100.9, 100.9))
    wish = {"files": [str(path), str(tmp_path / "absent.key")], "units": ["old", "same", "stopped"]}
    states = {"old": (True, 99), "same": (True, 100), "stopped": (False, 99)}
    assert units_behind.behind([wish, wish], states.__getitem__) == ["old"]
