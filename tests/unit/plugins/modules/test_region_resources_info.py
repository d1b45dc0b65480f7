# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module region_resources_info: what a tenant can use, what is missing, and what to ask the admin for."""

from __future__ import annotations

import pytest
from ansible_collections.hep.distcloud.plugins.modules.region_resources_info import RegionResourcesInfo
from module_harness import run_module
from region_replay import LOGIN, Call, replay

CALLS = [
    Call("GET", "compute", "/flavors/detail", {"flavors": [{"name": "small", "id": "f1", "vcpus": 1, "ram": 512, "disk": 4, "links": []}]}),
    Call("GET", "network", "/networks", {"networks": [{"name": "public", "id": "n1", "shared": True}]}),
    Call("GET", "compute", "/os-quota-sets/project-1", {"quota_set": {"cores": 4, "instances": -1}}),
    Call("GET", "network", "/quotas/project-1", {"quota": {"port": 50}}),
]


@pytest.mark.parametrize("check", [False, True])
def test_nothing_is_missing(check: bool) -> None:
    expected = {
        "flavors": [{"name": "small", "vcpus": 1, "ram": 512, "disk": 4}],
        "networks": ["public"],
        "quotas": {"compute": {"cores": "4", "instances": 100}, "network": {"port": 10}},
        "roles": ["member"],
    }
    with replay(*CALLS):
        result = run_module(RegionResourcesInfo, {**LOGIN, "expected": expected}, check=check)
    assert result.data["region"]["missing"] == [] and not result.changed
    assert result.data["region"]["project_id"] == "project-1" and result.data["region"]["roles"] == ["member"]


def test_all_missing_resources_are_reported() -> None:
    expected = {
        "flavors": [{"name": "small", "vcpus": 2, "ram": 512, "disk": 4}, {"name": "big", "vcpus": 8, "ram": 16384, "disk": 40}],
        "networks": ["workers"],
        "quotas": {"compute": {"cores": -1}, "network": {"port": 51}},
        "roles": ["creator"],
    }
    with replay(*CALLS):
        result = run_module(RegionResourcesInfo, {**LOGIN, "expected": expected})
    assert [(lack["kind"], lack["name"]) for lack in result.data["region"]["missing"]] == [
        ("flavor", "small"),
        ("flavor", "big"),
        ("network", "workers"),
        ("quota", "compute.cores"),
        ("quota", "network.port"),
        ("role", "creator"),
    ]
    assert all(lack["ask"] for lack in result.data["region"]["missing"])


def test_invalid_quota_is_named() -> None:
    with replay() as region:
        result = run_module(RegionResourcesInfo, {**LOGIN, "expected": {"quotas": {"compute": {"cores": "many"}}}})
    assert result.failed and result.data["failure"]["details"]["field"] == "expected.quotas.compute.cores" and not region.seen
