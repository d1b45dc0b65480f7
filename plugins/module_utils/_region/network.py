# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resources in Neutron: networks with their subnets, routers, security groups.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import typing as t

from .._core.module import Failure
from .._core.reconcile import CREATE, DELETE, Plan
from .kind import Kind, Spec, State
from .rules import describe, rule_key, sorted_rules

PROVIDER = {"type": "provider:network_type", "physical_network": "provider:physical_network", "segmentation_id": "provider:segmentation_id"}
SUBNET_FIELDS = ("cidr", "ip_version", "gateway_ip", "enable_dhcp", "allocation_pools", "dns_nameservers")
# Ports of a router into a subnet: plain, distributed, and highly available. The region decides which.
ROUTER_INTERFACES = ("network:router_interface", "network:router_interface_distributed", "network:ha_router_replicated_interface")
# Device owners whose ports Neutron removes together with their network.
REMOVED_WITH_NETWORK = ("network:dhcp", "network:distributed")


def ports_left(ports: t.Iterable[dict[str, t.Any]], ignored_devices: t.Collection[str]) -> list[str]:
    """The ports that prevent the removal of a network or security group, each once, as text; without those of the given
    servers and routers (ids)."""
    left = {}
    for port in ports:
        if port.get("device_owner") not in REMOVED_WITH_NETWORK and port.get("device_id") not in ignored_devices:
            owner = f" ({port['device_owner']})" if port.get("device_owner") else ""
            left[port["id"]] = f"port {port.get('name') or port['id']}{owner}"
    return list(left.values())


class NeutronKind(Kind):
    """Looked up by name in our project if one is named (as the region's admin), else in everything that the account sees."""

    service = "neutron"
    path = ""
    key = ""

    def lookup(self, spec: Spec) -> State:
        query = {"name": spec["name"]}
        if self.context.project is not None and not spec.get("existing"):
            project_id = self.context.project_id()
            if not project_id:
                return None
            query["project_id"] = project_id
        return self.pick(self.client.list("network", self.path, self.key, **query), spec)

    def ports(self, **query: t.Any) -> list[dict[str, t.Any]]:
        return self.client.list("network", "/ports", "ports", **query)

    def owner(self) -> dict[str, t.Any]:
        """The part of a creating request that sets the owner."""
        return {"project_id": self.context.project_id()} if self.context.project is not None else {}


def attached(kind: NeutronKind, networks: t.Collection[str], groups: t.Collection[str], routers: t.Collection[str]) -> list[str]:
    """The ports on these networks or in these security groups that are not those of these routers, all given by id."""
    ports = [port for network_id in sorted(networks) for port in kind.ports(network_id=network_id)]
    if groups:
        ports += [port for port in kind.ports(**kind.owner()) if set(groups) & set(port.get("security_groups") or [])]
    return ports_left(ports, routers)


