# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module region_resources on replayed HTTP: users, whole projects, refusals and invalid input."""

from __future__ import annotations

import copy
import typing as t
from pathlib import Path

import pytest
from region_replay import Call, replay
from region_world import (
    DOMAIN,
    FLAVOR,
    FLAVOR_SPEC,
    MODES,
    NET_SPEC,
    NETWORK,
    PASSWORD,
    PROJECT,
    SUBNET,
    USER,
    USERS,
    listed,
    run,
    user_calls,
)


def test_user_created_with_role_and_hidden_password() -> None:
    with replay(
        DOMAIN,
        PROJECT,
        Call("GET", "identity", "/users", {"users": []}),
        Call("POST", "identity", "/users", {"user": USER}, 201),
        Call("GET", "identity", "/roles", {"roles": [{"id": "m1", "name": "member"}]}),
        Call("PUT", "identity", "/projects/p1/users/u1/roles/m1", status=204),
        Call("GET", "identity", "/role_assignments", {"role_assignments": [{"role": {"name": "member", "id": "m1"}, "scope": {}}]}),
    ):
        result = run(USERS, diff=True)
    assert result.changed and result.data["resources"]["user"][0]["roles"] == ["member"]
    assert PASSWORD not in result.raw


@pytest.mark.parametrize("check", [False, True])
def test_changed_password_is_detected_by_login(check: bool) -> None:
    writes = [
        Call("PATCH", "identity", "/users/u1", {"user": USER}, body={"user": {"password": PASSWORD}}),
        Call("GET", "identity", "/role_assignments", {"role_assignments": []}),
    ]
    with replay(DOMAIN, PROJECT, *user_calls(["member"], 401), *([] if check else writes)):
        result = run(USERS, check, diff=True)
    assert result.changed and PASSWORD not in result.raw and "another value" in result.raw


def test_surplus_role_is_revoked() -> None:
    with replay(
        DOMAIN,
        PROJECT,
        *user_calls(["admin", "member"]),
        Call("GET", "identity", "/users/u1", {"user": {"id": "u1", "name": "site", "enabled": True}}),
        Call("GET", "identity", "/roles", {"roles": [{"id": "a1", "name": "admin"}]}),
        Call("DELETE", "identity", "/projects/p1/users/u1/roles/a1", status=204),
        Call("GET", "identity", "/role_assignments", {"role_assignments": []}),
    ):
        assert run(USERS).changed


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("ours", [True, False])
def test_foreign_user_loses_roles_only_in_our_project(ours: bool, check: bool) -> None:
    project = {"id": "p1", "name": "site", "description": "[distcloud]" if ours else "of the institute", "enabled": True}
    spec = {"state": "absent", "project": {"name": "site", "existing": True}, "users": [{"name": "site", "existing": True}]}
    writes = [
        Call("GET", "identity", "/roles", {"roles": [{"id": "m1", "name": "member"}]}),
        Call("DELETE", "identity", "/projects/p1/users/u1/roles/m1", status=204),
    ]
    users, assignments = user_calls(["member", "admin"], None)
    projects = Call("GET", "identity", "/projects", {"projects": [project]})
    with replay(DOMAIN, users, projects, assignments, *(writes if ours and not check else [])):
        result = run(spec, check)
    assert result.changed is ours
    assert ("user site keeps its roles (member) on project site" in result.raw) is not ours


def test_missing_password_file_counts_as_no_password(tmp_path: Path) -> None:
    spec = {"project": {"name": "site"}, "users": [{"name": "site", "password_file": str(tmp_path / "none")}]}
    with replay(DOMAIN, PROJECT, Call("GET", "identity", "/users", {"users": []})):
        assert run(spec, check=True).changed
    with replay(DOMAIN, PROJECT, Call("GET", "identity", "/users", {"users": []})):
        result = run(spec)
    assert result.failed and result.data["failure"]["details"]["field"] == "users.password"


