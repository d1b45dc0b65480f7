#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: keystone_catalog
short_description: Manage service users and service catalog of an OpenStack region in one call
description:
  - Creates the project of the service users, the users with their roles, the services and their endpoints in one region.
  - Endpoints of other regions, and services and users that are not listed, stay as they are.
  - Logs in to find out whether a user has the given password.
  - In check mode against a Keystone that does not answer yet, everything counts as missing.
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.attributes
requirements:
  - keystoneauth1
options:
  auth_url:
    description: Keystone's address, with C(/v3).
    type: str
    required: true
  username:
    description: The administrator's name, in the domain Default.
    type: str
    default: admin
  password:
    description: The administrator's password.
    type: str
    required: true
  ca_cert:
    description: File with the certificates to trust.
    type: path
  region:
    description: Region of the listed endpoints.
    type: str
    required: true
  project:
    description: The project of the service users.
    type: str
    default: service
  roles:
    description: The roles of each service user in the project; created if missing.
    type: list
    elements: str
    default: [admin, service]
  users:
    description: The service users.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The user's name.
        type: str
        required: true
      password:
        description: The user's password.
        type: str
        required: true
  services:
    description: The services and their endpoints.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The service's name.
        type: str
        required: true
      type:
        description: The service's type.
        type: str
        required: true
      public:
        description: The public endpoint.
        type: str
        required: true
      internal:
        description: The internal endpoint, for the other services of the region.
        type: str
        required: true
  after_region:
    description:
      - Another region of this Keystone whose endpoints must exist first. Two regions that come up at the same time would
        make users and services twice.
    type: str
  after_types:
    description: The service types that O(after_region) must have.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait for Keystone to answer, and then for O(after_region).
    type: int
    default: 180
"""

EXAMPLES = r"""
- name: Catalog of a region
  hep.distcloud.keystone_catalog:
    auth_url: http://127.0.0.1:5000/v3
    password: "{{ admin_password }}"
    region: region-a
    users:
      - name: glance
        password: "{{ service_password }}"
    services:
      - name: glance
        type: image
        public: https://region-a.example.org:9292
        internal: http://127.0.0.1:9292
"""

RETURN = r"""
done:
  description: What was created or changed (in check mode, would be).
  returned: always
  type: list
  elements: str
  sample: ["create user glance", "create endpoint image public"]