class Network(NeutronKind):
    """A network and its subnets: created together, since one is useless without the other."""

    label = "network"
    path = "/networks"
    key = "networks"

    def immutable_fields(self, spec: Spec) -> tuple[str, ...]:
        subnets = spec.get("subnets") or []
        return ("provider", *(f"subnets.{subnet['name']}.{field}" for subnet in subnets for field in ("cidr", "ip_version")))

    def state_of(self, raw: dict[str, t.Any], spec: Spec) -> dict[str, t.Any]:
        state: dict[str, t.Any] = {
            "name": raw["name"],
            "id": raw["id"],
            "description": raw.get("description") or "",
            "shared": raw["shared"],
        }
        for field in ("mtu", "port_security_enabled"):
            if field in raw:
                state[field] = raw[field]
        provider = {field: raw[name] for field, name in PROVIDER.items() if raw.get(name) is not None}
        if provider:
            state["provider"] = provider
        state["subnets"] = {}
        if raw.get("subnets"):
            for subnet in self.client.list("network", "/subnets", "subnets", network_id=raw["id"]):
                state["subnets"][subnet["name"]] = dict(
                    {field: subnet[field] for field in SUBNET_FIELDS}, id=subnet["id"], description=subnet.get("description") or ""
                )
        return state

    def desired(self, spec: Spec) -> State:
        if spec.get("existing"):
            return {"name": spec["name"]}
        state: dict[str, t.Any] = {"name": spec["name"], "description": describe(spec.get("description"), self.context.tag)}
        for field in ("shared", "mtu", "port_security_enabled"):
            if spec.get(field) is not None:
                state[field] = spec[field]
        provider = {field: spec["provider"][field] for field in PROVIDER if (spec.get("provider") or {}).get(field) is not None}
        if provider:
            state["provider"] = provider
        state["subnets"] = {subnet["name"]: self.subnet(subnet) for subnet in spec.get("subnets") or []}
        return state

    def subnet(self, subnet: dict[str, t.Any]) -> dict[str, t.Any]:
        fields = {field: subnet[field] for field in SUBNET_FIELDS if subnet.get(field) is not None}
        return dict(fields, ip_version=6 if ":" in subnet["cidr"] else 4, description=describe(subnet.get("description"), self.context.tag))

    def apply(self, spec: Spec, plan: Plan) -> State:
        if plan.action == DELETE:
            self.request_with_advice("DELETE", "/networks/" + plan.current["id"], spec)
            return None
        flat: dict[str, t.Any] = {
            field: plan.target[field] for field in ("name", "description", "shared", "mtu", "port_security_enabled") if field in plan.target
        }
        if plan.action == CREATE:
            provider = {PROVIDER[field]: value for field, value in (plan.target.get("provider") or {}).items()}
            body = dict(flat, **provider, **self.owner())
            network_id = self.client.request("POST", "network", "/networks", {"network": body})["network"]["id"]
            have: dict[str, t.Any] = {}
        else:
            network_id = plan.current["id"]
            have = plan.current["subnets"]
            changes = {field: value for field, value in flat.items() if field in plan.fields}
            if changes:
                self.client.request("PUT", "network", "/networks/" + network_id, {"network": changes})
        for name, subnet in plan.target["subnets"].items():
            if name not in have:
                body = dict(subnet, name=name, network_id=network_id, **self.owner())
                self.client.request("POST", "network", "/subnets", {"subnet": body})
            elif subnet != have[name]:
                changes = {field: value for field, value in subnet.items() if value != have[name].get(field)}
                self.client.request("PUT", "network", "/subnets/" + have[name]["id"], {"subnet": changes})
        return self.state_of(self.client.get("network", "/networks/" + network_id)["network"], spec)

    def request_with_advice(self, method: str, path: str, spec: Spec) -> None:
        try:
            self.client.request(method, "network", path, allow=(404,))
        except Failure as failure:
            if failure.code == 409:
                failure.message += "; servers or ports are still on it: retire the workers of this region first (distcloud scheduler vms)"
            raise failure