THEIR_VMS_PORT = {"id": "a2", "name": "", "device_owner": "compute:nova", "device_id": "v1"}
DHCP_PORT = {"id": "a3", "name": "", "device_owner": "network:dhcp", "device_id": "dhcp-host"}
ELSEWHERE = {"id": "a4", "name": "", "device_owner": "compute:nova", "device_id": "vm-of-another-project"}
HOLDINGS = [
    Call("GET", "compute", "/servers/detail", {"servers": [{"id": "v1", "name": "their-vm"}]}),
    listed("/networks", "networks", {"id": "n9", "name": "theirs", "description": ""}, NETWORK),
    Call("GET", "network", "/routers", status=404, answer={"message": "no such extension"}),
    listed("/security-groups", "security_groups", {"name": "default", "description": ""}),
    Call("GET", "network", "/floatingips", status=404),
    listed("/ports", "ports", {"id": "a1", "name": "left-over", "device_owner": "", "device_id": ""}, THEIR_VMS_PORT),
    listed("/ports", "ports"),
    Call("GET", "network", "/ports", {"ports": [DHCP_PORT, THEIR_VMS_PORT, ELSEWHERE]}, query={"network_id": "n1"}),
    Call("GET", "image", "/images", {"images": []}),
]


def test_foreign_resources_prevent_removal_of_project_and_rest() -> None:
    with replay(DOMAIN, PROJECT, *copy.deepcopy(HOLDINGS)):
        result = run({"state": "absent", "project": {"name": "site"}, "networks": [NET_SPEC]})
    assert result.failed and result.data["failure"]["details"]["holdings"] == [
        "server their-vm",
        "network theirs",
        "port left-over",
        "port a4 (compute:nova)",
    ]


@pytest.mark.parametrize("check", [False, True])
def test_refusal_names_volumes_if_region_has_cinder(check: bool) -> None:
    query = {"all_tenants": "1", "project_id": "p1"}
    volumes = Call(
        "GET", "block-storage", "/volumes/detail", {"volumes": [{"id": "b1", "name": "data"}, {"id": "b2", "name": ""}]}, query=query
    )
    with replay(DOMAIN, PROJECT, *copy.deepcopy(EMPTY[:-1]), volumes, EMPTY[-1], volumes=True):
        result = run({"state": "absent", "project": {"name": "site"}}, check)
    assert result.failed and result.data["failure"]["details"]["holdings"] == ["volume data", "volume b2"]


@pytest.mark.parametrize("check", [False, True])
def test_network_or_group_used_by_others_removes_nothing(check: bool) -> None:
    """Its key pair neither, which nobody uses; the port of our own router does not block it."""
    group = {"id": "g1", "name": "workers", "description": "[distcloud]", "security_group_rules": []}
    ours = {"id": "a5", "device_owner": "network:router_interface", "device_id": "q1"}
    in_group = {"id": "a6", "name": "their-port", "device_owner": "compute:nova", "device_id": "v9", "security_groups": ["g1"]}
    spec = {
        "networks": [NET_SPEC],
        "routers": [{"name": "out", "external_network": "public", "subnets": ["sub"]}],
        "security_groups": [{"name": "workers"}],
        "key_pairs": [{"name": "site", "public_key": "any key"}],
    }
    with replay(
        listed("/networks", "networks", NETWORK),
        listed("/routers", "routers", {"id": "q1", "name": "out", "description": "[distcloud]"}),
        listed("/security-groups", "security_groups", group),
        Call("GET", "network", "/ports", {"ports": [DHCP_PORT, ours, ELSEWHERE]}, query={"network_id": "n1"}),
        Call("GET", "network", "/ports", {"ports": [ours, ELSEWHERE, in_group]}, query={}),
    ):
        result = run({"state": "absent", **spec}, check)
    assert result.failed and not result.changed and result.data["failure"]["code"] == "not_empty"
    assert result.data["failure"]["details"]["holdings"] == ["port a4 (compute:nova)", "port their-port (compute:nova)"]
    assert "distcloud scheduler vms" in result.data["msg"]