"""

import time
import typing as t

from ..module_utils._core.module import BaseModule, Failure


def wanted_endpoints(services: t.Iterable[dict[str, str]]) -> dict[tuple[str, str], str]:
    """(type of service, interface) -> URL."""
    wanted = {}
    for service in services:
        wanted[service["type"], "public"] = service["public"]
        wanted[service["type"], "internal"] = service["internal"]
        wanted[service["type"], "admin"] = service["internal"]
    return wanted


class KeystoneCatalog(BaseModule):
    """Reads each listing once, then creates what is missing. Plain REST, because importing the SDK alone takes as long."""

    service = "keystone"
    result_key = "done"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {
            "auth_url": {"type": "str", "required": True},
            "username": {"type": "str", "default": "admin"},
            "password": {"type": "str", "required": True, "no_log": True},
            "ca_cert": {"type": "path"},
            "region": {"type": "str", "required": True},
            "project": {"type": "str", "default": "service"},
            "roles": {"type": "list", "elements": "str", "default": ["admin", "service"]},
            "users": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "password": {"type": "str", "required": True, "no_log": True},
                },
            },
            "services": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {name: {"type": "str", "required": True} for name in ("name", "type", "public", "internal")},
            },
            "after_region": {"type": "str"},
            "after_types": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 180},
        }

    def connect(self) -> None:
        try:
            from keystoneauth1 import exceptions, session
            from keystoneauth1.identity import v3
        except ImportError as error:
            raise Failure("python3-keystoneauth1 is missing on this host; install it", self.service, "keystoneauth1") from error
        self.refused = (exceptions.Unauthorized,)
        self.errors = exceptions.ClientException
        self.v3 = v3
        self.new_session = session.Session

    def login(self, name: str, password: str, project: str | None) -> t.Any:
        scope: dict[str, t.Any] = {"project_name": project, "project_domain_id": "default"} if project else {}
        auth = self.v3.Password(
            auth_url=self.params["auth_url"], username=name, password=password, user_domain_id="default", include_catalog=False, **scope
        )
        found = self.new_session(auth=auth, verify=self.params["ca_cert"] or True, timeout=60)
        found.get_token()
        return found

    def wait_for_keystone(self) -> bool:
        """Log in as the administrator; False in check mode where nothing answers."""
        deadline = time.monotonic() + (3 if self.module.check_mode else self.params["timeout"])
        while True:
            try:
                self.session = self.login(self.params["username"], self.params["password"], self.params["username"])
                return True
            except self.refused as error:
                if self.module.check_mode:
                    return False
                raise Failure(
                    f"Keystone at {self.params['auth_url']} refuses the administrator's password; check whether somebody changed it",
                    self.service,
                    401,
                ) from error
            except self.errors as error:
                if time.monotonic() > deadline:
                    if self.module.check_mode:
                        return False
                    raise Failure(
                        f"Keystone does not answer at {self.params['auth_url']} after {self.params['timeout']} s: {error}",
                        self.service,
                        "timeout",
                    ) from error
                time.sleep(0.3)

    def call(self, verb: str, path: str, body: dict[str, t.Any] | None = None) -> t.Any:
        try:
            answer = self.session.request(
                self.params["auth_url"] + path, verb, json=body, raise_exc=True, headers={"Accept": "application/json"}
            )
        except self.errors as error:
            raise Failure(f"Keystone refused {verb} {path}: {error}", self.service, getattr(error, "http_status", 0)) from error
        return answer.json() if answer.text else {}

    def listing(self, kind: str, query: str = "") -> list[dict[str, t.Any]]:
        return list(self.call("GET", f"/{kind}{query}")[kind]) if self.answers else []

    def change(self, what: str, verb: str, path: str, kind: str, body: dict[str, t.Any]) -> dict[str, t.Any]:
        """Record the change and apply it, except in check mode; the resulting resource."""
        self.done.append(what)
        if self.module.check_mode:
            return {"id": "(made later)", **body}
        return dict(self.call(verb, path, {kind: body} if body else None).get(kind, {}))

    def run(self) -> None:
        self.done: list[str] = []
        try:
            self.connect()
            self.answers = self.wait_for_keystone()
            self.wait_for_first_region()
            self.users()
            self.catalog()
        except Failure as failure:
            self.fail(failure, changed=bool(self.done), done=self.done)
        changed = bool(self.done)
        diff = {"before": "", "after": "".join(line + "\n" for line in self.done)}
        self.module.exit_json(changed=changed, done=self.done, diff=diff if changed else {})

    def wait_for_first_region(self) -> None:
        """Two runs that create a service of the same type at the same time would create it twice: Keystone has no unique type."""
        first = self.params["after_region"]
        deadline = time.monotonic() + self.params["timeout"]
        wanted = set(self.params["after_types"])
        while first and not self.module.check_mode:
            types = {service["id"]: service["type"] for service in self.listing("services")}
            there = self.listing("endpoints", "?interface=admin&region_id=" + first)
            missing = wanted - {types.get(one["service_id"]) for one in there}
            if not missing:
                return
            if time.monotonic() > deadline:
                raise Failure(
                    f"region {first}, whose Keystone is shared, has no endpoints of {', '.join(sorted(missing))} after "
                    f"{self.params['timeout']} s; deploy it first",
                    self.service,
                    "timeout",
                )
            time.sleep(0.5)

    def users(self) -> None:
        domain = {"domain_id": "default"}
        name = self.params["project"]
        project = next(iter(self.listing("projects", "?domain_id=default&name=" + name)), None) or self.change(
            "create project " + name, "POST", "/projects", "project", {"name": name, **domain}
        )
        if not project.get("enabled", True):
            self.change("enable project " + name, "PATCH", "/projects/" + project["id"], "project", {"enabled": True})
        roles = {role["name"]: role for role in self.listing("roles")}
        for name in self.params["roles"]:
            if name not in roles:
                roles[name] = self.change("create role " + name, "POST", "/roles", "role", {"name": name})
        users = {user["name"]: user for user in self.listing("users", "?domain_id=default")}
        held = {
            (one["user"]["id"], one["role"]["id"])
            for one in self.listing("role_assignments", "?scope.project.id=" + project["id"])
            if "user" in one
        }
        for spec in self.params["users"]:
            user = users.get(spec["name"])
            if user is None:
                user = self.change(
                    "create user " + spec["name"],
                    "POST",
                    "/users",
                    "user",
                    {"name": spec["name"], "password": spec["password"], "default_project_id": project["id"], **domain},
                )
            elif not user.get("enabled", True):  # a login would be refused, whatever the password
                body = {"enabled": True, "password": spec["password"]}
                self.change("enable user " + spec["name"], "PATCH", "/users/" + user["id"], "user", body)
            elif not self.has_password(spec):
                self.change("set password of user " + spec["name"], "PATCH", "/users/" + user["id"], "user", {"password": spec["password"]})
            for name in self.params["roles"]:
                if (user["id"], roles[name]["id"]) not in held:
                    self.change(
                        f"give role {name} to user {spec['name']}",
                        "PUT",
                        f"/projects/{project['id']}/users/{user['id']}/roles/{roles[name]['id']}",
                        "role",
                        {},
                    )

    def has_password(self, spec: dict[str, str]) -> bool:
        try:
            self.login(spec["name"], spec["password"], None)
        except self.refused:
            return False
        return True

    def catalog(self) -> None:
        services = {service["type"]: service for service in self.listing("services")}
        for spec in self.params["services"]:
            if spec["type"] not in services:
                services[spec["type"]] = self.change(
                    "create service " + spec["type"], "POST", "/services", "service", {"name": spec["name"], "type": spec["type"]}
                )
            elif not services[spec["type"]].get("enabled", True):
                path = "/services/" + services[spec["type"]]["id"]
                self.change("enable service " + spec["type"], "PATCH", path, "service", {"enabled": True})
        region = self.params["region"]
        if region not in {one["id"] for one in self.listing("regions")}:
            self.change("create region " + region, "POST", "/regions", "region", {"id": region})
        types = {service["id"]: kind for kind, service in services.items()}
        there = {
            (types[one["service_id"]], one["interface"]): one
            for one in self.listing("endpoints", "?region_id=" + region)
            if one["service_id"] in types
        }
        for (kind, interface), url in wanted_endpoints(self.params["services"]).items():
            name = f"endpoint {kind} {interface}"
            if (kind, interface) not in there:
                body = {"service_id": services[kind]["id"], "interface": interface, "region_id": region, "url": url}
                self.change("create " + name, "POST", "/endpoints", "endpoint", body)
            elif there[kind, interface]["url"] != url or not there[kind, interface].get("enabled", True):
                body = {"url": url, "enabled": True}
                self.change("change " + name, "PATCH", "/endpoints/" + there[kind, interface]["id"], "endpoint", body)


def main() -> None:
    KeystoneCatalog.main()


if __name__ == "__main__":
    main()
