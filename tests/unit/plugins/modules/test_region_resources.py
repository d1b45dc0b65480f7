# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module region_resources on replayed HTTP: every kind created, unchanged, changed and removed, in normal, check and diff mode."""

from __future__ import annotations

import copy
import typing as t

import pytest
from region_replay import Call, replay
from region_world import (
    DOMAIN,
    EGRESS,
    FLAVOR,
    FLAVOR_SPEC,
    GROUP_SPEC,
    KEY,
    MODES,
    NET_SPEC,
    NETWORK,
    NO_PROJECT,
    PASSWORD,
    PROJECT,
    SITE,
    SSH,
    SUBNET,
    USER,
    USERS,
    listed,
    run,
    user_calls,
)

OWN_NETWORK = listed("/networks", "networks", NETWORK)
OWN_GROUP = listed(
    "/security-groups", "security_groups", {"id": "g1", "name": "workers", "description": "[distcloud]", "security_group_rules": EGRESS}
)
GROUP = {"id": "g1", "name": "workers", "description": "[distcloud]", "security_group_rules": [SSH, *EGRESS]}
ROUTER = {"id": "q1", "name": "out", "description": "[distcloud]", "external_gateway_info": {"network_id": "x1"}}
# The calls that read a router between sub and public.
ROUTER_READS = [
    listed("/routers", "routers", ROUTER),
    listed("/ports", "ports", {"device_owner": "network:router_interface", "fixed_ips": [{"subnet_id": "s1"}]}),
    listed("/subnets", "subnets", SUBNET),
    Call("GET", "network", "/networks/x1", {"network": {"name": "public"}}),
]
# Our resources in a foreign project can be removed without the project.
THEIRS = {"state": "absent", "project": {"name": "site", "existing": True}}
OWN_FLAVOR = listed("/flavors/detail", "flavors", {**FLAVOR, "os-flavor-access:is_public": False}, service="compute")
DHCP_PORT = {"id": "d1", "device_owner": "network:dhcp", "device_id": "dhcp-host"}
# Calls that read, calls that change, the spec, and the state: one line per case, run in all modes.
CASES: dict[str, tuple[dict[str, t.Any], list[Call], list[Call]]] = {
    "project created": (
        {"project": {"name": "site", "description": "ours"}},
        [DOMAIN, NO_PROJECT],
        [
            Call(
                "POST",
                "identity",
                "/projects",
                {"project": SITE},
                201,
                {"project": {"name": "site", "description": "ours [distcloud]", "enabled": True, "domain_id": "default"}},
            )
        ],
    ),
    "project updated": (
        {"project": {"name": "site", "description": "other"}},
        [DOMAIN, PROJECT],
        [Call("PATCH", "identity", "/projects/p1", {"project": SITE}, body={"project": {"description": "other [distcloud]"}})],
    ),
    "user created": (
        USERS,
        [DOMAIN, PROJECT, Call("GET", "identity", "/users", {"users": []}, query={"name": "site", "domain_id": "default"})],
        [
            Call(
                "POST",
                "identity",
                "/users",
                {"user": USER},
                201,
                {"user": {"name": "site", "description": "[distcloud]", "enabled": True, "password": PASSWORD, "domain_id": "default"}},
            ),
            Call("GET", "identity", "/roles", {"roles": [{"id": "m1", "name": "member"}]}, query={"name": "member"}),
            Call("PUT", "identity", "/projects/p1/users/u1/roles/m1", status=204),
            Call("GET", "identity", "/role_assignments", {"role_assignments": []}),
        ],
    ),
    "user updated": (
        {"project": {"name": "site"}, "users": [{"name": "site", "description": "new", "roles": ["reader"]}]},
        [DOMAIN, PROJECT, *user_calls(["member"], None)],
        [
            Call("PATCH", "identity", "/users/u1", {"user": USER}, body={"user": {"description": "new [distcloud]"}}),
            Call("GET", "identity", "/roles", {"roles": [{"id": "r1", "name": "reader"}]}, query={"name": "reader"}),
            Call("PUT", "identity", "/projects/p1/users/u1/roles/r1", status=204),
            Call("GET", "identity", "/roles", {"roles": [{"id": "m1", "name": "member"}]}, query={"name": "member"}),
            Call("DELETE", "identity", "/projects/p1/users/u1/roles/m1", status=204),
            Call("GET", "identity", "/role_assignments", {"role_assignments": []}),
        ],
    ),
    # A disabled user cannot log in to check its password, so the password is set together with the other change.
    "user that somebody disabled": (
        USERS,
        [DOMAIN, PROJECT, *user_calls(["member"], None, enabled=False)],
        [
            Call("PATCH", "identity", "/users/u1", {"user": USER}, body={"user": {"enabled": True, "password": PASSWORD}}),
            Call("GET", "identity", "/role_assignments", {"role_assignments": []}),
        ],
    ),
    "flavor created": (
        {"project": {"name": "site"}, "flavors": [{**FLAVOR_SPEC, "public": False, "extra_specs": {"a": 1}}]},
        [DOMAIN, PROJECT, listed("/flavors/detail", "flavors", service="compute")],
        [
            Call("POST", "compute", "/flavors", {"flavor": {"id": "f2"}}),
            Call("POST", "compute", "/flavors/f2/os-extra_specs", {}, body={"extra_specs": {"a": "1"}}),
            Call("POST", "compute", "/flavors/f2/action", {}, body={"addTenantAccess": {"tenant": "p1"}}),
        ],
    ),
    "flavor updated": (
        {"project": {"name": "site"}, "flavors": [{**FLAVOR_SPEC, "description": "new", "extra_specs": {}}]},
        [DOMAIN, PROJECT, listed("/flavors/detail", "flavors", {**FLAVOR, "extra_specs": {"old": "1"}}, service="compute")],
        [
            Call("PUT", "compute", "/flavors/f1", {}, body={"flavor": {"description": "new [distcloud]"}}),
            Call("DELETE", "compute", "/flavors/f1/os-extra_specs/old", status=200),
        ],
    ),
    "flavor that the project may not use": (
        {"project": {"name": "site"}, "flavors": [{**FLAVOR_SPEC, "public": False}]},
        [DOMAIN, PROJECT, OWN_FLAVOR, Call("GET", "compute", "/flavors/f1/os-flavor-access", {"flavor_access": [{"tenant_id": "p2"}]})],
        [Call("POST", "compute", "/flavors/f1/action", {}, body={"addTenantAccess": {"tenant": "p1"}})],
    ),
    "quota updated": (
        {"project": {"name": "site"}, "quotas": {"compute": {"cores": 4, "instances": 10}, "network": {"port": 20}}},
        [
            DOMAIN,
            PROJECT,
            Call("GET", "compute", "/os-quota-sets/p1", {"quota_set": {"cores": 20, "instances": 10}}),
            Call("GET", "network", "/quotas/p1", {"quota": {"port": 500}}),
        ],
        [
            Call("PUT", "compute", "/os-quota-sets/p1", {}, body={"quota_set": {"cores": 4}}),
            Call("PUT", "network", "/quotas/p1", {}, body={"quota": {"port": 20}}),
        ],
    ),
    "network created": (
        {"networks": [NET_SPEC]},
        [listed("/networks", "networks")],
        [
            Call("POST", "network", "/networks", {"network": NETWORK}, 201, {"network": {"name": "net", "description": "[distcloud]"}}),
            Call("POST", "network", "/subnets", {"subnet": SUBNET}, 201),
            Call("GET", "network", "/networks/n1", {"network": NETWORK}),
            listed("/subnets", "subnets", SUBNET),
        ],
    ),
    "network updated": (
        {"networks": [{**NET_SPEC, "description": "ours", "shared": False, "mtu": 1400, "port_security_enabled": False}]},
        [OWN_NETWORK, listed("/subnets", "subnets", SUBNET)],
        [
            Call(
                "PUT",
                "network",
                "/networks/n1",
                {},
                body={"network": {"description": "ours [distcloud]", "mtu": 1400, "port_security_enabled": False}},
            ),
            Call("GET", "network", "/networks/n1", {"network": NETWORK}),
            listed("/subnets", "subnets", SUBNET),
        ],
    ),
    "subnet added": (
        {"networks": [{"name": "net", "subnets": [*NET_SPEC["subnets"], {"name": "six", "cidr": "fd00::/64"}]}]},
        [OWN_NETWORK, listed("/subnets", "subnets", SUBNET)],
        [
            Call(
                "POST",
                "network",
                "/subnets",
                {},
                201,
                {"subnet": {"name": "six", "network_id": "n1", "cidr": "fd00::/64", "ip_version": 6, "description": "[distcloud]"}},
            ),
            Call("GET", "network", "/networks/n1", {"network": NETWORK}),
            listed("/subnets", "subnets", SUBNET),
        ],
    ),
    "subnet updated": (
        {"networks": [{"name": "net", "subnets": [{"name": "sub", "cidr": "10.1.0.0/24", "enable_dhcp": True}]}]},
        [listed("/networks", "networks", NETWORK), listed("/subnets", "subnets", SUBNET)],
        [
            Call("PUT", "network", "/subnets/s1", {}, body={"subnet": {"enable_dhcp": True}}),
            Call("GET", "network", "/networks/n1", {"network": NETWORK}),
            listed("/subnets", "subnets", SUBNET),
        ],
    ),
    "security group created": (
        {"security_groups": [GROUP_SPEC]},
        [listed("/security-groups", "security_groups")],
        [
            Call("POST", "network", "/security-groups", {"security_group": {"id": "g1", "security_group_rules": EGRESS}}, 201),
            Call("POST", "network", "/security-group-rules", {}, 201, {"security_group_rules": [{**SSH, "security_group_id": "g1"}]}),
        ],
    ),
    "security group's description updated": (
        {"security_groups": [{**GROUP_SPEC, "description": "ours"}]},
        [listed("/security-groups", "security_groups", GROUP)],
        [
            Call("PUT", "network", "/security-groups/g1", {}, body={"security_group": {"description": "ours [distcloud]"}}),
            Call("GET", "network", "/security-groups/g1", {"security_group": GROUP}),
        ],
    ),
    "a rule that somebody took away": (
        {"security_groups": [GROUP_SPEC]},
        [OWN_GROUP],
        [
            Call("GET", "network", "/security-groups/g1", {"security_group": {"id": "g1", "security_group_rules": EGRESS}}),
            Call("POST", "network", "/security-group-rules", {}, 201, {"security_group_rules": [{**SSH, "security_group_id": "g1"}]}),
        ],
    ),
    "a rule too many taken away": (
        {"security_groups": [GROUP_SPEC]},
        [
            listed(
                "/security-groups",
                "security_groups",
                {
                    "id": "g1",
                    "name": "workers",
                    "description": "[distcloud]",
                    "security_group_rules": [*EGRESS, SSH, {**SSH, "id": "r9", "port_range_max": 99}],
                },
            )
        ],
        [
            Call(
                "GET",
                "network",
                "/security-groups/g1",
                {"security_group": {"id": "g1", "security_group_rules": [*EGRESS, SSH, {**SSH, "id": "r9", "port_range_max": 99}]}},
            ),
            Call("DELETE", "network", "/security-group-rules/r9", status=204),
        ],
    ),
    "key pair created": (
        {"key_pairs": [{"name": "site", "public_key": KEY}]},
        [Call("GET", "compute", "/os-keypairs/site", status=404)],
        [
            Call(
                "POST", "compute", "/os-keypairs", {}, body={"keypair": {"name": "site", "type": "ssh", "public_key": KEY + " [distcloud]"}}
            )
        ],
    ),
    "key pair replaced": (
        {"key_pairs": [{"name": "site", "public_key": KEY}]},
        [Call("GET", "compute", "/os-keypairs/site", {"keypair": {"name": "site", "public_key": "ssh-ed25519 OLD site [distcloud]"}})],
        [Call("DELETE", "compute", "/os-keypairs/site", status=202), Call("POST", "compute", "/os-keypairs", {})],
    ),
    "router created": (
        {"routers": [{"name": "out", "external_network": "public", "subnets": ["sub"]}]},
        [listed("/routers", "routers")],
        [
            listed("/networks", "networks", {"id": "x1", "name": "public"}),
            Call("POST", "network", "/routers", {"router": {"id": "q1"}}, 201),
            listed("/subnets", "subnets", SUBNET),
            Call("PUT", "network", "/routers/q1/add_router_interface", {}, body={"subnet_id": "s1"}),
        ],
    ),
    "router updated": (
        {"routers": [{"name": "out", "description": "ours", "external_network": "other", "subnets": ["two"]}]},
        ROUTER_READS,
        [
            Call("GET", "network", "/networks", {"networks": [{"id": "x2", "name": "other"}]}, query={"name": "other"}),
            Call(
                "PUT",
                "network",
                "/routers/q1",
                {},
                body={"router": {"description": "ours [distcloud]", "external_gateway_info": {"network_id": "x2"}}},
            ),
            Call("GET", "network", "/subnets", {"subnets": [SUBNET]}, query={"name": "sub"}),
            Call("PUT", "network", "/routers/q1/remove_router_interface", {}, body={"subnet_id": "s1"}),
            Call("GET", "network", "/subnets", {"subnets": [{**SUBNET, "id": "s2", "name": "two"}]}, query={"name": "two"}),
            Call("PUT", "network", "/routers/q1/add_router_interface", {}, body={"subnet_id": "s2"}),
        ],
    ),
    "user deleted": (
        {**THEIRS, "users": USERS["users"]},
        [DOMAIN, *user_calls(["member"], None)[:1], PROJECT, *user_calls(["member"], None)[1:]],
        [Call("DELETE", "identity", "/users/u1", status=204)],
    ),
    "flavor deleted": (
        {**THEIRS, "flavors": [{**FLAVOR_SPEC, "public": False}]},
        [OWN_FLAVOR, DOMAIN, PROJECT, Call("GET", "compute", "/flavors/f1/os-flavor-access", {"flavor_access": []})],
        [Call("DELETE", "compute", "/flavors/f1", status=202)],
    ),
    "network deleted": (
        {"state": "absent", "networks": [NET_SPEC]},
        [OWN_NETWORK, listed("/ports", "ports", DHCP_PORT), OWN_NETWORK, listed("/subnets", "subnets", SUBNET)],
        [Call("DELETE", "network", "/networks/n1", status=204)],
    ),
    "security group deleted": (
        {"state": "absent", "security_groups": [{"name": "workers"}]},
        [OWN_GROUP, listed("/ports", "ports", {"id": "x", "device_owner": "compute:nova", "security_groups": ["g2"]}), OWN_GROUP],
        [Call("DELETE", "network", "/security-groups/g1", status=204)],
    ),
    "key pair deleted": (
        {"state": "absent", "key_pairs": [{"name": "site", "public_key": KEY}]},
        [Call("GET", "compute", "/os-keypairs/site", {"keypair": {"name": "site", "public_key": KEY + " [distcloud]"}})],
        [Call("DELETE", "compute", "/os-keypairs/site", status=202)],
    ),
    "router deleted": (
        {"state": "absent", "routers": [{"name": "out", "external_network": "public", "subnets": ["sub"]}]},
        [
            listed("/routers", "routers", ROUTER),
            *ROUTER_READS,
        ],
        [
            listed("/subnets", "subnets", SUBNET),
            Call("PUT", "network", "/routers/q1/remove_router_interface", {}, body={"subnet_id": "s1"}),
            Call("DELETE", "network", "/routers/q1", status=204),
        ],
    ),
}


