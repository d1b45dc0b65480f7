# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module htcondor_token_info: which tokens are valid and which must be replaced."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hep.distcloud.plugins.modules import htcondor_token_info
from module_harness import run_module

CLAIMS = {"sub": "worker-a@example.org", "scope": "condor:/ADVERTISE_MASTER condor:/ADVERTISE_STARTD", "iat": 1000, "exp": 2000}


def token(**changed: Any) -> str:
    body = base64.urlsafe_b64encode(json.dumps(CLAIMS | changed).encode()).decode().rstrip("=")
    return f"head.{body}.signature\n"


def is_valid(path: Path, *, key_time: int = 1000, now: float = 1200) -> Any:
    names = ["ADVERTISE_STARTD", "ADVERTISE_MASTER"]
    return not htcondor_token_info.find_problem(str(path), "worker-a@example.org", names, key_time, now, owner=os.getuid())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "worker"
    made.write_text(token())
    made.chmod(0o600)
    return made


def test_token_is_valid_for_half_of_its_lifetime(path: Path) -> None:
    assert is_valid(path)
    assert is_valid(path, now=1500)
    assert not is_valid(path, now=1501)


def test_newer_or_missing_key_invalidates_it(path: Path) -> None:
    assert not is_valid(path, key_time=1001)
    assert not is_valid(path, key_time=0)


def test_token_readable_by_others_is_invalid(path: Path) -> None:
    path.chmod(0o640)
    assert not is_valid(path)


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
    assert not is_valid(path)


def test_missing_file_is_invalid(tmp_path: Path) -> None:
    assert not is_valid(tmp_path / "absent")


def test_module_names_the_problem(path: Path) -> None:
    options = {"path": str(path), "identity": "worker-b@example.org", "authorizations": ["READ"], "key_time": 1000}
    result = run_module(htcondor_token_info.HtcondorTokenInfo, options, check=True)
    owner = "it does not belong to root alone" if os.getuid() else "it has another identity"
    assert not result.changed and result.data["problem"] == owner
    path.unlink()
    assert run_module(htcondor_token_info.HtcondorTokenInfo, options).data["problem"] == "it is missing"