class Router(NeutronKind):
    """A router from our own network to an external one, for tenants whose region offers no shared network."""

    label = "router"
    path = "/routers"
    key = "routers"

    def state_of(self, raw: dict[str, t.Any], spec: Spec) -> dict[str, t.Any]:
        gateway = raw.get("external_gateway_info") or {}
        ports = [port for port in self.ports(device_id=raw["id"]) if port["device_owner"] in ROUTER_INTERFACES]
        attached = {ip["subnet_id"] for port in ports for ip in port["fixed_ips"]}
        subnets = self.client.list("network", "/subnets", "subnets") if attached else []
        network = self.client.get("network", "/networks/" + gateway["network_id"])["network"]["name"] if gateway.get("network_id") else None
        return {
            "name": raw["name"],
            "id": raw["id"],
            "description": raw.get("description") or "",
            "external_network": network,
            "subnets": sorted(subnet["name"] for subnet in subnets if subnet["id"] in attached),
        }

    def desired(self, spec: Spec) -> State:
        return {
            "name": spec["name"],
            "description": describe(spec.get("description"), self.context.tag),
            "external_network": spec["external_network"],
            "subnets": sorted(spec["subnets"]),
        }

    def apply(self, spec: Spec, plan: Plan) -> State:
        before = plan.before or {"subnets": []}
        after = plan.after or {"subnets": []}
        router = f"/routers/{before.get('id')}"
        if plan.action != DELETE:
            body: dict[str, t.Any] = {}
            if "description" in plan.fields:
                body["description"] = after["description"]
            if "external_network" in plan.fields:
                body["external_gateway_info"] = {"network_id": self.id_of("/networks", "networks", after["external_network"])}
            if plan.action == CREATE:
                body.update(self.owner(), name=spec["name"])
                router = "/routers/" + self.client.request("POST", "network", "/routers", {"router": body})["router"]["id"]
            elif body:
                self.client.request("PUT", "network", router, {"router": body})
        for name in sorted(set(before["subnets"]) - set(after["subnets"])):
            body = {"subnet_id": self.id_of("/subnets", "subnets", name)}
            self.client.request("PUT", "network", router + "/remove_router_interface", body, allow=(404,))
        for name in sorted(set(after["subnets"]) - set(before["subnets"])):
            self.client.request("PUT", "network", router + "/add_router_interface", {"subnet_id": self.id_of("/subnets", "subnets", name)})
        if plan.action == DELETE:
            self.client.request("DELETE", "network", router, allow=(404,))
            return None
        return dict(after, id=router.rsplit("/", 1)[-1])

    def id_of(self, path: str, key: str, name: str) -> str:
        found = self.client.list("network", path, key, name=name)
        if not found:
            raise Failure(
                f"router needs {key[:-1]} {name}, which this account cannot see",
                self.service,
                "missing",
                {"kind": key[:-1], "name": name},
            )
        return str(found[0]["id"])


class SecurityGroup(NeutronKind):
    """A security group with exactly the desired rules; any other rule is removed, since it may open access."""

    label = "security group"
    path = "/security-groups"
    key = "security_groups"

    def state_of(self, raw: dict[str, t.Any], spec: Spec) -> dict[str, t.Any]:
        rules = sorted_rules(raw["security_group_rules"])
        return {"name": raw["name"], "id": raw["id"], "description": raw.get("description") or "", "rules": rules}

    def desired(self, spec: Spec) -> State:
        rules = list(spec.get("rules") or [])
        if spec["egress"]:
            rules += [{"direction": "egress", "ethertype": "IPv4"}, {"direction": "egress", "ethertype": "IPv6"}]
        return {"name": spec["name"], "description": describe(spec.get("description"), self.context.tag), "rules": sorted_rules(rules)}

    def apply(self, spec: Spec, plan: Plan) -> State:
        if plan.action == DELETE:
            self.client.request("DELETE", "network", "/security-groups/" + plan.current["id"], allow=(404,))
            return None
        if plan.action == CREATE:
            body = {"name": spec["name"], "description": plan.target["description"], **self.owner()}
            group = self.client.request("POST", "network", "/security-groups", {"security_group": body})["security_group"]
        else:
            path = "/security-groups/" + plan.current["id"]
            if "description" in plan.fields:
                self.client.request("PUT", "network", path, {"security_group": {"description": plan.target["description"]}})
            group = self.client.get("network", path)["security_group"]
        desired = plan.target["rules"]
        for rule in group["security_group_rules"]:
            if rule_key(rule) not in desired:
                self.client.request("DELETE", "network", "/security-group-rules/" + rule["id"], allow=(404,))
        have = [rule_key(rule) for rule in group["security_group_rules"]]
        new = [self.rule_body(rule, group) for rule in desired if rule not in have]
        if new:
            self.client.request("POST", "network", "/security-group-rules", {"security_group_rules": new})
        return dict(plan.target, id=group["id"])

    def rule_body(self, rule: dict[str, t.Any], group: dict[str, t.Any]) -> dict[str, t.Any]:
        names = {"port_min": "port_range_min", "port_max": "port_range_max"}
        return dict({names.get(key, key): value for key, value in rule.items()}, security_group_id=group["id"])
