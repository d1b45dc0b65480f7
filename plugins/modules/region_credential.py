#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps one application credential per service in a region and its secret in a file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: region_credential
short_description: Manage the application credential of a service in an OpenStack region
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
description:
  - Creates an application credential with which a service (the Cloud Scheduler, for instance) reaches the region. Its access rules
    allow only the calls that the service needs.
  - The credential belongs to the account that the module logs in as, so log in as the service's user. It cannot create further credentials.
  - The secret is never shown. It is written to O(path), mode C(0600), before the request to Keystone, so that the next run
    completes an interrupted one.
  - An existing credential is only replaced with O(state=rotated). Its file follows the account's C(auth_url),
    C(region_name) and C(cacert).
options:
  name:
    description:
      - Name of the service that will use the credential.
    type: str
    required: true
  state:
    description:
      - V(present) creates a credential if there is no current one.
      - V(rotated) creates a new one beside the old, or completes an earlier rotation. The file then holds the new one.
      - V(pruned) removes all older ones; call it when the service has the new one.
      - V(absent) removes all credentials of the service and the file.
    type: str
    choices: [present, rotated, pruned, absent]
    default: present
  path:
    description:
      - File on the machine where the module runs that holds the credential with its secret, in YAML. Missing directories
        are created.
    type: path
    required: true
  region:
    description:
      - The site's name of the region; written to the file.
    type: str
  access_rules:
    description:
      - Calls that the service may make. Without rules it may do everything that its roles allow.
      - In paths C(*) matches one part, C(**) for any number. The prefix of a service's paths in the region (C(/compute), for
        instance) is added.
    type: list
    elements: dict
    default: []
    suboptions:
      service:
        description: Type of the service.
        type: str
        required: true
        choices: [compute, image, network]
      method:
        description: HTTP method.
        type: str
        required: true
        choices: [GET, HEAD, POST, PUT, PATCH, DELETE]
      path:
        description: Path of the call with the version of the API, for example V(/v2.1/servers/*).
        type: str
        required: true
  fallback:
    description:
      - Whether to create a credential without access rules, with a warning, if the region does not support them. Otherwise the
        module fails.
    type: bool
    default: true
  roles:
    description:
      - Names of the credential's roles; by default those of the account.
    type: list
    elements: str
  expires_in:
    description:
      - Days after which the credential expires, at midnight UTC; V(0) is never.
    type: int
    default: 365
  renew_before:
    description:
      - Days before expiry from which a warning asks for a rotation.
    type: int
    default: 30
  ownership_tag:
    description:
      - The ownership tag, as in M(hep.distcloud.region_resources).
    type: str
    default: distcloud
  login_pending:
    description:
      - Set this in check mode if an earlier task would create or repair the account. A refused login then counts as an account
        without credentials, with a warning; otherwise it is a failure.
    type: bool
    default: false
attributes:
  idempotent:
    support: partial
    details:
      - With O(state=rotated) every run after a finished rotation starts another.
notes:
  - In check mode an account that C(clouds.yaml) does not name yet counts as one without credentials, with a warning.
  - An account that logged in by an application credential can create others only if that credential is unrestricted.
extends_documentation_fragment:
  - hep.distcloud.openstack
  - hep.distcloud.attributes
seealso:
  - module: hep.distcloud.region_credential_info
  - module: hep.distcloud.region_resources
"""

EXAMPLES = r"""
- name: Let the scheduler list and boot servers only
  hep.distcloud.region_credential:
    cloud: region-a
    name: scheduler
    region: region-a
    path: /srv/site/credentials/region-a-scheduler.yml
    access_rules:
      - service: compute
        method: GET
        path: /v2.1/servers/detail
      - service: compute
        method: POST
        path: /v2.1/servers

- name: Create a new credential beside the old one
  hep.distcloud.region_credential:
    cloud: region-a
    name: scheduler
    state: rotated
    path: /srv/site/credentials/region-a-scheduler.yml

- name: Remove the old one after the scheduler has received the new one
  hep.distcloud.region_credential:
    cloud: region-a
    name: scheduler
    state: pruned
    path: /srv/site/credentials/region-a-scheduler.yml
"""

RETURN = r"""
credential:
  description: The current credential, without its secret; none with O(state=absent).
  returned: always
  type: dict
  contains:
    service:
      description: The service.
      type: str
    name:
      description: Its name in Keystone, which ends in its generation.
      type: str
    id:
      description: Its id; absent in check mode if not created yet.
      type: str
    expires_at:
      description: When it expires (UTC); none for never.
      type: str
    with_access_rules:
      description: Whether access rules limit it; before creation, whether they are desired.
      type: bool
    roles:
      description: Names of its roles.
      type: list
      elements: str
    path:
      description: The file that holds it.
      type: str
    superseded:
      description: Names of older credentials that still exist.
      type: list
      elements: str
failure:
  description: Structured form of the failure.
  returned: on failure
  type: dict
  contains:
    service:
      description: The service that refused, for example C(keystone) or C(file).
      type: str
    code:
      description: A stable identifier, for example V(lost), V(expired) or V(unreachable), or the HTTP status.
      type: raw
    details:
      description: Further data.
      type: dict
"""

import datetime
import secrets
import typing as t

from ..module_utils._core.files import read_yaml, remove, write_yaml
from ..module_utils._core.module import Failure, ResourceModule
from ..module_utils._core.reconcile import CREATE, DELETE, UPDATE, Plan, difference
from ..module_utils._openstack.client import (
    Client,
    connect,
    is_pending,
    login_with_credential,
    openstack_argument_spec,
    path_behind,
)
from ..module_utils._region.credential import (
    NOTHING,
    PRUNE,
    REMOVE,
    RESUME,
    Decision,
    Document,
    credential_name,
    decide,
    expiry,
    location_of,
    own_credentials,
    plan_location_update,
    probes,
    shown,
)
from ..module_utils._region.rules import describe, invalid_option

COMMENT = "An application credential with its secret, managed by hep.distcloud.region_credential: whoever can read it can use it."
PENDING = ".pending"


class RegionCredential(ResourceModule):
    service = "keystone"
    result_key = "credential"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        rule = {
            "service": {"type": "str", "required": True, "choices": ["compute", "image", "network"]},
            "method": {"type": "str", "required": True, "choices": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]},
            "path": {"type": "str", "required": True},
        }
        return {
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "rotated", "pruned", "absent"], "default": "present"},
            "path": {"type": "path", "required": True},
            "region": {"type": "str"},
            "access_rules": {"type": "list", "elements": "dict", "default": [], "options": rule},
            "fallback": {"type": "bool", "default": True},
            "roles": {"type": "list", "elements": "str"},
            "expires_in": {"type": "int", "default": 365},
            "renew_before": {"type": "int", "default": 30},
            "ownership_tag": {"type": "str", "default": "distcloud"},
            "login_pending": {"type": "bool", "default": False},
            **openstack_argument_spec(),
        }

    def connect(self) -> None:
        """Validate the options, read the files, then log in."""
        for index, rule in enumerate(self.params["access_rules"]):
            if not rule["path"].startswith("/"):
                raise invalid_option(f"access_rules[{index}].path", rule["path"], "expected a path that begins with a slash")
        for field in ("expires_in", "renew_before"):
            if self.params[field] < 0:
                raise invalid_option(field, self.params[field], "expected a number of days, 0 or more")
        self.stored = read_yaml(self.params["path"])
        self.pending = read_yaml(self.params["path"] + PENDING)
        for document in (self.stored, self.pending):
            if document and document.get("application_credential_secret"):
                self.module.no_log_values.add(document["application_credential_secret"])
        self.client: Client | None = None
        self.user_id = ""
        try:
            self.client = connect(self.params)
            self.account = self.client.me()
            self.user_id = str(self.account["user_id"])
        except Failure as failure:
            if not is_pending(failure, self.params, self.module.check_mode):
                raise
            self.module.warn(f"{failure.message}; check mode assumes an account without credentials")

    def listed(self) -> list[Document]:
        if self.client is None:
            return []
        return self.client.list("identity", f"/users/{self.user_id}/application_credentials", "application_credentials")

    def plan(self, item: dict[str, t.Any]) -> Plan:
        own = own_credentials(self.listed(), item["ownership_tag"], item["name"])
        now = datetime.datetime.now(datetime.timezone.utc)
        spec = dict(item, project_id=self.account["project_id"] if self.client else None)
        decision = decide(item["state"], item["name"], own, self.stored, self.pending, spec, now)
        self.own, self.decision = own, decision
        before = shown(self.stored, own, item["path"]) if self.stored else None
        if decision.step == NOTHING:
            here = location_of(self.client, item["interface"])
            return plan_location_update(before, self.stored if self.client else None, here, decision.warnings)
        if decision.step == REMOVE:
            gone = before or {"service": item["name"], "superseded": [entry["name"] for entry in own]}
            return Plan(DELETE, before=gone, warnings=decision.warnings)
        if decision.step == PRUNE:
            after = dict(before or {}, superseded=[])
            return Plan(UPDATE, before=before, after=after, fields=("superseded",), warnings=decision.warnings)
        self.document = self.pending if decision.step == RESUME and self.pending else self.new_document(item, decision, now)
        after = shown(self.document, own, item["path"])
        return Plan(
            UPDATE if before else CREATE, before=before, after=after, fields=difference(before or {}, after), warnings=decision.warnings
        )

    def new_document(self, item: dict[str, t.Any], decision: Decision, now: datetime.datetime) -> Document:
        client = self.client
        return {
            "region": item["region"] or (client.region_name if client else None) or item["cloud"],
            "service": item["name"],
            "name": credential_name(item["ownership_tag"], item["name"], decision.generation),
            "generation": decision.generation,
            "auth_type": "v3applicationcredential",
            **location_of(client, item["interface"]),
            "project_id": self.account["project_id"] if client else None,
            "user_id": self.user_id,
            "application_credential_id": None,
            "application_credential_secret": None,
            "expires_at": expiry(now, item["expires_in"]),
            "roles": sorted(item["roles"] or t.cast("list[str]", self.account["roles"] if client else [])),
            "with_access_rules": bool(item["access_rules"]),
            "access_rules_requested": [dict(rule) for rule in item["access_rules"]],
            "previous": [entry["id"] for entry in self.own],
        }

    def apply(self, item: dict[str, t.Any], plan: Plan) -> dict[str, t.Any] | None:
        path = item["path"]
        if self.decision.step == NOTHING:
            write_yaml(path, dict(self.stored or {}, **{field: (plan.after or {})[field] for field in plan.fields}), COMMENT)
            return plan.after
        if self.decision.step in (REMOVE, PRUNE):
            for entry in self.own:
                if entry["id"] in self.decision.to_remove:
                    self.delete(entry)
            if self.decision.step == REMOVE:
                remove(path + PENDING)
                remove(path)
                return None
            write_yaml(path, dict(self.stored or {}, previous=[]), COMMENT)
            return plan.after
        made = self.make(item, self.document)
        write_yaml(path, made, COMMENT)
        remove(path + PENDING)
        return shown(made, self.own, path)

    def make(self, item: dict[str, t.Any], document: Document) -> Document:
        """Create the credential, or find the one that an interrupted run has created, and try it."""
        if not document.get("application_credential_secret"):
            document = dict(document, application_credential_secret=secrets.token_urlsafe(48))
            self.module.no_log_values.add(document["application_credential_secret"])
            write_yaml(item["path"] + PENDING, document, COMMENT)
        entry = next((known for known in self.own if known["name"] == document["name"]), None)
        if entry is None:
            try:
                entry = self.create(document)
            except Failure as failure:
                # The message of a Keystone without them; any other refusal means that the rules are invalid.
                if failure.code != 400 or "'access_rules' was unexpected" not in failure.message or not document["with_access_rules"]:
                    raise self.explained(failure)
                document = self.without_rules(item, document, "Keystone does not know access rules")
                entry = self.create(document)
        document = dict(document, application_credential_id=entry["id"])
        refused = self.refused_by(document) if document["with_access_rules"] else ""
        if refused:
            self.delete(entry)
            document = self.without_rules(item, document, f"its {refused} service refuses a request that the rules allow")
            document = dict(document, application_credential_id=self.create(document)["id"])
        return document

    def explained(self, failure: Failure) -> Failure:
        if failure.code == 403:
            failure.message += (
                "; an account that logs in by a restricted application credential may not make others: "
                "let clouds.yaml log in by password, or by an unrestricted one"
            )
        return failure

    def without_rules(self, item: dict[str, t.Any], document: Document, why: str) -> Document:
        """The same without access rules, with a warning, or a failure unless the user allows it."""
        if not item["fallback"]:
            raise Failure(
                f"the region does not support access rules ({why}); set fallback: true to accept a credential without them, "
                "or ask its admin to set service_type in [keystone_authtoken] of each service",
                self.service,
                "no_access_rules",
            )
        self.module.warn(
            f"the region does not support access rules ({why}): the credential of {item['name']} can do all that its roles "
            "allow. Its admin can help by setting service_type in [keystone_authtoken] of each service; then rotate the "
            "credential"
        )
        document = dict(document, with_access_rules=False, application_credential_id=None)
        write_yaml(item["path"] + PENDING, document, COMMENT)
        return document

    def create(self, document: Document) -> Document:
        body: dict[str, t.Any] = {
            "name": document["name"],
            "secret": document["application_credential_secret"],
            "description": describe(f"Used by {document['service']}", self.params["ownership_tag"]),
            "unrestricted": False,
        }
        if document["expires_at"]:
            body["expires_at"] = document["expires_at"].replace("Z", ".000000Z")
        if self.params["roles"]:
            body["roles"] = [{"name": name} for name in document["roles"]]
        if document["with_access_rules"]:
            placed = ((rule, path_behind(self.api.base(rule["service"]), rule["path"])) for rule in document["access_rules_requested"])
            body["access_rules"] = [dict(rule, path=path) for rule, path in placed]
        path = f"/users/{self.user_id}/application_credentials"
        return self.api.request("POST", "identity", path, {"application_credential": body})["application_credential"]

    @property
    def api(self) -> Client:
        if self.client is None:
            raise Failure("not logged in", self.service, "login")
        return self.client

    def refused_by(self, document: Document) -> str:
        """The service that responds with 401 to a request that the rules allow; empty if all support them."""
        client = login_with_credential(self.api, document)
        for service, path in probes(document["access_rules_requested"]).items():
            if client.status(service, path) == 401:
                return service
        return ""

    def delete(self, entry: Document) -> None:
        """Remove a credential and those of its access rules that no other uses."""
        user = f"/users/{self.user_id}"
        self.api.request("DELETE", "identity", f"{user}/application_credentials/{entry['id']}", allow=(404,))
        for rule in entry.get("access_rules") or []:
            self.api.request("DELETE", "identity", f"{user}/access_rules/{rule['id']}", allow=(403, 404))


def main() -> None:
    RegionCredential.main()


if __name__ == "__main__":
    main()
