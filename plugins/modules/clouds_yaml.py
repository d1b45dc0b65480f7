#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: clouds_yaml
short_description: Manage one entry of a clouds.yaml file
description:
  - Brings one entry of a C(clouds.yaml) to the desired content and keeps all other entries.
  - Concurrent runs on one file are safe, because a lock file serializes them.
  - Only the file's owner can read it.
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.attributes
requirements:
  - PyYAML
options:
  path:
    description: Path of the file; created if missing.
    type: path
    required: true
  name:
    description: The entry's name.
    type: str
    required: true
  entry:
    description: The complete entry in the OpenStack SDK's format; other keys are removed. Not needed for O(state=absent).
    type: dict
  state:
    description: Whether the entry exists.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Let the administrator of a region log in
  hep.distcloud.clouds_yaml:
    path: ~/.config/openstack/clouds.yaml
    name: region-a-admin
    entry:
      auth:
        auth_url: https://region-a.example.org:5000/v3
        username: admin
        password: "{{ admin_password }}"
        project_name: admin
        user_domain_id: default
        project_domain_id: default
      region_name: region-a
"""

RETURN = r"""
cloud:
  description: The entry afterwards (in check mode, as predicted), with its secrets hidden.
  returned: always
  type: dict
"""

import contextlib
import fcntl
import os
import typing as t

from ..module_utils._core.files import replace_file
from ..module_utils._core.module import Failure, ResourceModule
from ..module_utils._core.reconcile import Plan

SECRETS = (
    "auth.password",
    "auth.application_credential_secret",
    "auth.token",
    "auth.passcode",
    "auth.client_secret",
    "auth.access_token",
)


def at(entry: t.Any, dotted: str) -> t.Any:
    """The value under a dotted name; None if missing."""
    for part in dotted.split("."):
        entry = entry.get(part) if isinstance(entry, dict) else None
    return entry


def leaves(value: t.Any) -> set[str]:
    """All values at any depth, as the strings that Ansible would mask."""
    if isinstance(value, dict):
        return set().union(*(leaves(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(leaves(item) for item in value))
    return {str(value)}


class CloudsYaml(ResourceModule):
    """Reads and writes the file under its lock."""

    service = "clouds.yaml"
    result_key = "cloud"
    secrets = SECRETS
    entire = True

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {
            "path": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            # Before connect declares which values are secret, Ansible has written the arguments to the system's log.
            "entry": {"type": "dict", "no_log": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        }

    @classmethod
    def constraints(cls) -> dict[str, t.Any]:
        return {"required_if": [("state", "present", ["entry"])]}

    def connect(self) -> None:
        # Ansible takes every value of the entry for a secret and would mask region names and addresses everywhere.
        secret = {str(at(self.params["entry"], name)) for name in SECRETS}
        self.module.no_log_values -= leaves(self.params["entry"]) - secret
        try:
            import yaml
        except ImportError as error:
            raise Failure("PyYAML is missing for this Python; install it", self.service, "yaml") from error
        self.yaml = yaml

    @contextlib.contextmanager
    def locked(self) -> t.Iterator[None]:
        folder = os.path.dirname(self.params["path"])
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with open(self.params["path"] + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self) -> dict[str, t.Any]:
        try:
            with open(self.params["path"], encoding="utf-8") as file:
                document = self.yaml.safe_load(file) or {}
        except FileNotFoundError:
            return {}
        except self.yaml.YAMLError as error:
            raise Failure(f"{self.params['path']} is not valid YAML; repair or remove it", self.service, "yaml") from error
        if not isinstance(document, dict) or not isinstance(document.get("clouds", {}), dict):
            raise Failure(f"{self.params['path']}: clouds must be a mapping; repair or remove the file", self.service, "clouds")
        return document

    def find(self, item: dict[str, t.Any]) -> dict[str, t.Any] | None:
        found = self.read().get("clouds", {}).get(item["name"])
        return None if found is None else dict(found)

    def desired(self, item: dict[str, t.Any]) -> dict[str, t.Any] | None:
        return None if item["state"] == "absent" else dict(item["entry"])

    def changed_secrets(self, item: dict[str, t.Any], current: dict[str, t.Any] | None) -> t.Collection[str]:
        return [name for name in SECRETS if item["entry"] and current and at(current, name) != at(item["entry"], name)]

    def apply(self, item: dict[str, t.Any], plan: Plan) -> dict[str, t.Any] | None:
        with self.locked():
            document = self.read()
            clouds = document.setdefault("clouds", {})
            if item["state"] == "absent":
                clouds.pop(item["name"], None)
            else:
                clouds[item["name"]] = dict(item["entry"])
            self.write(document)
        return plan.after

    def write(self, document: dict[str, t.Any]) -> None:
        replace_file(self.params["path"], self.yaml.safe_dump(document, sort_keys=True).encode("utf-8"))


def main() -> None:
    CloudsYaml.main()


if __name__ == "__main__":
    main()
