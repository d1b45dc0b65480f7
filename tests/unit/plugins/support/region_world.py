# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The region that the tests of region_resources replay: its resources, the specs, and helpers that run them."""

from __future__ import annotations

import copy
import typing as t

from ansible_collections.hep.distcloud.plugins.modules.region_resources import RegionResources
from module_harness import Result, run_module
from region_replay import LOGIN, Call

SITE = {"id": "p1", "name": "site", "description": "[distcloud]", "enabled": True}
DOMAIN = Call("GET", "identity", "/domains", {"domains": [{"id": "default", "name": "Default"}]}, query={"name": "Default"})
PROJECT = Call("GET", "identity", "/projects", {"projects": [SITE]}, query={"name": "site", "domain_id": "default"})
NO_PROJECT = Call("GET", "identity", "/projects", {"projects": []})
EGRESS = [
    {"id": f"r{number}", "direction": "egress", "ethertype": kind, "protocol": None, "remote_ip_prefix": None}
    for number, kind in ((4, "IPv4"), (6, "IPv6"))
]
SSH = {
    "direction": "ingress",
    "ethertype": "IPv4",
    "protocol": "tcp",
    "port_range_min": 22,
    "port_range_max": 22,
    "remote_ip_prefix": "192.0.2.0/24",
}
GROUP_SPEC = {"name": "workers", "rules": [{"protocol": "tcp", "port_min": 22, "remote_ip_prefix": "192.0.2.0/24"}]}
NET_SPEC = {"name": "net", "subnets": [{"name": "sub", "cidr": "10.1.0.0/24", "enable_dhcp": False}]}
NETWORK = {
    "id": "n1",
    "name": "net",
    "description": "[distcloud]",
    "shared": False,
    "mtu": 1450,
    "port_security_enabled": True,
    "subnets": ["s1"],
}
SUBNET = {
    "id": "s1",
    "name": "sub",
    "description": "[distcloud]",
    "cidr": "10.1.0.0/24",
    "ip_version": 4,
    "gateway_ip": "10.1.0.1",
    "enable_dhcp": False,
    "allocation_pools": [{"start": "10.1.0.2", "end": "10.1.0.254"}],
    "dns_nameservers": [],
}
FLAVOR = {
    "id": "f1",
    "name": "small",
    "vcpus": 1,
    "ram": 512,
    "disk": 4,
    "os-flavor-access:is_public": True,
    "description": "[distcloud]",
    "extra_specs": {},
}
FLAVOR_SPEC = {"name": "small", "vcpus": 1, "ram": 512, "disk": 4, "public": True}
PASSWORD = "the-new-users-password"
USER = {"id": "u1", "name": "site", "description": "[distcloud]", "enabled": True}
USERS = {"project": {"name": "site"}, "users": [{"name": "site", "password": PASSWORD}]}
KEY = "ssh-ed25519 AAAAC3Nz site"
MODES = [(False, False), (True, False), (False, True), (True, True)]


def run(spec: dict[str, t.Any], check: bool = False, diff: bool = False, **more: t.Any) -> Result:
    return run_module(RegionResources, {**copy.deepcopy(LOGIN), **copy.deepcopy(spec), **more}, check=check, diff=diff)


def listed(path: str, key: str, *entries: dict[str, t.Any], service: str = "network") -> Call:
    return Call("GET", service, path, {key: list(entries)})


def user_calls(roles: list[str], password: int | None = 201, enabled: bool = True) -> list[Call]:
    """Calls that look up a user with these roles, and the result of a login with the desired password (None: no login)."""
    assignments = [{"role": {"name": role, "id": role}, "scope": {"project": {"id": "p1"}}} for role in roles]
    calls = [
        Call("GET", "identity", "/users", {"users": [{**USER, "enabled": enabled}]}),
        Call("GET", "identity", "/role_assignments", {"role_assignments": assignments}),
    ]
    return calls if password is None else [*calls, Call("POST", "identity", "/auth/tokens", {"token": {}}, password)]