EMPTY = [
    Call("GET", "compute", "/servers/detail", {"servers": []}),
    listed("/networks", "networks"),
    listed("/routers", "routers"),
    listed("/security-groups", "security_groups"),
    listed("/floatingips", "floatingips"),
    listed("/ports", "ports"),
    Call("GET", "image", "/images", {"images": []}),
]


@pytest.mark.parametrize("check,diff", MODES)
def test_empty_project_is_removed_with_quotas(check: bool, diff: bool) -> None:
    writes = [
        Call("DELETE", "compute", "/os-quota-sets/p1", status=202),
        Call("DELETE", "network", "/quotas/p1", status=204),
        listed("/security-groups", "security_groups", {"id": "d1", "name": "default"}),
        Call("DELETE", "network", "/security-groups/d1", status=204),
        Call("DELETE", "identity", "/projects/p1", status=204),
    ]
    with replay(DOMAIN, PROJECT, *copy.deepcopy(EMPTY), *([] if check else writes)):
        result = run({"state": "absent", "project": {"name": "site"}, "quotas": {"compute": {"cores": 1}}}, check, diff)
    assert result.changed, result.raw


@pytest.mark.parametrize("check", [False, True])
def test_only_the_images_of_the_site_are_removed(check: bool) -> None:
    ours = {"id": "i1", "name": "worker", "distcloud_owner": "site-x"}
    query = {"owner": "project-1", "distcloud_owner": "site-x"}
    reads = [Call("GET", "image", "/images", {"images": [ours, {"id": "i2", "name": "theirs"}]}, query=query)]
    with replay(*reads, *([] if check else [Call("DELETE", "image", "/images/i1", status=204)])):
        result = run({"state": "absent", "images_of": "site-x"}, check, diff=True)
    assert result.changed and "theirs" not in result.raw
    with replay():
        assert not run({"images_of": "site-x"}).changed


def test_flavor_with_different_size_is_refused() -> None:
    with replay(DOMAIN, PROJECT, listed("/flavors/detail", "flavors", {**FLAVOR, "ram": 1024}, service="compute")):
        result = run({"project": {"name": "site"}, "flavors": [FLAVOR_SPEC]})
    assert result.failed and result.data["failure"]["details"]["fields"] == ["ram"]


def test_error_names_network_in_use() -> None:
    with replay(
        listed("/networks", "networks", NETWORK),
        listed("/ports", "ports"),
        listed("/networks", "networks", NETWORK),
        listed("/subnets", "subnets", SUBNET),
        Call("DELETE", "network", "/networks/n1", {"NeutronError": {"message": "ports still in use"}}, 409),
    ):
        result = run({"state": "absent", "networks": [NET_SPEC]})
    assert result.failed and "ports still in use" in result.data["msg"] and "retire" in result.data["msg"]


def test_pages_of_a_listing_are_followed() -> None:
    with replay(
        Call(
            "GET",
            "network",
            "/networks",
            {"networks": [], "networks_links": [{"rel": "next", "href": "http://elsewhere/v2.0/networks?marker=m1&limit=1"}]},
        ),
        Call("GET", "network", "/networks", {"networks": [NETWORK]}, query={"name": "net", "marker": "m1", "limit": "1"}),
        listed("/subnets", "subnets", SUBNET),
    ):
        assert not run({"networks": [NET_SPEC]}).changed


@pytest.mark.parametrize(("check", "pending"), [(False, False), (True, False), (False, True)])
def test_refused_login_fails_in_check_mode_too(check: bool, pending: bool) -> None:
    with replay(login=401):
        result = run({"networks": [NET_SPEC]}, check, login_pending=pending)
    assert result.failed and result.data["failure"]["code"] == 401 and not result.changed
    assert "the-accounts-password" not in result.raw


def test_account_not_created_yet_means_empty_region() -> None:
    with replay(login=401):
        result = run({"networks": [NET_SPEC]}, check=True, login_pending=True)
    assert result.changed and "check mode assumes" in result.raw
    assert "the-accounts-password" not in result.raw


