# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module scheduler_group_info against replayed HTTP."""

from __future__ import annotations

import pytest
from ansible_collections.hep.distcloud.plugins.modules.scheduler_group_info import SchedulerGroupInfo
from api_cases import CONNECTION
from api_replay import Call, problem, replay
from module_harness import run_module

PATH = "/v1/groups"
OPTIONS = dict(CONNECTION, **{})


@pytest.mark.parametrize("check", [False, True])
def test_all_one_and_none(check):
    found = [{"name": "a"}, {"name": "b"}]
    with replay(Call("GET", PATH, found)):
        result = run_module(SchedulerGroupInfo, OPTIONS, check=check)
    assert (result.changed, result.data["groups"]) == (False, found)
    with replay(Call("GET", PATH + "/a", found[0])):
        assert run_module(SchedulerGroupInfo, dict(OPTIONS, name="a"), check=check).data["groups"] == [found[0]]
    with replay(Call("GET", PATH + "/c", problem(404, "no-such-thing", "none"), status=404)):
        assert run_module(SchedulerGroupInfo, dict(OPTIONS, name="c"), check=check).data["groups"] == []


@pytest.mark.parametrize(("status", "kind"), [(401, "unauthorized"), (403, "other-group"), (404, "no-such-path"), (503, "database")])
def test_refused_request_fails(status, kind):
    with replay(Call("GET", PATH, problem(status, kind, "in words"), status=status)):
        result = run_module(SchedulerGroupInfo, OPTIONS)
    assert result.failed
    assert "in words" in result.data["msg"]
    assert result.data["failure"] == {"service": "scheduler", "code": status, "details": {"type": kind}}
