# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module scheduler_metadata against replayed HTTP."""

from __future__ import annotations

import pytest
from ansible_collections.hep.distcloud.plugins.modules.scheduler_metadata import SchedulerMetadata
from api_cases import CONNECTION, MODES, Case, run_case
from api_replay import Call, replay
from module_harness import run_module

OLD = {"group": "atlas", "cloud": None, "name": "p", "content": "a: 1", "mime_type": "cloud-config", "priority": 0, "enabled": True}
NEW = dict(OLD, content="a: 2")
NAMED = {"group": "atlas", "name": "p"}
CASES = {
    "create": Case(dict(NAMED, content="a: 1"), {"content": "a: 1"}, None, OLD),
    "no-op": Case(dict(NAMED, content="a: 1"), {"content": "a: 1"}, OLD, OLD),
    "update": Case(dict(NAMED, content="a: 2", enabled=False), {"content": "a: 2", "enabled": False}, OLD, NEW),
    "delete": Case(dict(NAMED, state="absent"), None, OLD, None),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_matrix_of_a_group(case, mode):
    run_case(SchedulerMetadata, "/v1/groups/atlas/metadata/p", CASES[case], mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_matrix_of_a_cloud(case, mode):
    known = CASES[case]
    of_cloud = Case(dict(known.options, cloud="victoria"), known.spec, known.before, known.after)
    run_case(SchedulerMetadata, "/v1/groups/atlas/clouds/victoria/metadata/p", of_cloud, mode)


@pytest.mark.parametrize("check", [False, True])
def test_purge_deletes_what_is_not_listed(check):
    kept = {"changed": False, "before": OLD, "after": OLD, "changed_secrets": []}
    gone = {"changed": True, "before": dict(OLD, name="q"), "after": None, "changed_secrets": []}
    calls = [
        Call("PUT", "/v1/groups/atlas/metadata/p?dry_run=true", kept, {"content": "a: 1"}),
        Call("GET", "/v1/groups/atlas/metadata", [OLD, dict(OLD, name="q")]),
        Call("DELETE", "/v1/groups/atlas/metadata/q?dry_run=true", gone),
    ]
    if not check:
        calls.append(Call("DELETE", "/v1/groups/atlas/metadata/q", gone))
    parts = [{"name": "p", "content": "a: 1"}]
    with replay(*calls):
        result = run_module(SchedulerMetadata, dict(CONNECTION, group="atlas", parts=parts, purge=True), check=check)
    assert result.changed
    assert result.data["parts"] == [OLD]


def test_purge_needs_the_list():
    with replay():
        assert "parts" in run_module(SchedulerMetadata, dict(CONNECTION, name="p", group="atlas", purge=True)).data["msg"]
