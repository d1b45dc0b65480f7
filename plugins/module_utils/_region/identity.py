# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a region's admin gives a tenant in Keystone, and how much: project, users with their roles, quotas.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import typing as t

from .._core.module import Failure
from .._core.reconcile import CREATE, DELETE, Plan
from .image import OWNER
from .kind import Kind, State, Wish
from .network import ports_left
from .rules import bad, describe, is_ours


class Project(Kind):
    """The project (tenant) that holds all that is ours in the region."""

    word = "project"
    service = "keystone"

    def look(self, wish: Wish) -> State:
        return self.context.found_project()

    def state_of(self, raw: dict[str, t.Any], wish: Wish) -> dict[str, t.Any]:
        return {"name": raw["name"], "id": raw["id"], "description": raw.get("description") or "", "enabled": raw["enabled"]}

    def desired(self, wish: Wish) -> State:
        if wish.get("existing"):
            return {"name": wish["name"]}
        return {"name": wish["name"], "description": describe(wish.get("description"), self.context.mark), "enabled": True}

    def apply(self, wish: Wish, plan: Plan) -> State:
        if plan.action == DELETE:
            project_id = plan.before["id"]
            self.clear(project_id)
            self.client.request("DELETE", "identity", "/projects/" + project_id)
            self.context.made_project(None)
            return None
        if plan.action == CREATE:
            body = dict(plan.after, domain_id=self.context.domain_id(wish["domain"]))
            made = self.client.request("POST", "identity", "/projects", {"project": body})["project"]
        else:
            changes = {field: plan.after[field] for field in plan.fields}
            made = self.client.request("PATCH", "identity", "/projects/" + plan.before["id"], {"project": changes})["project"]
        self.context.made_project(made)
        return self.state_of(made, wish)

    def clear(self, project_id: str) -> None:
        """Take away what the services made by themselves for the project: quota rows and Neutron's default security group."""
        self.client.request("DELETE", "compute", "/os-quota-sets/" + project_id, allow=(404,))
        self.client.request("DELETE", "network", "/quotas/" + project_id, allow=(404,))
        for group in self.client.list("network", "/security-groups", "security_groups", project_id=project_id, name="default"):
            self.client.request("DELETE", "network", "/security-groups/" + group["id"], allow=(404,))

    def holdings(self, images_of: t.Optional[str]) -> list[str]:
        """What stands in our project, or on its networks, and is not ours to remove."""
        project_id = self.context.project_id()
        if not project_id:
            return []
        servers = self.servers(project_id)
        left = ["server %s" % server["name"] for server in servers]
        found: dict[str, list[dict[str, t.Any]]] = {}
        for word, path, key in (
            ("network", "/networks", "networks"),
            ("router", "/routers", "routers"),
            ("security group", "/security-groups", "security_groups"),
            ("floating IP", "/floatingips", "floatingips"),
        ):
            found[key] = self.listed("network", path, key, project_id=project_id)
            for raw in found[key]:
                if not is_ours(raw.get("description"), self.context.mark) and not (key == "security_groups" and raw["name"] == "default"):
                    left.append("%s %s" % (word, raw.get("name") or raw.get("floating_ip_address") or raw["id"]))
        ports = self.listed("network", "/ports", "ports", project_id=project_id)
        for network in found["networks"]:
            ports += self.listed("network", "/ports", "ports", network_id=network["id"])
        left += ports_left(ports, {raw["id"] for raw in servers + found["routers"]})
        if self.client.offers("block-storage"):
            volumes = self.listed("block-storage", "/volumes/detail", "volumes", all_tenants="1", project_id=project_id)
            left += ["volume %s" % (volume.get("name") or volume["id"]) for volume in volumes]
        for image in self.listed("image", "/images", "images", owner=project_id):
            if images_of is None or image.get(OWNER) != images_of:
                left.append("image %s" % (image.get("name") or image["id"]))
        return left

    def servers(self, project_id: str) -> list[dict[str, t.Any]]:
        return self.client.list("compute", "/servers/detail", "servers", all_tenants="1", project_id=project_id)

    def listed(self, service: str, path: str, key: str, **query: t.Any) -> list[dict[str, t.Any]]:
        """A listing, empty where the region does not have that part of the API (no router extension, for instance)."""
        try:
            return self.client.list(service, path, key, **query)
        except Failure as failure:
            if failure.code == 404:
                return []
            raise