@pytest.mark.parametrize("check,diff", MODES)
@pytest.mark.parametrize("case", CASES)
def test_changes(case: str, check: bool, diff: bool) -> None:
    spec, reads, writes = CASES[case]
    with replay(*reads, *([] if check else writes)):
        result = run(spec, check, diff)
    assert result.changed and not result.failed, result.raw
    assert all(set(entry) >= {"before", "after"} for entry in result.data["diff"])
    assert PASSWORD not in result.raw


UNCHANGED: dict[str, tuple[dict[str, t.Any], list[Call]]] = {
    "project": ({"project": {"name": "site"}}, [DOMAIN, PROJECT]),
    "existing project of others": (
        {"project": {"name": "site", "existing": True}},
        [DOMAIN, Call("GET", "identity", "/projects", {"projects": [{**SITE, "description": "theirs"}]})],
    ),
    "user": (USERS, [DOMAIN, PROJECT, *user_calls(["member"])]),
    "user without a password": (
        {"project": {"name": "site"}, "users": [{"name": "site"}]},
        [DOMAIN, PROJECT, *user_calls(["member"], None)],
    ),
    "existing user of others with more roles": (
        {"project": {"name": "site"}, "users": [{"name": "site", "existing": True}]},
        [DOMAIN, PROJECT, *user_calls(["admin", "member"], None)],
    ),
    "flavor": (
        {"project": {"name": "site"}, "flavors": [FLAVOR_SPEC]},
        [DOMAIN, PROJECT, listed("/flavors/detail", "flavors", FLAVOR, service="compute")],
    ),
    "network": ({"networks": [NET_SPEC]}, [listed("/networks", "networks", NETWORK), listed("/subnets", "subnets", SUBNET)]),
    "existing network of others": (
        {"networks": [{"name": "net", "existing": True}]},
        [listed("/networks", "networks", {**NETWORK, "description": "", "subnets": []})],
    ),
    "security group": ({"security_groups": [GROUP_SPEC]}, [listed("/security-groups", "security_groups", GROUP)]),
    "key pair": (
        {"key_pairs": [{"name": "site", "public_key": KEY}]},
        [Call("GET", "compute", "/os-keypairs/site", {"keypair": {"name": "site", "public_key": KEY + " [distcloud]\n"}})],
    ),
    "no user to remove": ({**THEIRS, "users": USERS["users"]}, [DOMAIN, Call("GET", "identity", "/users", {"users": []}), PROJECT]),
    "no flavor to remove": (
        {**THEIRS, "flavors": [FLAVOR_SPEC]},
        [listed("/flavors/detail", "flavors", service="compute"), DOMAIN, PROJECT],
    ),
    "nothing to remove": ({"state": "absent", "networks": [NET_SPEC]}, [listed("/networks", "networks")] * 2),
}


