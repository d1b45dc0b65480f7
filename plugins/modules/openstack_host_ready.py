#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: openstack_host_ready
short_description: Wait until an all-in-one OpenStack host accepts servers
description:
  - Run on the host itself. Waits until the image service answers, the host's hypervisor is listed, its resources are known to Placement,
    Nova's heartbeat from it is newer than the start of C(nova-compute), and its Open vSwitch agent is alive.
  - After a restart Nova and Neutron show a host as up because of its old heartbeat. Therefore the age is compared, not the state.
  - In check mode it looks once, and a region that does not exist yet does not fail it.
  - A new host is mapped into its cell by C(nova-manage cell_v2 discover_hosts), repeatedly, since it also succeeds without finding one.
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.attributes.info
requirements:
  - keystoneauth1
options:
  auth_url:
    description: Keystone's address, with C(/v3).
    type: str
    required: true
  password:
    description: The administrator's password.
    type: str
    required: true
  region:
    description: The region that runs on the host.
    type: str
    required: true
  host:
    description: The host's name as Nova and Neutron know it; by default the name of the host on which the module runs.
    type: str
  compute_unit:
    description: The systemd unit of the hypervisor's agent.
    type: str
    default: nova-compute.service
  network_unit:
    description: The systemd unit of the network agent; empty if the host has none.
    type: str
    default: neutron-openvswitch-agent.service
  timeout:
    description: Seconds to wait.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: Wait for the region
  hep.distcloud.openstack_host_ready:
    auth_url: http://127.0.0.1:5000/v3
    password: "{{ admin_password }}"
    region: region-a
"""

RETURN = r"""
host:
  description: What the host offers.
  returned: success
  type: dict
  sample: {name: lab-a, ready: true, missing: "", waited_s: 8.2}
"""

import datetime
import socket
import subprocess
import time
import typing as t

from ..module_utils._core.module import Failure, InfoModule
from ..module_utils._core.process import run_in_group

DISCOVERY_TIMEOUT = 300  # seconds


def is_fresh(heartbeat: str | None, started: float) -> bool:
    """Whether a heartbeat (UTC, with or without fractions and zone) was sent after the start (seconds since the epoch)."""
    if not heartbeat:
        return False
    moment = datetime.datetime.strptime(heartbeat[:19].replace(" ", "T"), "%Y-%m-%dT%H:%M:%S")
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp() + 1 > started


class OpenstackHostReady(InfoModule):
    """Asks the services themselves, by the internal addresses of the catalog."""

    service = "openstack"
    result_key = "host"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {
            "auth_url": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "region": {"type": "str", "required": True},
            "host": {"type": "str"},
            "compute_unit": {"type": "str", "default": "nova-compute.service"},
            "network_unit": {"type": "str", "default": "neutron-openvswitch-agent.service"},
            "timeout": {"type": "int", "default": 600},
        }

    def connect(self) -> None:
        try:
            from keystoneauth1 import exceptions, session
            from keystoneauth1.identity import v3
        except ImportError as error:
            raise Failure("python3-keystoneauth1 is missing on this host; install it", self.service, "keystoneauth1") from error
        self.errors = exceptions.ClientException
        self.params["host"] = self.params["host"] or socket.gethostname()
        auth = v3.Password(
            auth_url=self.params["auth_url"],
            username="admin",
            password=self.params["password"],
            project_name="admin",
            user_domain_id="default",
            project_domain_id="default",
        )
        self.session = session.Session(auth=auth, timeout=20)

    def get(self, service_type: str, path: str) -> t.Any:
        where = {"service_type": service_type, "interface": "internal", "region_name": self.params["region"]}
        return self.session.get(path, endpoint_filter=where, headers={"Accept": "application/json"}).json()

    def started(self, unit: str) -> float:
        """When the unit was started, in seconds since the epoch."""
        out = self.module.run_command(["systemctl", "show", "--value", "-p", "InactiveExitTimestampMonotonic", unit])[1]
        return time.time() - time.clock_gettime(time.CLOCK_MONOTONIC) + int(out.strip() or 0) / 1e6

    def read(self) -> dict[str, t.Any]:
        began = time.monotonic()
        while True:
            try:
                missing = self.first_missing()
            except self.errors as error:
                missing = f"a response: {error}"
            waited = round(time.monotonic() - began, 1)
            if not missing or self.module.check_mode:
                return {"name": self.params["host"], "ready": not missing, "missing": missing, "waited_s": waited}
            if waited > self.params["timeout"]:
                raise Failure(
                    f"region {self.params['region']} is not ready after {self.params['timeout']} s, still missing: {missing}. Look at "
                    f"the logs in /var/log on {self.params['host']}, then run again",
                    self.service,
                    "timeout",
                    {"missing": missing},
                )
            time.sleep(0.5)

    def first_missing(self) -> str:
        """What is missing, as text; empty when the host is ready."""
        host = self.params["host"]
        services = self.get("compute", "/os-services?binary=nova-compute&host=" + host)["services"]
        if not services or not is_fresh(services[0].get("updated_at"), self.started(self.params["compute_unit"])):
            return "a heartbeat of nova-compute that is newer than its start"
        if services[0]["state"] != "up":
            return f"nova-compute (Nova says it is {services[0]['state']})"
        names = [one["hypervisor_hostname"] for one in self.get("compute", "/os-hypervisors")["hypervisors"]]
        if not any(name.split(".")[0] == host.split(".")[0] for name in names):
            if self.module.check_mode:
                return "the hypervisor"
            try:
                run_in_group(
                    ["runuser", "-u", "nova", "--", "nova-manage", "cell_v2", "discover_hosts"], DISCOVERY_TIMEOUT, subprocess.DEVNULL
                )
            except subprocess.TimeoutExpired:
                return f"the hypervisor (nova-manage cell_v2 discover_hosts was not finished after {DISCOVERY_TIMEOUT} s)"
            return "the hypervisor (discovery is repeated)"
        if not self.get("placement", "/resource_providers")["resource_providers"]:
            return "the hypervisor's resources in Placement"
        if self.params["network_unit"]:
            agents = self.get("network", "/v2.0/agents?agent_type=Open%20vSwitch%20agent&host=" + host)["agents"]
            if (
                not agents
                or not agents[0]["alive"]
                or not is_fresh(agents[0]["heartbeat_timestamp"], self.started(self.params["network_unit"]))
            ):
                return "a living Open vSwitch agent"
        self.get("image", "/v2/images?limit=1")
        return ""


def main() -> None:
    OpenstackHostReady.main()


if __name__ == "__main__":
    main()
