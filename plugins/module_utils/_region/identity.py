# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a region's admin creates for a tenant: project, users with their roles, quotas.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import typing as t

from .._core.module import Failure
from .._core.reconcile import CREATE, DELETE, Plan
from .image import OWNER
from .kind import Kind, Spec, State
from .network import ports_left
from .rules import describe, invalid_option, is_ours


class Project(Kind):
    """The project (tenant) that holds all our resources in the region."""

    label = "project"
    service = "keystone"

    def lookup(self, spec: Spec) -> State:
        return self.context.current_project()

    def state_of(self, raw: dict[str, t.Any], spec: Spec) -> dict[str, t.Any]:
        return {"name": raw["name"], "id": raw["id"], "description": raw.get("description") or "", "enabled": raw["enabled"]}

    def desired(self, spec: Spec) -> State:
        if spec.get("existing"):
            return {"name": spec["name"]}
        return {"name": spec["name"], "description": describe(spec.get("description"), self.context.tag), "enabled": True}

    def apply(self, spec: Spec, plan: Plan) -> State:
        if plan.action == DELETE:
            project_id = plan.current["id"]
            self.clear(project_id)
            self.client.request("DELETE", "identity", "/projects/" + project_id)
            self.context.remember_project(None)
            return None
        if plan.action == CREATE:
            body = dict(plan.target, domain_id=self.context.domain_id(spec["domain"]))
            made = self.client.request("POST", "identity", "/projects", {"project": body})["project"]
        else:
            changes = {field: plan.target[field] for field in plan.fields}
            made = self.client.request("PATCH", "identity", "/projects/" + plan.current["id"], {"project": changes})["project"]
        self.context.remember_project(made)
        return self.state_of(made, spec)

    def clear(self, project_id: str) -> None:
        """Remove what the services created for the project by themselves: quota rows and Neutron's default security group."""
        self.client.request("DELETE", "compute", "/os-quota-sets/" + project_id, allow=(404,))
        self.client.request("DELETE", "network", "/quotas/" + project_id, allow=(404,))
        for group in self.client.list("network", "/security-groups", "security_groups", project_id=project_id, name="default"):
            self.client.request("DELETE", "network", "/security-groups/" + group["id"], allow=(404,))

    def holdings(self, images_of: str | None) -> list[str]:
        """Resources in our project, or on its networks, that are not ours to remove."""
        project_id = self.context.project_id()
        if not project_id:
            return []
        servers = self.servers(project_id)
        left = [f"server {server['name']}" for server in servers]
        found: dict[str, list[dict[str, t.Any]]] = {}
        for word, path, key in (
            ("network", "/networks", "networks"),
            ("router", "/routers", "routers"),
            ("security group", "/security-groups", "security_groups"),
            ("floating IP", "/floatingips", "floatingips"),
        ):
            found[key] = self.listed("network", path, key, project_id=project_id)
            for raw in found[key]:
                if not is_ours(raw.get("description"), self.context.tag) and not (key == "security_groups" and raw["name"] == "default"):
                    left.append(f"{word} {raw.get('name') or raw.get('floating_ip_address') or raw['id']}")
        ports = self.listed("network", "/ports", "ports", project_id=project_id)
        for network in found["networks"]:
            ports += self.listed("network", "/ports", "ports", network_id=network["id"])
        left += ports_left(ports, {raw["id"] for raw in servers + found["routers"]})
        if self.client.offers("block-storage"):
            volumes = self.listed("block-storage", "/volumes/detail", "volumes", all_tenants="1", project_id=project_id)
            left += [f"volume {volume.get('name') or volume['id']}" for volume in volumes]
        for image in self.listed("image", "/images", "images", owner=project_id):
            if images_of is None or image.get(OWNER) != images_of:
                left.append(f"image {image.get('name') or image['id']}")
        return left

    def servers(self, project_id: str) -> list[dict[str, t.Any]]:
        return self.client.list("compute", "/servers/detail", "servers", all_tenants="1", project_id=project_id)

    def listed(self, service: str, path: str, key: str, **query: t.Any) -> list[dict[str, t.Any]]:
        """A listing; empty if the region lacks that part of the API (no router extension, for instance)."""
        try:
            return self.client.list(service, path, key, **query)
        except Failure as failure:
            if failure.code == 404:
                return []
            raise


