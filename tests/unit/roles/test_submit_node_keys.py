"""Role htcondor: the key of a submit node is created atomically, and never replaces another."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles" / "htcondor"
SCRIPT = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["__htcondor_make_key"]


def make(key: Path, tools: Path | None = None) -> int:
    path = f"{tools}:{os.environ['PATH']}" if tools else os.environ["PATH"]
    return subprocess.run(["sh", "-ec", SCRIPT, "sh", str(key)], env={"PATH": path}, capture_output=True, check=False).returncode


def test_key_is_complete_and_private_to_owner(tmp_path: Path) -> None:
    key = tmp_path / "submit-one"
    assert make(key) == 0
    assert len(base64.b64decode(key.read_text(), validate=True)) == 48
    assert key.stat().st_mode & 0o777 == 0o600 and list(tmp_path.iterdir()) == [key]


def test_another_key_is_not_replaced(tmp_path: Path) -> None:
    key = tmp_path / "submit-one"
    key.write_text("of somebody else")
    assert make(key) != 0
    assert key.read_text() == "of somebody else" and list(tmp_path.iterdir()) == [key]


@pytest.mark.parametrize("cut", ["exit 1", "printf short", 'kill -9 "$PPID"'])
def test_interrupted_creation_leaves_no_key(tmp_path: Path, cut: str) -> None:
    tools, keys = tmp_path / "tools", tmp_path / "keys"
    tools.mkdir()
    keys.mkdir()
    (tools / "head").write_text(f"#!/bin/sh\n{cut}\n")
    (tools / "head").chmod(0o755)
    assert make(keys / "submit-one", tools) != 0
    assert not (keys / "submit-one").exists()
