#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Brings what a site needs in an OpenStack region to the desired state, all in one login."""

from __future__ import annotations

DOCUMENTATION = r"""
module: region_resources
short_description: Manage a site's project, users, quotas, flavors, networks, security groups and key pairs in a region
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
description:
  - Brings everything that a site needs in one OpenStack region to the desired state. It does so in one call with one login, because
    logging in and importing the SDK take longer than everything else.
  - Every resource carries an ownership tag in its description (a key pair in its comment). A resource of the same name without the
    tag is never changed and never removed.
  - Unset options change nothing.
options:
  state:
    description:
      - V(present) creates what is missing and corrects what differs.
      - V(absent) removes the listed resources that are ours, in reverse order. Nothing is removed if the project still contains
        foreign resources, or if foreign ports use the listed networks or security groups.
    type: str
    choices: [present, absent]
    default: present
  ownership_tag:
    description:
      - The ownership tag, in brackets in the description of every resource. Two sites in one project need two tags.
    type: str
    default: distcloud
  project:
    description:
      - The project that holds everything. Only an admin of the region may set it; the default is the account's own project.
    type: dict
    suboptions:
      name:
        description: Name of the project.
        type: str
        required: true
      domain:
        description: Name of the domain of project and users.
        type: str
        default: Default
      description:
        description: What the project is for.
        type: str
        default: ""
      existing:
        description: Whether the project is managed elsewhere; then it is used, but never changed or removed.
        type: bool
        default: false
  login_pending:
    description:
      - Set this in check mode if an earlier task would create or repair the account. A refused login then counts as an empty region,
        with a warning; otherwise it is a failure.
    type: bool
    default: false
notes:
  - In check mode an account that C(clouds.yaml) does not name yet counts as an empty region, with a warning, so that an intake can be
    checked before the project exists.
extends_documentation_fragment:
  - hep.distcloud.region_specs
  - hep.distcloud.openstack
  - hep.distcloud.attributes
seealso:
  - module: hep.distcloud.region_resources_info
  - module: hep.distcloud.region_credential
"""

EXAMPLES = r"""
- name: Create project, user and flavor as the region's admin
  hep.distcloud.region_resources:
    cloud: region-a-admin
    project:
      name: distcloud
    users:
      - name: distcloud
        password_file: /srv/site/secrets/region-a-distcloud
    quotas:
      compute:
        instances: 20
        cores: 80
    flavors:
      - name: distcloud.small
        vcpus: 1
        ram: 2048
        disk: 10

- name: Create security group and key pair as the project's user
  hep.distcloud.region_resources:
    cloud: region-a
    security_groups:
      - name: distcloud
        rules:
          - protocol: tcp
            port_min: 22
            remote_ip_prefix: 192.0.2.0/24
    key_pairs:
      - name: distcloud
        public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample site
"""

RETURN = r"""
resources:
  description: The listed resources in the region, by kind; empty lists for kinds without listed resources.
  returned: always
  type: dict
  contains:
    project:
      description: The project with its id.
      type: list
      elements: dict
    user:
      description: Users with their ids and roles, never with passwords.
      type: list
      elements: dict
    quota:
      description: The listed quotas.
      type: list
      elements: dict
    flavor:
      description: Flavors with their ids.
      type: list
      elements: dict
    network:
      description: Networks with their ids and subnets.
      type: list
      elements: dict
    router:
      description: Routers with their ids.
      type: list
      elements: dict
    security_group:
      description: Security groups with their ids and rules.
      type: list
      elements: dict
    key_pair:
      description: Key pairs.
      type: list
      elements: dict
    images:
      description: Always empty.
      type: list
      elements: dict
failure:
  description: Structured form of the failure.
  returned: on failure
  type: dict
  contains:
    service:
      description: The service that refused, for example C(keystone), C(nova), C(neutron), C(options).
      type: str
    code:
      description: A stable identifier, for example V(unreachable) or V(foreign), or the HTTP status.
      type: raw
    details:
      description: Further data.
      type: dict
"""

import os
import typing as t

from ..module_utils._core.module import Failure, ResourceModule
from ..module_utils._core.reconcile import Plan, reconcile
from ..module_utils._openstack.client import connect, is_pending, openstack_argument_spec
from ..module_utils._region.compute import Flavor, KeyPair
from ..module_utils._region.identity import Project, Quota, User
from ..module_utils._region.image import Images
from ..module_utils._region.kind import Context, Kind
from ..module_utils._region.network import Network, Router, SecurityGroup, attached
from ..module_utils._region.options import resource_options
from ..module_utils._region.rules import check_specs, invalid_option, quota_limits

# Option and kind, in the order of their dependencies.
KINDS: tuple[tuple[str, str, type[Kind]], ...] = (
    ("project", "project", Project),
    ("users", "user", User),
    ("quotas", "quota", Quota),
    ("flavors", "flavor", Flavor),
    ("networks", "network", Network),
    ("routers", "router", Router),
    ("security_groups", "security_group", SecurityGroup),
    ("key_pairs", "key_pair", KeyPair),
    ("images_of", "images", Images),
)
NEED_PROJECT = ("users", "quotas", "flavors")