class User(Kind):
    """A user of our project, with its roles there and its password, which is compared by logging in with it."""

    label = "user"
    service = "keystone"
    secrets = ("password",)

    def lookup(self, spec: Spec) -> State:
        domain = self.context.domain_id(self.domain(spec))
        return next(iter(self.client.list("identity", "/users", "users", name=spec["name"], domain_id=domain)), None)

    def domain(self, spec: Spec) -> str:
        return spec.get("domain") or (self.context.project or {}).get("domain") or "Default"

    def state_of(self, raw: dict[str, t.Any], spec: Spec) -> dict[str, t.Any]:
        roles = self.roles_of(raw["id"])
        return {
            "name": raw["name"],
            "id": raw["id"],
            "description": raw.get("description") or "",
            "enabled": raw["enabled"],
            # For a foreign user only the roles that we grant are compared.
            "roles": sorted(set(roles) & set(spec["roles"]) if spec.get("existing") else roles),
        }

    def roles_of(self, user_id: str) -> set[str]:
        """Names of the roles that were given to the user on our project."""
        project_id = self.context.project_id()
        if not project_id:
            return set()
        query = {"user.id": user_id, "scope.project.id": project_id, "include_names": "true"}
        found = self.client.list("identity", "/role_assignments", "role_assignments", **query)
        return {entry["role"]["name"] for entry in found if "OS-INHERIT:inherited_to" not in entry["scope"]}

    def find(self, spec: Spec) -> State:
        if not (spec.get("existing") and self.context.absent):
            return super().find(spec)
        raw = self.lookup(spec)
        state = self.state_of(raw, spec) if raw else None
        if state is None or not state["roles"]:
            return None
        project = self.context.current_project() or {}
        if self.ours(project):
            return state  # all roles in a project of ours were given by us
        self.context.warn(
            f"user {spec['name']} keeps its roles ({', '.join(state['roles'])}) on project {project.get('name')}: neither is "
            "ours, so it is unknown who granted them; if this site did, remove them by 'openstack role remove'"
        )
        return None

    def desired(self, spec: Spec) -> State:
        roles = sorted(spec["roles"])
        if spec.get("existing"):
            return {"name": spec["name"], "roles": roles}
        state = {"name": spec["name"], "description": describe(spec.get("description"), self.context.tag), "enabled": True, "roles": roles}
        if spec.get("password"):
            state["password"] = spec["password"]
        return state

    def changed_secrets(self, spec: Spec, current: State) -> t.Collection[str]:
        """The password, if a login with it is refused: no service returns a password, but a login verifies one.

        A disabled user cannot log in, so the password is set when the user is enabled.
        """
        if current is None or not spec.get("password") or spec.get("existing"):
            return ()
        if not current["enabled"]:
            return ("password",)
        identity = {"methods": ["password"], "password": {"user": {"id": current["id"], "password": spec["password"]}}}
        body = {"auth": {"identity": identity, "scope": "unscoped"}}
        accepted = self.client.request("POST", "identity", "/auth/tokens", body, allow=(401,), authenticated=False, nocatalog="1")
        return () if accepted else ("password",)

    def apply(self, spec: Spec, plan: Plan) -> State:
        if plan.action == DELETE:
            if spec.get("existing"):
                self.set_roles(plan.current["id"], add=[], take=plan.current["roles"])
            else:
                self.client.request("DELETE", "identity", "/users/" + plan.current["id"])
            return None
        fields = {"name", "description", "enabled"} & set(plan.fields)
        body = {field: plan.target[field] for field in fields}
        if plan.action == CREATE:
            if not spec.get("password"):
                raise invalid_option("users.password", None, f"expected a password, or a password_file, for the new user {spec['name']}")
            body.update(password=spec["password"], domain_id=self.context.domain_id(self.domain(spec)))
            made = self.client.request("POST", "identity", "/users", {"user": body})["user"]
        else:
            if "password" in plan.secrets:
                body["password"] = spec["password"]
            path = "/users/" + plan.current["id"]
            made = (self.client.request("PATCH", "identity", path, {"user": body}) if body else self.client.get("identity", path))["user"]
        if "roles" in plan.fields:
            before = (plan.before or {}).get("roles", [])
            self.set_roles(made["id"], add=set(plan.target["roles"]) - set(before), take=set(before) - set(plan.target["roles"]))
        return self.state_of(made, spec)

    def set_roles(self, user_id: str, add: t.Collection[str], take: t.Collection[str]) -> None:
        """Grant and revoke roles on our project; our own user keeps no role that is not listed."""
        path = f"/projects/{self.context.project_id()}/users/{user_id}/roles/"
        for name in sorted(add):
            self.client.request("PUT", "identity", path + self.role_id(name))
        for name in sorted(take):
            self.client.request("DELETE", "identity", path + self.role_id(name), allow=(404,))

    def role_id(self, name: str) -> str:
        found = self.client.list("identity", "/roles", "roles", name=name)
        if not found:
            raise invalid_option("users.roles", name, "expected a role that the region has; see 'openstack role list'")
        return str(found[0]["id"])


class Quota(Kind):
    """How much of Nova and Neutron our project may use. Quotas are removed with the project, never alone."""

    label = "quota"
    PLACES: t.ClassVar[dict[str, tuple[str, str]]] = {"compute": ("/os-quota-sets/", "quota_set"), "network": ("/quotas/", "quota")}

    def find(self, spec: Spec) -> State:
        project_id = self.context.project_id()
        if not project_id:
            return None
        state: dict[str, t.Any] = {}
        for service, desired in self.limits(spec).items():
            path, key = self.PLACES[service]
            found = self.client.get(service, path + project_id)[key]
            for name, value in desired.items():
                if name not in found:
                    names = ", ".join(sorted(found))
                    raise invalid_option(f"quotas.{service}.{name}", value, f"expected one of the region's quotas: {names}")
            state[service] = {name: found[name] for name in desired}
        return state

    def limits(self, spec: Spec) -> dict[str, dict[str, int]]:
        return {service: spec[service] for service in self.PLACES if spec.get(service)}

    def desired(self, spec: Spec) -> State:
        return dict(self.limits(spec))

    def apply(self, spec: Spec, plan: Plan) -> State:
        project_id = self.context.project_id()
        for service, (path, key) in self.PLACES.items():
            start = service + "."
            names = [field[len(start) :] for field in plan.fields if field.startswith(start)]
            if plan.action == CREATE:
                names = list(self.limits(spec).get(service) or {})
            if names:
                self.client.request("PUT", service, path + str(project_id), {key: {name: spec[service][name] for name in names}})
        return plan.after