class User(Kind):
    """A user of our project, with its roles there and its password, which is compared by logging in with it."""

    word = "user"
    service = "keystone"
    secrets = ("password",)

    def look(self, wish: Wish) -> State:
        domain = self.context.domain_id(self.domain(wish))
        return next(iter(self.client.list("identity", "/users", "users", name=wish["name"], domain_id=domain)), None)

    def domain(self, wish: Wish) -> str:
        return wish.get("domain") or (self.context.project or {}).get("domain") or "Default"

    def state_of(self, raw: dict[str, t.Any], wish: Wish) -> dict[str, t.Any]:
        roles = self.roles_of(raw["id"])
        return {
            "name": raw["name"],
            "id": raw["id"],
            "description": raw.get("description") or "",
            "enabled": raw["enabled"],
            # Of somebody else's user we speak only of the roles that we give.
            "roles": sorted(set(roles) & set(wish["roles"]) if wish.get("existing") else roles),
        }

    def roles_of(self, user_id: str) -> set[str]:
        """Names of the roles that were given to the user on our project."""
        project_id = self.context.project_id()
        if not project_id:
            return set()
        query = {"user.id": user_id, "scope.project.id": project_id, "include_names": "true"}
        found = self.client.list("identity", "/role_assignments", "role_assignments", **query)
        return {entry["role"]["name"] for entry in found if "OS-INHERIT:inherited_to" not in entry["scope"]}

    def find(self, wish: Wish) -> State:
        if not (wish.get("existing") and self.context.absent):
            return super().find(wish)
        raw = self.look(wish)
        state = self.state_of(raw, wish) if raw else None
        if state is None or not state["roles"]:
            return None
        project = self.context.found_project() or {}
        if self.ours(project):
            return state  # all roles in a project of ours were given by us
        self.context.warn(
            "user %s keeps its roles (%s) on project %s: neither is ours, and nothing tells who gave them; if this site did, take them by "
            "'openstack role remove'" % (wish["name"], ", ".join(state["roles"]), project.get("name"))
        )
        return None

    def desired(self, wish: Wish) -> State:
        roles = sorted(wish["roles"])
        if wish.get("existing"):
            return {"name": wish["name"], "roles": roles}
        state = {"name": wish["name"], "description": describe(wish.get("description"), self.context.mark), "enabled": True, "roles": roles}
        if wish.get("password"):
            state["password"] = wish["password"]
        return state

    def changed_secrets(self, wish: Wish, current: State) -> t.Collection[str]:
        """The password, where a log-in with it is refused: no service tells a password, but it tells whether one is right.

        A disabled user may not log in with any, so that it gets the wished one together with its being enabled.
        """
        if current is None or not wish.get("password") or wish.get("existing"):
            return ()
        if not current["enabled"]:
            return ("password",)
        identity = {"methods": ["password"], "password": {"user": {"id": current["id"], "password": wish["password"]}}}
        body = {"auth": {"identity": identity, "scope": "unscoped"}}
        accepted = self.client.request("POST", "identity", "/auth/tokens", body, allow=(401,), authenticated=False, nocatalog="1")
        return () if accepted else ("password",)

    def apply(self, wish: Wish, plan: Plan) -> State:
        if plan.action == DELETE:
            if wish.get("existing"):
                self.set_roles(plan.before["id"], add=[], take=plan.before["roles"])
            else:
                self.client.request("DELETE", "identity", "/users/" + plan.before["id"])
            return None
        fields = {"name", "description", "enabled"} & set(plan.fields)
        body = {field: plan.after[field] for field in fields}
        if plan.action == CREATE:
            if not wish.get("password"):
                raise bad("users.password", None, "expected a password, or a password_file, for the new user %s" % wish["name"])
            body.update(password=wish["password"], domain_id=self.context.domain_id(self.domain(wish)))
            made = self.client.request("POST", "identity", "/users", {"user": body})["user"]
        else:
            if "password" in plan.secrets:
                body["password"] = wish["password"]
            path = "/users/" + plan.before["id"]
            made = (self.client.request("PATCH", "identity", path, {"user": body}) if body else self.client.get("identity", path))["user"]
        if "roles" in plan.fields:
            before = (plan.before or {}).get("roles", [])
            self.set_roles(made["id"], add=set(plan.after["roles"]) - set(before), take=set(before) - set(plan.after["roles"]))
        return self.state_of(made, wish)

    def set_roles(self, user_id: str, add: t.Collection[str], take: t.Collection[str]) -> None:
        """Give and take roles on our project; a role too many on our own user is a right too many."""
        path = "/projects/%s/users/%s/roles/" % (self.context.project_id(), user_id)
        for name in sorted(add):
            self.client.request("PUT", "identity", path + self.role_id(name))
        for name in sorted(take):
            self.client.request("DELETE", "identity", path + self.role_id(name), allow=(404,))

    def role_id(self, name: str) -> str:
        found = self.client.list("identity", "/roles", "roles", name=name)
        if not found:
            raise bad("users.roles", name, "expected a role that the region has; see 'openstack role list'")
        return str(found[0]["id"])


class Quota(Kind):
    """How much of Nova and Neutron our project may use. Quotas go with the project, so they are never removed alone."""

    word = "quota"
    PLACES: t.ClassVar[dict[str, tuple[str, str]]] = {"compute": ("/os-quota-sets/", "quota_set"), "network": ("/quotas/", "quota")}

    def find(self, wish: Wish) -> State:
        project_id = self.context.project_id()
        if not project_id:
            return None
        state: dict[str, t.Any] = {}
        for service, wished in self.wished(wish).items():
            path, key = self.PLACES[service]
            found = self.client.get(service, path + project_id)[key]
            for name, value in wished.items():
                if name not in found:
                    names = ", ".join(sorted(found))
                    raise bad("quotas.%s.%s" % (service, name), value, "expected one of the region's quotas: %s" % names)
            state[service] = {name: found[name] for name in wished}
        return state

    def wished(self, wish: Wish) -> dict[str, dict[str, int]]:
        return {service: wish[service] for service in self.PLACES if wish.get(service)}

    def desired(self, wish: Wish) -> State:
        return dict(self.wished(wish))

    def apply(self, wish: Wish, plan: Plan) -> State:
        project_id = self.context.project_id()
        for service, (path, key) in self.PLACES.items():
            start = service + "."
            names = [field[len(start) :] for field in plan.fields if field.startswith(start)]
            if plan.action == CREATE:
                names = list(self.wished(wish).get(service) or {})
            if names:
                self.client.request("PUT", service, path + str(project_id), {key: {name: wish[service][name] for name in names}})
        return plan.after