@pytest.mark.parametrize("check,diff", MODES)
@pytest.mark.parametrize("case", UNCHANGED)
def test_no_change(case: str, check: bool, diff: bool) -> None:
    spec, reads = UNCHANGED[case]
    with replay(*reads):
        result = run(spec, check, diff)
    assert not result.changed and not result.failed, result.raw
    assert "diff" not in result.data


@pytest.mark.parametrize("check,diff", MODES)
@pytest.mark.parametrize("owner", ["router_interface", "router_interface_distributed", "ha_router_replicated_interface"])
def test_router_with_its_subnet_is_unchanged(owner: str, check: bool, diff: bool) -> None:
    ports = [
        {"device_owner": "network:" + owner, "fixed_ips": [{"subnet_id": "s1"}]},
        {"device_owner": "network:router_gateway", "fixed_ips": [{"subnet_id": "x2"}]},
    ]
    found = {"id": "q1", "name": "out", "description": "[distcloud]", "external_gateway_info": {"network_id": "x1"}}
    calls = [
        listed("/routers", "routers", found),
        Call("GET", "network", "/ports", {"ports": ports}, query={"device_id": "q1"}),
        listed("/subnets", "subnets", SUBNET, {**SUBNET, "id": "x2", "name": "outer"}),
        Call("GET", "network", "/networks/x1", {"network": {"name": "public"}}),
    ]
    with replay(*calls):
        result = run({"routers": [{"name": "out", "external_network": "public", "subnets": ["sub"]}]}, check, diff)
    assert not result.changed and not result.failed, result.raw


FOREIGN: dict[str, tuple[dict[str, t.Any], list[Call]]] = {
    "network": ({"networks": [NET_SPEC]}, [listed("/networks", "networks", {**NETWORK, "description": "theirs"})]),
    "security group": (
        {"security_groups": [GROUP_SPEC]},
        [listed("/security-groups", "security_groups", {"id": "g1", "name": "workers", "description": "", "security_group_rules": []})],
    ),
    "key pair": (
        {"key_pairs": [{"name": "site", "public_key": KEY}]},
        [Call("GET", "compute", "/os-keypairs/site", {"keypair": {"name": "site", "public_key": KEY}})],
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_resource_is_refused_and_never_removed(case: str) -> None:
    spec, reads = FOREIGN[case]
    with replay(*copy.deepcopy(reads)):
        result = run(spec)
    assert result.failed and result.data["failure"]["code"] == "foreign"
    assert "existing: true" in result.data["msg"]
    # Networks and groups are read twice: for what depends on them, and for the plan.
    with replay(*copy.deepcopy(reads if "key_pairs" in spec else reads * 2)):
        result = run(spec, state="absent")
    assert not result.failed and not result.changed
    assert "not removed" in result.raw
