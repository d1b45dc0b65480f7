# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a region's resources are like, as pure functions: whose they are, what is a sensible wish, what is missing.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

from .._core.module import Failure

SERVICE = "openstack"


def describe(text: t.Optional[str], mark: str) -> str:
    """A description that says whose the resource is: written in the creating request, so that no crash can part the two."""
    return ("%s [%s]" % (text or "", mark)).strip()


def is_ours(description: t.Optional[str], mark: str) -> bool:
    """Whether a description carries our mark."""
    return ("[%s]" % mark) in (description or "")


def foreign(kind: str, name: str, mark: str) -> Failure:
    """What is said when a resource of the wished name is there already and belongs to somebody else."""
    return Failure(
        "%s %s exists and is not ours: its description lacks [%s]. Choose another name, say existing: true where it is to be used "
        "as it is, or hand it over by adding the mark to its description" % (kind, name, mark),
        SERVICE,
        "foreign",
        {"kind": kind, "name": name},
    )


def bad(field: str, value: t.Any, expected: str) -> Failure:
    """What is said about an option that cannot be meant: the field, what was given, what was expected."""
    return Failure("%s is %r: %s" % (field, value, expected), "options", "invalid", {"field": field, "expected": expected})


def network_of(field: str, value: str) -> t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]:
    try:
        return ipaddress.ip_network(value)
    except ValueError as error:
        raise bad(field, value, "expected a network such as 10.203.0.0/24 (%s)" % error)


def address_of(field: str, value: str) -> t.Union[ipaddress.IPv4Address, ipaddress.IPv6Address]:
    try:
        return ipaddress.ip_address(value)
    except ValueError as error:
        raise bad(field, value, "expected an address such as 10.203.0.1 (%s)" % error)


def check_subnet(field: str, subnet: dict[str, t.Any]) -> None:
    """Refuse a subnet whose addresses do not fit together."""
    cidr = network_of(field + ".cidr", subnet["cidr"])
    if subnet.get("gateway_ip") and address_of(field + ".gateway_ip", subnet["gateway_ip"]) not in cidr:
        raise bad(field + ".gateway_ip", subnet["gateway_ip"], "expected an address inside %s" % cidr)
    for index, pool in enumerate(subnet.get("allocation_pools") or []):
        place = "%s.allocation_pools[%d]" % (field, index)
        start, end = (address_of("%s.%s" % (place, key), pool[key]) for key in ("start", "end"))
        for key, address in (("start", start), ("end", end)):
            if address not in cidr:
                raise bad("%s.%s" % (place, key), str(address), "expected an address inside %s" % cidr)
        if int(start) > int(end):
            raise bad(place + ".end", str(end), "expected an address not before start (%s)" % start)
        if subnet.get("gateway_ip") and int(start) <= int(address_of(field, subnet["gateway_ip"])) <= int(end):
            raise bad(place, "%s-%s" % (start, end), "expected a range without the gateway %s" % subnet["gateway_ip"])
    for index, server in enumerate(subnet.get("dns_nameservers") or []):
        address_of("%s.dns_nameservers[%d]" % (field, index), server)


def check_rule(field: str, rule: dict[str, t.Any]) -> None:
    """Refuse a security group rule that Neutron would refuse, or take for something else."""
    if rule.get("remote_ip_prefix"):
        network_of(field + ".remote_ip_prefix", rule["remote_ip_prefix"])
    low, high = rule.get("port_min"), rule.get("port_max")
    if (low is not None or high is not None) and rule.get("protocol") not in ("tcp", "udp"):
        raise bad(field + ".protocol", rule.get("protocol"), "expected tcp or udp where ports are named")
    for key, port in (("port_min", low), ("port_max", high)):
        if port is not None and not 1 <= port <= 65535:
            raise bad("%s.%s" % (field, key), port, "expected a port from 1 to 65535")
    if low is not None and high is not None and low > high:
        raise bad(field + ".port_max", high, "expected a port not below port_min (%s)" % low)


def check_flavor(field: str, flavor: dict[str, t.Any]) -> None:
    """Refuse sizes that Nova would refuse."""
    for key, least in (("vcpus", 1), ("ram", 1), ("disk", 0)):
        if flavor[key] < least:
            raise bad("%s.%s" % (field, key), flavor[key], "expected at least %d" % least)


def limits_of(field: str, quotas: t.Optional[dict[str, t.Any]]) -> dict[str, dict[str, int]]:
    """Quotas as numbers, since that is how they are compared; a Vault or the command line gives texts. Without what was not said."""
    numbers: dict[str, dict[str, int]] = {}
    for service, limits in (quotas or {}).items():
        for name, value in (limits or {}).items():
            if value is None:
                continue
            if isinstance(value, bool) or not re.match(r"^(-1|[0-9]+)$", str(value)):
                raise bad("%s.%s.%s" % (field, service, name), value, "expected a whole number, or -1 for no limit")
            numbers.setdefault(service, {})[name] = int(value)
    return numbers


