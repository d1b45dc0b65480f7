"""`lab-down` takes away everything: the outer machine after the tests' lab is as `tests/run.py` found it before."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from lab_access import wait
from outer_machine import left_behind, marks, snapshot

ROOT = Path(__file__).resolve().parents[2]
BEFORE = ROOT / "build" / "tests" / "outer-before.json"
LAB = os.environ.get("DISTCLOUD_LAB", "test")
NETWORK = os.environ.get("DISTCLOUD_LAB_NETWORK", "10.203.0.0/24")
BRIDGE = os.environ.get("DISTCLOUD_LAB_BRIDGE", "dclab0")


@pytest.mark.leak
def test_lab_removal_restores_the_machine() -> None:
    if not BEFORE.exists():
        pytest.skip("nobody looked before the lab was up: tests/run.py does")
    before = json.loads(BEFORE.read_text("utf-8"))
    if before["labs"]:
        pytest.skip(f"a lab was up already before: {before['labs']}")

    def clean() -> bool:
        left = left_behind(before, snapshot(NETWORK), marks([LAB], ["central", "lab-a", "lab-b"], BRIDGE, NETWORK))
        assert not left, json.dumps(left, indent=1)
        return True

    # An ssh client notices after a minute that its host is gone.
    wait("nothing is left behind", clean, 300, 2)