@pytest.mark.parametrize("check", [False, True])
def test_missing_entry_fails_except_in_check_mode(check: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clouds.yaml").write_text("clouds: {}\n")
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
    with replay():
        result = run({"cloud": "new", "auth": None, "region_name": None, "networks": [NET_SPEC]}, check)
    assert (result.changed, result.failed) == (check, not check)
    assert "check mode assumes" in result.raw if check else result.data["failure"]["code"] == "unknown_cloud"


def test_service_missing_in_the_catalog_is_reported() -> None:
    with replay():
        result = run({"networks": [NET_SPEC]}, region_name="elsewhere")
    assert result.failed and result.data["failure"]["code"] == "no_endpoint"
    assert "the catalog has no network service in region elsewhere; check region_name and interface" in result.data["msg"]


BAD: dict[str, tuple[dict[str, t.Any], str]] = {
    "cidr": ({"networks": [{"name": "n", "subnets": [{"name": "s", "cidr": "10.0.0.0/33"}]}]}, "networks[0].subnets[0].cidr"),
    "gateway": (
        {"networks": [{"name": "n", "subnets": [{"name": "s", "cidr": "10.0.0.0/24", "gateway_ip": "10.1.0.1"}]}]},
        "networks[0].subnets[0].gateway_ip",
    ),
    "pool": (
        {
            "networks": [
                {
                    "name": "n",
                    "subnets": [{"name": "s", "cidr": "10.0.0.0/24", "allocation_pools": [{"start": "10.0.0.9", "end": "10.0.0.3"}]}],
                }
            ]
        },
        "networks[0].subnets[0].allocation_pools[0].end",
    ),
    "ports": ({"security_groups": [{"name": "g", "rules": [{"port_min": 22}]}]}, "security_groups[0].rules[0].protocol"),
    "port": (
        {"security_groups": [{"name": "g", "rules": [{"protocol": "tcp", "port_min": 70000}]}]},
        "security_groups[0].rules[0].port_min",
    ),
    "flavor": ({"project": {"name": "p"}, "flavors": [{**FLAVOR_SPEC, "vcpus": 0}]}, "flavors[0].vcpus"),
    "twice": ({"networks": [{"name": "n"}, {"name": "n"}]}, "networks[1].name"),
    "key": ({"key_pairs": [{"name": "k", "public_key": "nokey"}]}, "key_pairs[0].public_key"),
    "quota": ({"project": {"name": "p"}, "quotas": {"compute": {"cores": "many"}}}, "quotas.compute.cores"),
    "quota yes": ({"project": {"name": "p"}, "quotas": {"network": {"port": True}}}, "quotas.network.port"),
    "no project": ({"users": [{"name": "u"}]}, "users"),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_field_is_named_before_any_request(case: str) -> None:
    spec, field = BAD[case]
    with replay() as region:
        result = run(spec)
    assert result.failed and result.data["failure"]["details"]["field"] == field
    assert field in result.data["msg"] and not region.seen


def test_error_names_unknown_quota() -> None:
    with replay(DOMAIN, PROJECT, Call("GET", "compute", "/os-quota-sets/p1", {"quota_set": {"cores": 1}})):
        result = run({"project": {"name": "site"}, "quotas": {"compute": {"coers": 1}}})
    assert result.failed and "coers" in result.data["msg"] and "cores" in result.data["msg"]


@pytest.mark.parametrize("check", [False, True])
def test_quotas_given_as_strings_compare_as_numbers(check: bool) -> None:
    with replay(DOMAIN, PROJECT, Call("GET", "compute", "/os-quota-sets/p1", {"quota_set": {"cores": 8, "instances": -1}})):
        result = run({"project": {"name": "site"}, "quotas": {"compute": {"cores": "8", "instances": "-1", "ram": None}}}, check)
    assert not result.changed and not result.failed, result.raw