def check_names(field: str, items: t.Iterable[dict[str, t.Any]]) -> None:
    """Refuse two items of one name, and a name that is empty: which of them was meant would be left to chance."""
    seen: set[str] = set()
    for index, item in enumerate(items):
        if not item["name"]:
            raise bad("%s[%d].name" % (field, index), item["name"], "expected a name")
        if item["name"] in seen:
            raise bad("%s[%d].name" % (field, index), item["name"], "expected a name that no other item has")
        seen.add(item["name"])


def check_wishes(params: dict[str, t.Any]) -> None:
    """Refuse everything in a region's wishes that can be refused without asking the region."""
    for key in ("users", "flavors", "networks", "security_groups", "key_pairs"):
        check_names(key, params.get(key) or [])
    for index, flavor in enumerate(params.get("flavors") or []):
        check_flavor("flavors[%d]" % index, flavor)
    for index, network in enumerate(params.get("networks") or []):
        check_names("networks[%d].subnets" % index, network.get("subnets") or [])
        for number, subnet in enumerate(network.get("subnets") or []):
            check_subnet("networks[%d].subnets[%d]" % (index, number), subnet)
    for index, group in enumerate(params.get("security_groups") or []):
        for number, rule in enumerate(group.get("rules") or []):
            check_rule("security_groups[%d].rules[%d]" % (index, number), rule)
    for index, pair in enumerate(params.get("key_pairs") or []):
        if len(pair["public_key"].split()) < 2:
            raise bad(
                "key_pairs[%d].public_key" % index, pair["public_key"][:40], "expected a public key such as 'ssh-ed25519 AAAA... comment'"
            )


def rule_key(rule: dict[str, t.Any]) -> dict[str, t.Any]:
    """A security group rule in one form, whether wished or found, without what was not said."""
    form = {
        "direction": rule.get("direction") or "ingress",
        "ethertype": rule.get("ethertype") or "IPv4",
        "protocol": rule.get("protocol"),
        "port_min": rule.get("port_min") if "port_min" in rule else rule.get("port_range_min"),
        "port_max": rule.get("port_max") if "port_max" in rule else rule.get("port_range_max"),
        "remote_ip_prefix": rule.get("remote_ip_prefix"),
        "remote_group_id": rule.get("remote_group_id"),
    }
    if form["port_min"] is not None and form["port_max"] is None:
        form["port_max"] = form["port_min"]
    if form["port_max"] is not None and form["port_min"] is None:
        form["port_min"] = form["port_max"]
    if form["remote_ip_prefix"]:
        prefix = network_of("remote_ip_prefix", form["remote_ip_prefix"])
        form["remote_ip_prefix"] = str(prefix)
        if prefix.prefixlen == 0:
            form["remote_ip_prefix"] = None  # anywhere: Neutron keeps both spellings, they mean the same
    return {key: value for key, value in form.items() if value is not None}


def sorted_rules(rules: t.Iterable[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    """Rules in one form and order, each once: equal lists mean equal groups."""
    forms: list[dict[str, t.Any]] = []
    for rule in rules:
        form = rule_key(rule)
        if form not in forms:
            forms.append(form)
    return sorted(forms, key=lambda form: sorted((key, str(value)) for key, value in form.items()))


def missing_of(expected: dict[str, t.Any], found: dict[str, t.Any]) -> list[dict[str, str]]:
    """What a tenant was promised and cannot see, each with its kind, name and what to ask the region's admin for."""
    lacks: list[dict[str, str]] = []

    def lack(kind: str, name: str, ask: str) -> None:
        lacks.append({"kind": kind, "name": name, "ask": ask})

    flavors = {flavor["name"]: flavor for flavor in found["flavors"]}
    for wish in expected.get("flavors") or []:
        there = flavors.get(wish["name"])
        size = "%s vCPU, %s MiB, %s GiB disk" % (wish["vcpus"], wish["ram"], wish["disk"])
        if there is None:
            lack("flavor", wish["name"], "a flavor with %s that our project may use" % size)
        elif any(there[key] != wish[key] for key in ("vcpus", "ram", "disk")):
            lack(
                "flavor",
                wish["name"],
                "this flavor with %s; it has %s vCPU, %s MiB, %s GiB" % (size, there["vcpus"], there["ram"], there["disk"]),
            )
    networks = {network["name"] for network in found["networks"]}
    for wish in expected.get("networks") or []:
        if wish["name"] not in networks:
            lack("network", wish["name"], "a network that our project may attach servers to")
    for service, wishes in (expected.get("quotas") or {}).items():
        there = found["quotas"].get(service) or {}
        for name, value in (wishes or {}).items():
            limit = there.get(name)
            if value is not None and limit is not None and limit != -1 and (value == -1 or limit < value):
                lack("quota", "%s.%s" % (service, name), "a quota of %s; it is %s" % (value, limit))
    for role in expected.get("roles") or []:
        if role not in found["roles"]:
            lack("role", role, "this role for our user on our project")
    return lacks
