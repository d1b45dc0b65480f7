# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inventory of the workers that the Cloud Scheduler has booted."""

from __future__ import annotations

DOCUMENTATION = r"""
name: workers
short_description: Workers of the Cloud Scheduler
version_added: 0.1.0
description:
  - Lists the worker VMs in the Cloud Scheduler's ledger, grouped by cloud, region and state.
  - The inventory file is YAML and its name ends in C(workers.yml) or C(workers.yaml).
  - The name of a host is the id of its VM. Every field of the API's answer becomes a host variable with the prefix C(vm_), for example
    C(vm_cloud), C(vm_flavor) or C(vm_state). C(ansible_host) is set only if the API returns an address.
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: Name of this plugin.
    type: str
    required: true
    choices: [hep.distcloud.workers]
  api_url:
    description: Where the Cloud Scheduler listens, without a path.
    type: str
    required: true
    env:
      - name: DISTCLOUD_SCHEDULER_URL
  api_token:
    description:
      - Bearer token of scope C(viewer) for the API. Only VMs of the groups that it may read are listed.
      - Give this or O(token_file); this takes precedence.
    type: str
  token_file:
    description: File with the token in its first line.
    type: path
    env:
      - name: DISTCLOUD_SCHEDULER_TOKEN_FILE
  ca_path:
    description:
      - File with the certificates of the authorities that the server's certificate is checked against.
      - Without it those of the control node are used.
    type: path
    env:
      - name: DISTCLOUD_SCHEDULER_CA
  validate_certs:
    description: Whether the server's certificate is checked. Without it anybody on the network path can read the token.
    type: bool
    default: true
  timeout:
    description: Seconds to wait for the response to one request.
    type: int
    default: 30
  states:
    description: Only VMs in these states. Without any, all that are not gone.
    type: list
    elements: str
    choices: [requested, starting, unregistered, idle, running, retiring, deleting, error, gone]
    default: []
  cloud:
    description: Only VMs of clouds of this name.
    type: str
  group_by:
    description:
      - Groups to add hosts to.
      - V(cloud) adds C(cloud_GROUP_CLOUD), V(region) adds C(region_REGION), V(state) adds C(state_STATE). Characters that names of groups
        may not have are replaced by underscores.
    type: list
    elements: str
    choices: [cloud, region, state]
    default: [cloud, region, state]
"""

EXAMPLES = r"""
# workers.yml: all workers, with the token of the command line tool
plugin: hep.distcloud.workers
api_url: https://scheduler.example.org:8443
token_file: /etc/distcloud/scheduler/cli.token
ca_path: /etc/distcloud/scheduler/ca.crt

---
# busy.workers.yml: workers with jobs, grouped by flavor too
plugin: hep.distcloud.workers
api_url: https://scheduler.example.org:8443
token_file: /etc/distcloud/scheduler/cli.token
states: [running, retiring]
keyed_groups:
  - key: vm_flavor
    prefix: flavor
compose:
  cores: vm_resources.cores
cache: true
cache_timeout: 60
"""

import hashlib
import json
import typing as t

from ansible.errors import AnsibleParserError
from ansible.inventory.group import to_safe_group_name
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ..module_utils._api.client import ApiClient
from ..module_utils._core.module import Failure

PAGE = 1000
FIELDS = {"id", "group", "cloud", "region", "state"}


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    NAME = "hep.distcloud.workers"

    def verify_file(self, path: str) -> bool:
        return bool(super().verify_file(path)) and path.endswith(("workers.yml", "workers.yaml"))

    def parse(self, inventory: t.Any, loader: t.Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        for vm in self._vms(path, cache):
            self._add(vm)

    def _vms(self, path: str, cache: bool) -> list[dict[str, t.Any]]:
        """The VMs from the cache if it is on and may be used, else from the API."""
        key = self._cache_key(path)
        cached = self.get_option("cache")
        if cached and cache and key in self._cache:
            return list(self._cache[key])
        try:
            found = self._fetch()
        except Failure as failure:
            raise AnsibleParserError(failure.message) from failure
        if cached:
            self._cache[key] = found
        return found

    def _cache_key(self, path: str) -> str:
        """Changes with every option that the API's answer depends on; the API token is in it as a digest only."""
        options = [self.get_option(name) for name in ("api_url", "api_token", "token_file", "cloud")]
        digest = hashlib.sha256(json.dumps([*options, sorted(self.get_option("states"))]).encode("utf-8"))
        return f"{self.get_cache_key(path)}_{digest.hexdigest()[:32]}"

    def _fetch(self) -> list[dict[str, t.Any]]:
        names = ("api_url", "ca_path", "validate_certs", "timeout")
        client = ApiClient("scheduler", dict({name: self.get_option(name) for name in names}, api_token=self._token()))
        query = {"limit": PAGE, "state": self.get_option("states"), "cloud": self.get_option("cloud")}
        found: list[dict[str, t.Any]] = []
        cursor = None
        while True:
            vms, cursor = self._checked(client.get("vms", cursor=cursor, **query))
            found += vms
            if not cursor:
                return found

    def _checked(self, page: t.Any) -> tuple[list[dict[str, t.Any]], str | None]:
        vms = page.get("vms") if isinstance(page, dict) else None
        if isinstance(vms, list) and all(isinstance(vm, dict) and vm.keys() >= FIELDS for vm in vms):
            return vms, page.get("cursor")
        url = self.get_option("api_url").rstrip("/") + "/v1/vms"
        raise Failure(
            f"GET {url}: the response is not a list of VMs; check that api_url is the address of the scheduler", "scheduler", "not_vms"
        )

    def _token(self) -> str:
        token, path = self.get_option("api_token"), self.get_option("token_file")
        if token:
            return str(token)
        if not path:
            raise Failure("api_token: missing; set it or token_file", "scheduler", "token")
        try:
            with open(path, encoding="utf-8") as file:
                return file.readline().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"token_file: {path} cannot be read: {error}", "scheduler", "token") from error

    def _add(self, vm: dict[str, t.Any]) -> None:
        host = self.inventory.add_host(vm["id"])
        variables = {f"vm_{key}": value for key, value in vm.items()}
        if vm.get("address"):
            variables["ansible_host"] = vm["address"]
        for name, value in variables.items():
            self.inventory.set_variable(host, name, value)
        groups = {"cloud": f"cloud_{vm['group']}_{vm['cloud']}", "region": f"region_{vm['region']}", "state": f"state_{vm['state']}"}
        for kind in self.get_option("group_by"):
            group = self.inventory.add_group(to_safe_group_name(groups[kind], force=True, silent=True))
            self.inventory.add_child(group, host)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)