class RegionResources(ResourceModule):
    service = "openstack"
    result_key = "resources"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "ownership_tag": {"type": "str", "default": "distcloud"},
            "images_of": {"type": "str"},
            "login_pending": {"type": "bool", "default": False},
            **resource_options(),
            **openstack_argument_spec(),
        }

    def connect(self) -> None:
        """Validate the options, then log in."""
        check_specs(self.params)
        self.params["quotas"] = quota_limits("quotas", self.params["quotas"])
        for option in NEED_PROJECT:
            if self.params[option] and not self.params["project"]:
                raise invalid_option(option, "given without project", "expected project as well, since an admin must name it")
        for user in self.params["users"] or []:
            user["password"] = user["password"] or self.password_of(user)
        self.absent = self.params["state"] == "absent"
        self.empty = False
        self.done_kinds: list[str] = []
        self.kinds: dict[str, Kind] = {}
        client: t.Any = None
        try:
            client = connect(self.params)
        except Failure as failure:
            if not is_pending(failure, self.params, self.module.check_mode):
                raise
            self.module.warn(f"{failure.message}; check mode assumes an empty region")
            self.empty = True
        context = Context(client, self.params["ownership_tag"], self.absent, self.params["project"], self.module.warn)
        self.kinds = {word: kind(context) for option, word, kind in KINDS}

    def password_of(self, user: dict[str, t.Any]) -> str | None:
        path = user["password_file"]
        if not path or not os.path.exists(path):
            return None
        try:
            with open(path, encoding="utf-8") as file:
                password = file.readline().strip()
        except OSError as error:
            raise invalid_option("users.password_file", path, f"expected a file that can be read ({error.strerror})")
        if not password:
            raise invalid_option("users.password_file", path, "expected a password in its first line")
        self.module.no_log_values.add(password)
        return password

    def items(self) -> list[dict[str, t.Any]]:
        """All specs with their kinds, in the order of creation, reversed for removal."""
        found: list[dict[str, t.Any]] = []
        for option, word, _kind in KINDS:
            value = self.params[option]
            if isinstance(value, str):
                value = {"name": value}
            specs = value if isinstance(value, list) else [value] if value else []
            found.extend(dict(spec, kind=word) for spec in specs)
        if not self.absent:
            return [item for item in found if item["kind"] != "images"]
        self.guard()
        return [item for item in reversed(found) if item["kind"] != "quota"]

    def guard(self) -> None:
        """Refuse to remove anything while foreign resources block it: the admin decides about those."""
        project = self.params["project"]
        kind = self.kinds["project"]
        if self.empty:
            return
        if not project or project["existing"] or not isinstance(kind, Project):
            left = self.attached()
            what = "our networks and security groups are still used by"
            advice = "Retire the workers of this region (distcloud scheduler vms) and have the others removed first"
        else:
            left = kind.holdings(self.params["images_of"]) if kind.find(project) else []
            what = f"project {project['name']} still holds resources that are not ours:"
            advice = "Remove these or give them to another project first"
        if left:
            raise Failure(f"{what} {', '.join(left[:20])}. {advice}", self.service, "not_empty", {"holdings": left})

    def attached(self) -> list[str]:
        """Foreign ports on the networks, and in the security groups, that are to be removed."""
        ids: dict[str, set[str]] = {}
        for option, word in (("networks", "network"), ("routers", "router"), ("security_groups", "security_group")):
            found = [self.kinds[word].own_id(spec) for spec in self.params[option] or []]
            ids[option] = {own for own in found if own}
        kind = self.kinds["network"]
        return attached(kind, ids["networks"], ids["security_groups"], ids["routers"]) if isinstance(kind, Network) else []

    def name_of(self, item: dict[str, t.Any]) -> str:
        return f"{self.kinds[item['kind']].label} {item.get('name') or 'of the project'}"

    def plan(self, item: dict[str, t.Any]) -> Plan:
        kind = self.kinds[item["kind"]]
        self.done_kinds.append(item["kind"])
        self.immutable = kind.immutable_fields(item)
        current = None if self.empty else kind.find(item)
        return reconcile(
            current,
            None if self.absent else kind.desired(item),
            immutable=self.immutable,
            secrets=kind.secrets,
            changed_secrets=() if self.empty or self.absent else kind.changed_secrets(item, current),
            whole=kind.whole,
        )

    def may_replace(self, item: dict[str, t.Any]) -> bool:
        return self.kinds[item["kind"]].replaceable

    def apply(self, item: dict[str, t.Any], plan: Plan) -> dict[str, t.Any] | None:
        return self.kinds[item["kind"]].apply(item, plan)

    def _result(self, done: list[tuple[Plan, dict[str, t.Any] | None, str]], plural: bool) -> dict[str, t.Any]:
        """The base's result for many items, sorted by kind."""
        self.plural_key = "all"
        result = super()._result(done, True)
        result.pop("all")
        resources: dict[str, list[t.Any]] = {word: [] for option, word, kind in KINDS}
        for index, (_plan, after, _name) in enumerate(done):
            word = self.done_kinds[index]
            if after is not None:
                resources[word].append(after)
        return dict(result, resources=resources)


def main() -> None:
    RegionResources.main()


if __name__ == "__main__":
    main()
