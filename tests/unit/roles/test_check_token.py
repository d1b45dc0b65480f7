"""Role htcondor: which member tokens are valid and which are replaced."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[3] / "roles" / "htcondor" / "files" / "check_token.py"
SPEC = importlib.util.spec_from_file_location("check_token", FILE)
assert SPEC and SPEC.loader
check_token = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check_token)

CLAIMS = {"sub": "worker-a@example.org", "scope": "condor:/ADVERTISE_MASTER condor:/ADVERTISE_STARTD", "iat": 1000, "exp": 2000}


def token(**changed: Any) -> str:
    body = base64.urlsafe_b64encode(json.dumps(CLAIMS | changed).encode()).decode().rstrip("=")
    return f"head.{body}.signature\n"


def good(path: Path, *, key_time: int = 1000, now: float = 1200) -> Any:
    names = ["ADVERTISE_STARTD", "ADVERTISE_MASTER"]
    return check_token.good(str(path), "worker-a@example.org", names, key_time, now, owner=os.getuid())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "worker"
    made.write_text(token())
    made.chmod(0o600)
    return made


def test_token_is_valid_for_half_of_its_lifetime(path: Path) -> None:
    assert good(path)
    assert good(path, now=1500)
    assert not good(path, now=1501)


def test_newer_or_missing_key_invalidates_it(path: Path) -> None:
    assert not good(path, key_time=1001)
    assert not good(path, key_time=0)


def test_token_readable_by_others_is_invalid(path: Path) -> None:
    path.chmod(0o640)
    assert not good(path)


@pytest.mark.parametrize(
    "text",
    [
        token(sub="worker-b@example.org"),
        token(scope="condor:/ADVERTISE_STARTD"),
        token(scope="condor:/ADVERTISE_STARTD condor:/ADVERTISE_MASTER condor:/READ"),
        token(exp=None),
        "no token",
        "",
    ],
)
def test_other_claims_are_invalid(path: Path, text: str) -> None:
    path.write_text(text)
    assert not good(path)


def test_missing_file_is_invalid(tmp_path: Path) -> None:
    assert not good(tmp_path / "absent")
