#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ovs_bridge
short_description: Manage an Open vSwitch bridge with its ports
description:
  - Sets a bridge, its datapath type, some of its ports, the manager's address and settings of the switch in one transaction.
  - Ports and settings from elsewhere, for example from OpenStack's network agent, are kept.
  - In check mode on a host where the switch does not run yet, nothing is compared and no change is predicted.
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.attributes
options:
  name:
    description: The bridge.
    type: str
    required: true
  datapath_type:
    description: Where packets are forwarded; V(netdev) is in user space.
    type: str
    choices: [netdev, system]
    default: system
  ports:
    description: Interfaces that have to be among the bridge's ports.
    type: list
    elements: str
    default: []
  manager:
    description: Address at which agents reach the database, for example V(ptcp:6640:127.0.0.1). Unset, it is not changed.
    type: str
  settings:
    description: Keys of C(other_config) of the switch itself. Most are only read when C(ovs-vswitchd) starts.
    type: dict
    default: {}
  timeout:
    description: Seconds that the switch may take.
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: Create a bridge in user space
  hep.distcloud.ovs_bridge:
    name: br-ex
    datapath_type: netdev
    ports: [ex0]
    manager: ptcp:6640:127.0.0.1
    settings: {userspace-tso-enable: "true"}
"""

RETURN = r"""
bridge:
  description: The bridge afterwards (in check mode, as predicted), with the requested ports and settings.
  returned: success
  type: dict
  sample: {name: br-ex, datapath_type: netdev, ports: [ex0], manager: "ptcp:6640:127.0.0.1", settings: {userspace-tso-enable: "true"}}
fields:
  description: What was changed (in check mode, would be changed).
  returned: when something was
  type: list
  elements: str
  sample: [settings.userspace-tso-enable]
"""

import re
import typing as t

from ..module_utils._core.module import Failure, ResourceModule
from ..module_utils._core.reconcile import Plan

SOCKET_MISSING = "database connection failed"


class OvsBridge(ResourceModule):
    """Uses ovs-vsctl, where one call is one transaction."""

    service = "openvswitch"
    result_key = "bridge"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {
            "name": {"type": "str", "required": True},
            "datapath_type": {"type": "str", "choices": ["netdev", "system"], "default": "system"},
            "ports": {"type": "list", "elements": "str", "default": []},
            "manager": {"type": "str"},
            "settings": {"type": "dict", "default": {}},
            "timeout": {"type": "int", "default": 30},
        }

    def vsctl(self, *words: str) -> tuple[int, str]:
        code, out, err = self.module.run_command(["ovs-vsctl", f"--timeout={self.params['timeout']}", *words])
        # br-exists exits with 2 if the bridge does not exist.
        if code not in (0, 2):
            raise Failure(f"ovs-vsctl: {err.strip()}", self.service, "down" if SOCKET_MISSING in err else code)
        return code, out.strip()

    def plan(self, item: dict[str, t.Any]) -> Plan:
        try:
            return super().plan(item)
        except Failure as failure:
            if failure.code == "down" and self.module.check_mode:
                return Plan("none", warnings=("Open vSwitch does not run yet: nothing to compare",))
            raise

    def find(self, item: dict[str, t.Any]) -> dict[str, t.Any] | None:
        found = {"name": item["name"], "ports": [], "settings": {}}
        text = self.vsctl("get", "Open_vSwitch", ".", "other_config")[1]
        there = {key: quoted or plain for key, quoted, plain in re.findall(r'([\w.-]+)=(?:"([^"]*)"|([^",}]*))', text)}
        found["settings"] = {key: there[key] for key in item["settings"] if key in there}
        if item["manager"]:
            found["manager"] = self.vsctl("get-manager")[1]
        if self.vsctl("br-exists", item["name"])[0] == 0:
            found["datapath_type"] = self.vsctl("get", "bridge", item["name"], "datapath_type")[1].strip('"') or "system"
            listed = self.vsctl("list-ports", item["name"])[1].split()
            found["ports"] = sorted(set(listed) & set(item["ports"]))
        return found

    def desired(self, item: dict[str, t.Any]) -> dict[str, t.Any] | None:
        spec = self.given_options(item, "name", "datapath_type", "manager")
        return dict(spec, ports=sorted(set(item["ports"])), settings={key: str(value) for key, value in item["settings"].items()})

    def apply(self, item: dict[str, t.Any], plan: Plan) -> dict[str, t.Any] | None:
        name = item["name"]
        after = plan.after or {}
        words = ["--may-exist", "add-br", name, "--", "set", "bridge", name, f"datapath_type={item['datapath_type']}"]
        for port in after["ports"]:
            words += ["--", "--may-exist", "add-port", name, port]
        for key, value in after["settings"].items():
            words += ["--", "set", "Open_vSwitch", ".", f'other_config:{key}="{value}"']
        if item["manager"]:
            words += ["--", "set-manager", item["manager"]]
        self.vsctl("--", *words)
        return plan.after

    def _result(self, done: t.Any, plural: bool) -> dict[str, t.Any]:
        result = super()._result(done, plural)
        if result["changed"]:
            result["fields"] = list(done[0][0].fields)
        return result


def main() -> None:
    OvsBridge.main()


if __name__ == "__main__":
    main()
