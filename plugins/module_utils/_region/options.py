# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that describe a region's resources.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import typing as t

NAME = {"type": "str", "required": True}
TEXT = {"type": "str", "default": ""}
FLAG = {"type": "bool"}
OFF = {"type": "bool", "default": False}
STRING = {"type": "str"}
STRINGS = {"type": "list", "elements": "str"}


def listed(options: dict[str, t.Any], **more: t.Any) -> dict[str, t.Any]:
    return dict({"type": "list", "elements": "dict", "options": options}, **more)


def flavor_options() -> dict[str, t.Any]:
    size = {"type": "int", "required": True}
    return {"name": NAME, "vcpus": size, "ram": size, "disk": size, "public": OFF, "extra_specs": {"type": "dict"}, "description": TEXT}


def network_options() -> dict[str, t.Any]:
    pool = {"start": NAME, "end": NAME}
    subnet = {
        "name": NAME,
        "cidr": NAME,
        "gateway_ip": STRING,
        "enable_dhcp": FLAG,
        "allocation_pools": listed(pool),
        "dns_nameservers": STRINGS,
        "description": TEXT,
    }
    return {
        "name": NAME,
        "existing": OFF,
        "description": TEXT,
        "shared": FLAG,
        "mtu": {"type": "int"},
        "port_security_enabled": FLAG,
        "provider": {"type": "dict", "options": {"type": STRING, "physical_network": STRING, "segmentation_id": {"type": "int"}}},
        "subnets": listed(subnet, default=[]),
    }


def quota_options() -> dict[str, t.Any]:
    return {"type": "dict", "options": {"compute": {"type": "dict"}, "network": {"type": "dict"}}}


def resource_options() -> dict[str, t.Any]:
    """Every kind of resource that a region can have."""
    user = {
        "name": NAME,
        "domain": STRING,
        "description": TEXT,
        "password": {"type": "str", "no_log": True},
        "password_file": {"type": "path", "no_log": False},
        "roles": dict(STRINGS, default=["member"]),
        "existing": OFF,
    }
    rule = {
        "direction": {"type": "str", "choices": ["ingress", "egress"], "default": "ingress"},
        "ethertype": {"type": "str", "choices": ["IPv4", "IPv6"], "default": "IPv4"},
        "protocol": STRING,
        "port_min": {"type": "int"},
        "port_max": {"type": "int"},
        "remote_ip_prefix": STRING,
    }
    return {
        "project": {
            "type": "dict",
            "options": {"name": NAME, "domain": {"type": "str", "default": "Default"}, "description": TEXT, "existing": OFF},
        },
        "users": listed(user),
        "quotas": quota_options(),
        "flavors": listed(flavor_options()),
        "networks": listed(network_options()),
        "routers": listed({"name": NAME, "external_network": NAME, "subnets": dict(STRINGS, required=True), "description": TEXT}),
        "security_groups": listed(
            {"name": NAME, "description": TEXT, "egress": {"type": "bool", "default": True}, "rules": listed(rule, default=[])}
        ),
        "key_pairs": listed({"name": NAME, "public_key": {"type": "str", "required": True, "no_log": False}}, no_log=False),
    }
