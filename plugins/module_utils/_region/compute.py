# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resources in Nova besides servers: flavors and key pairs.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import typing as t

from .._core.reconcile import CREATE, DELETE, REPLACE, Plan
from .kind import Context, Kind, Spec, State
from .rules import describe, is_ours


class Flavor(Kind):
    """A size of server. Nova cannot change the size of a flavor: such a spec is refused, since other tools may hold its id."""

    label = "flavor"
    service = "nova"
    immutable = ("vcpus", "ram", "disk", "public")
    whole = ("extra_specs",)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._all: list[dict[str, t.Any]] | None = None

    def lookup(self, spec: Spec) -> State:
        if self._all is None:
            self._all = self.client.list("compute", "/flavors/detail", "flavors", is_public="None")
        return next((raw for raw in self._all if raw["name"] == spec["name"]), None)

    def state_of(self, raw: dict[str, t.Any], spec: Spec) -> dict[str, t.Any]:
        state = {
            "name": raw["name"],
            "id": raw["id"],
            "description": raw.get("description") or "",
            "vcpus": raw["vcpus"],
            "ram": raw["ram"],
            "disk": raw["disk"],
            "public": raw["os-flavor-access:is_public"],
            "extra_specs": raw.get("extra_specs") or {},
        }
        if not state["public"]:
            state["ours_to_use"] = self.context.project_id() in self.allowed(raw["id"])
        return state

    def allowed(self, flavor_id: str) -> set[str]:
        """Ids of the projects that may use a flavor that is not public."""
        found = self.client.get("compute", f"/flavors/{flavor_id}/os-flavor-access")["flavor_access"]
        return {entry["tenant_id"] for entry in found}

    def desired(self, spec: Spec) -> State:
        state = {key: spec[key] for key in ("name", "vcpus", "ram", "disk", "public")}
        state["description"] = describe(spec.get("description"), self.context.tag)
        if spec.get("extra_specs") is not None:
            state["extra_specs"] = {key: str(value) for key, value in spec["extra_specs"].items()}
        if not spec["public"]:
            state["ours_to_use"] = True
        return state

    def apply(self, spec: Spec, plan: Plan) -> State:
        self._all = None
        if plan.action == DELETE:
            self.client.request("DELETE", "compute", "/flavors/" + plan.current["id"])
            return None
        if plan.action == CREATE:
            body = {key: plan.target[key] for key in ("name", "vcpus", "ram", "disk", "description")}
            body["os-flavor-access:is_public"] = plan.target["public"]
            flavor_id = self.client.request("POST", "compute", "/flavors", {"flavor": body})["flavor"]["id"]
        else:
            flavor_id = plan.current["id"]
            if "description" in plan.fields:
                self.client.request("PUT", "compute", "/flavors/" + flavor_id, {"flavor": {"description": plan.target["description"]}})
        before = (plan.before or {}).get("extra_specs") or {}
        after = plan.target.get("extra_specs") or {}
        if {key: value for key, value in after.items() if before.get(key) != value}:
            self.client.request("POST", "compute", f"/flavors/{flavor_id}/os-extra_specs", {"extra_specs": after})
        for key in sorted(set(before) - set(after)):
            self.client.request("DELETE", "compute", f"/flavors/{flavor_id}/os-extra_specs/{key}", allow=(404,))
        if "ours_to_use" in plan.fields and plan.target["ours_to_use"]:
            body = {"addTenantAccess": {"tenant": self.context.project_id()}}
            self.client.request("POST", "compute", f"/flavors/{flavor_id}/action", body, allow=(409,))
        return dict(plan.target, id=flavor_id)


class KeyPair(Kind):
    """The public key that goes into servers. It has no description: the ownership tag is in the key's comment."""

    label = "key pair"
    service = "nova"
    immutable = ("public_key",)
    replaceable = True  # servers keep the key that they were made with

    def lookup(self, spec: Spec) -> State:
        found = self.client.get("compute", "/os-keypairs/" + spec["name"], allow=(404,))
        return found["keypair"] if found else None

    def ours(self, raw: dict[str, t.Any]) -> bool:
        return is_ours(raw["public_key"], self.context.tag)

    def state_of(self, raw: dict[str, t.Any], spec: Spec) -> dict[str, t.Any]:
        return {"name": raw["name"], "public_key": raw["public_key"].strip()}

    def desired(self, spec: Spec) -> State:
        kind, blob, *comment = spec["public_key"].split()
        return {"name": spec["name"], "public_key": f"{kind} {blob} {describe(' '.join(comment), self.context.tag)}"}

    def apply(self, spec: Spec, plan: Plan) -> State:
        if plan.action in (DELETE, REPLACE):
            self.client.request("DELETE", "compute", "/os-keypairs/" + spec["name"])
        if plan.action == DELETE:
            return None
        body = {"name": spec["name"], "type": "ssh", "public_key": plan.target["public_key"]}
        self.client.request("POST", "compute", "/os-keypairs", {"keypair": body})
        return plan.after
