# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module scheduler_group against replayed HTTP."""

from __future__ import annotations

import pytest
from ansible_collections.hep.distcloud.plugins.modules.scheduler_group import SchedulerGroup
from api_cases import CONNECTION, MODES, Case, run_case
from api_replay import Call, problem, replay
from module_harness import run_module

OLD = {"name": "atlas", "keep_alive": 300, "default_flavor": "m1", "default_image": None, "aliases": {}}
NEW = dict(OLD, keep_alive=600)
CASES = {
    "create": Case({"name": "atlas", "default_flavor": "m1"}, {"default_flavor": "m1"}, None, OLD),
    "no-op": Case({"name": "atlas", "keep_alive": 300}, {"keep_alive": 300}, OLD, OLD),
    "update": Case({"name": "atlas", "keep_alive": 600}, {"keep_alive": 600}, OLD, NEW),
    "reset": Case({"name": "atlas", "reset": ["keep_alive"]}, {"keep_alive": None}, NEW, OLD),
    "empty": Case({"name": "atlas", "aliases": {}}, {"aliases": {}}, dict(OLD, aliases={"a": ["b"]}), OLD),
    "delete": Case({"name": "atlas", "state": "absent"}, None, OLD, None),
    "delete again": Case({"name": "atlas", "state": "absent"}, None, None, None),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_matrix(case, mode):
    run_case(SchedulerGroup, "/v1/groups/atlas", CASES[case], mode)


def test_several_in_one_call():
    made = {"changed": True, "before": None, "after": OLD, "changed_secrets": []}
    gone = {"changed": False, "before": None, "after": None, "changed_secrets": []}
    with replay(
        Call("PUT", "/v1/groups/atlas?dry_run=true", made, {}),
        Call("PUT", "/v1/groups/atlas", made, {}),
        Call("DELETE", "/v1/groups/old?dry_run=true", gone),
    ):
        result = run_module(SchedulerGroup, dict(CONNECTION, groups=[{"name": "atlas"}, {"name": "old", "state": "absent"}]), diff=True)
    assert result.changed
    assert result.data["groups"] == [OLD]
    assert [diff["after_header"] for diff in result.data["diff"]] == ["atlas"]


def test_changes_before_a_failure_are_reported():
    made = {"changed": True, "before": None, "after": OLD, "changed_secrets": []}
    bad = {"keep_alive": -1}
    errors = [{"field": "keep_alive", "message": "should be greater than or equal to 0"}]
    with replay(
        Call("PUT", "/v1/groups/atlas?dry_run=true", made, {}),
        Call("PUT", "/v1/groups/atlas", made, {}),
        Call("PUT", "/v1/groups/bad?dry_run=true", problem(422, "invalid", "keep_alive: no", errors=errors), bad, status=422),
    ):
        result = run_module(SchedulerGroup, dict(CONNECTION, groups=[{"name": "atlas"}, dict(bad, name="bad")]))
    assert result.failed
    assert result.changed
    assert result.data["groups"] == [OLD]
    assert result.data["failure"] == {"service": "scheduler", "code": 422, "details": {"type": "invalid", "errors": errors, "item": "bad"}}


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({}, "name"),
        ({"name": "a", "groups": []}, "mutually exclusive"),
        ({"groups": [], "keep_alive": 3}, "mutually exclusive"),
        ({"name": "a", "keep_alive": 3, "reset": ["keep_alive"]}, "both set and reset"),
        ({"name": "a", "api_url": "central:8443"}, "api_url"),
        ({"name": "a", "api_url": "https://u:p@central"}, "api_url"),
    ],
)
def test_invalid_options(options, word):
    with replay():
        result = run_module(SchedulerGroup, dict(CONNECTION, **options))
    assert result.failed
    assert word in result.data["msg"]
