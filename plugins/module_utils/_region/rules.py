# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pure functions about resources of a region: ownership, validation of specs, comparison with expectations.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

from .._core.module import Failure

SERVICE = "openstack"


def describe(text: str | None, tag: str) -> str:
    """A description with the ownership tag: part of the creating request, so that no crash can leave a resource without it."""
    return (f"{text or ''} [{tag}]").strip()


def is_ours(description: str | None, tag: str) -> bool:
    """Whether a description carries our ownership tag."""
    return f"[{tag}]" in (description or "")


def foreign(kind: str, name: str, tag: str) -> Failure:
    """The failure for a resource of the desired name that exists and is not ours."""
    return Failure(
        f"{kind} {name} exists and is not ours: its description lacks [{tag}]. Choose another name, set existing: true to use it "
        "unchanged, or hand it over by adding the tag to its description",
        SERVICE,
        "foreign",
        {"kind": kind, "name": name},
    )


def invalid_option(field: str, value: t.Any, expected: str) -> Failure:
    """The failure for an invalid option: the field, its value, and what was expected."""
    return Failure(f"{field} is {value!r}: {expected}", "options", "invalid", {"field": field, "expected": expected})


def network_of(field: str, value: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(value)
    except ValueError as error:
        raise invalid_option(field, value, f"expected a network such as 10.203.0.0/24 ({error})")


def address_of(field: str, value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(value)
    except ValueError as error:
        raise invalid_option(field, value, f"expected an address such as 10.203.0.1 ({error})")


def check_subnet(field: str, subnet: dict[str, t.Any]) -> None:
    """Refuse a subnet whose addresses do not fit together."""
    cidr = network_of(field + ".cidr", subnet["cidr"])
    if subnet.get("gateway_ip") and address_of(field + ".gateway_ip", subnet["gateway_ip"]) not in cidr:
        raise invalid_option(field + ".gateway_ip", subnet["gateway_ip"], f"expected an address inside {cidr}")
    for index, pool in enumerate(subnet.get("allocation_pools") or []):
        place = f"{field}.allocation_pools[{index}]"
        start, end = (address_of(f"{place}.{key}", pool[key]) for key in ("start", "end"))
        for key, address in (("start", start), ("end", end)):
            if address not in cidr:
                raise invalid_option(f"{place}.{key}", str(address), f"expected an address inside {cidr}")
        if int(start) > int(end):
            raise invalid_option(place + ".end", str(end), f"expected an address not before start ({start})")
        if subnet.get("gateway_ip") and int(start) <= int(address_of(field, subnet["gateway_ip"])) <= int(end):
            raise invalid_option(place, f"{start}-{end}", f"expected a range without the gateway {subnet['gateway_ip']}")
    for index, server in enumerate(subnet.get("dns_nameservers") or []):
        address_of(f"{field}.dns_nameservers[{index}]", server)


def check_rule(field: str, rule: dict[str, t.Any]) -> None:
    """Refuse a security group rule that Neutron would refuse or misinterpret."""
    if rule.get("remote_ip_prefix"):
        network_of(field + ".remote_ip_prefix", rule["remote_ip_prefix"])
    low, high = rule.get("port_min"), rule.get("port_max")
    if (low is not None or high is not None) and rule.get("protocol") not in ("tcp", "udp"):
        raise invalid_option(field + ".protocol", rule.get("protocol"), "expected tcp or udp where ports are named")
    for key, port in (("port_min", low), ("port_max", high)):
        if port is not None and not 1 <= port <= 65535:
            raise invalid_option(f"{field}.{key}", port, "expected a port from 1 to 65535")
    if low is not None and high is not None and low > high:
        raise invalid_option(field + ".port_max", high, f"expected a port not below port_min ({low})")


def check_flavor(field: str, flavor: dict[str, t.Any]) -> None:
    """Refuse sizes that Nova would refuse."""
    for key, least in (("vcpus", 1), ("ram", 1), ("disk", 0)):
        if flavor[key] < least:
            raise invalid_option(f"{field}.{key}", flavor[key], f"expected at least {least}")


def quota_limits(field: str, quotas: dict[str, t.Any] | None) -> dict[str, dict[str, int]]:
    """Quotas as numbers, for comparison (a Vault or the command line gives strings), without those that were not set."""
    numbers: dict[str, dict[str, int]] = {}
    for service, limits in (quotas or {}).items():
        for name, value in (limits or {}).items():
            if value is None:
                continue
            if isinstance(value, bool) or not re.match(r"^(-1|[0-9]+)$", str(value)):
                raise invalid_option(f"{field}.{service}.{name}", value, "expected a whole number, or -1 for no limit")
            numbers.setdefault(service, {})[name] = int(value)
    return numbers


def check_names(field: str, items: t.Iterable[dict[str, t.Any]]) -> None:
    """Refuse an empty name, and two items with the same name."""
    seen: set[str] = set()
    for index, item in enumerate(items):
        if not item["name"]:
            raise invalid_option(f"{field}[{index}].name", item["name"], "expected a name")
        if item["name"] in seen:
            raise invalid_option(f"{field}[{index}].name", item["name"], "expected a name that no other item has")
        seen.add(item["name"])


def check_specs(params: dict[str, t.Any]) -> None:
    """Refuse everything in a region's specs that is invalid without asking the region."""
    for key in ("users", "flavors", "networks", "security_groups", "key_pairs"):
        check_names(key, params.get(key) or [])
    for index, flavor in enumerate(params.get("flavors") or []):
        check_flavor(f"flavors[{index}]", flavor)
    for index, network in enumerate(params.get("networks") or []):
        check_names(f"networks[{index}].subnets", network.get("subnets") or [])
        for number, subnet in enumerate(network.get("subnets") or []):
            check_subnet(f"networks[{index}].subnets[{number}]", subnet)
    for index, group in enumerate(params.get("security_groups") or []):
        for number, rule in enumerate(group.get("rules") or []):
            check_rule(f"security_groups[{index}].rules[{number}]", rule)
    for index, pair in enumerate(params.get("key_pairs") or []):
        if len(pair["public_key"].split()) < 2:
            raise invalid_option(
                f"key_pairs[{index}].public_key", pair["public_key"][:40], "expected a public key such as 'ssh-ed25519 AAAA... comment'"
            )


def rule_key(rule: dict[str, t.Any]) -> dict[str, t.Any]:
    """A security group rule in one form, whether desired or found, without fields that are not set."""
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


def missing_resources(expected: dict[str, t.Any], found: dict[str, t.Any]) -> list[dict[str, str]]:
    """Expected resources that a tenant cannot see, each with its kind, its name and what to ask the region's admin for."""
    lacks: list[dict[str, str]] = []

    def lack(kind: str, name: str, ask: str) -> None:
        lacks.append({"kind": kind, "name": name, "ask": ask})

    flavors = {flavor["name"]: flavor for flavor in found["flavors"]}
    for spec in expected.get("flavors") or []:
        there = flavors.get(spec["name"])
        size = f"{spec['vcpus']} vCPU, {spec['ram']} MiB, {spec['disk']} GiB disk"
        if there is None:
            lack("flavor", spec["name"], f"a flavor with {size} that our project may use")
        elif any(there[key] != spec[key] for key in ("vcpus", "ram", "disk")):
            lack(
                "flavor",
                spec["name"],
                f"this flavor with {size}; it has {there['vcpus']} vCPU, {there['ram']} MiB, {there['disk']} GiB",
            )
    networks = {network["name"] for network in found["networks"]}
    for spec in expected.get("networks") or []:
        if spec["name"] not in networks:
            lack("network", spec["name"], "a network that our project may attach servers to")
    for service, specs in (expected.get("quotas") or {}).items():
        there = found["quotas"].get(service) or {}
        for name, value in (specs or {}).items():
            limit = there.get(name)
            if value is not None and limit is not None and limit != -1 and (value == -1 or limit < value):
                lack("quota", f"{service}.{name}", f"a quota of {value}; it is {limit}")
    for role in expected.get("roles") or []:
        if role not in found["roles"]:
            lack("role", role, "this role for our user on our project")
    return lacks
