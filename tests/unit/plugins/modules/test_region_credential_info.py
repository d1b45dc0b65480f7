# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module region_credential_info: lists only our credentials, without secrets."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hep.distcloud.plugins.modules.region_credential_info import RegionCredentialInfo
from module_harness import run_module
from region_replay import LOGIN, Call, replay

ENTRIES = [
    {"id": "c2", "name": "distcloud-scheduler-2", "description": "x [distcloud]", "roles": [{"name": "member"}], "access_rules": None},
    {
        "id": "g1",
        "name": "distcloud-glint-1",
        "description": "x [distcloud]",
        "expires_at": "2098-01-01T00:00:00.000000",
        "access_rules": [{"id": "r", "service": "image", "method": "GET", "path": "/v2/images"}],
    },
    {"id": "x", "name": "distcloud-scheduler-1", "description": "by hand"},
    {"id": "y", "name": "mine", "description": "[distcloud]"},
]


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("name,ids", [(None, ["g1", "c2"]), ("scheduler", ["c2"]), ("nobody", [])])
def test_lists_ours(name: str | None, ids: list[str], check: bool) -> None:
    options: dict[str, t.Any] = {**LOGIN, **({"name": name} if name else {})}
    with replay(Call("GET", "identity", "/users/user-1/application_credentials", {"application_credentials": ENTRIES})):
        result = run_module(RegionCredentialInfo, options, check=check)
    assert [one["id"] for one in result.data["credentials"]] == ids and not result.changed
    for one in result.data["credentials"]:
        assert set(one) == {"service", "name", "id", "generation", "expires_at", "roles", "access_rules"}


def test_refused_login_gives_structured_failure() -> None:
    with replay(login=401):
        result = run_module(RegionCredentialInfo, dict(LOGIN))
    assert result.failed and result.data["failure"]["code"] == 401 and "the-accounts-password" not in result.raw
