#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_network
short_description: Bring up or remove the network of a lab and the lab's record
description:
  - Keeps one bridge with the gateway's address, one nftables table that lets the lab's hosts out by masquerading, and IP forwarding, whose
    value is recorded before the first lab and restored after the last one.
  - A lab is identified by its record below C(/var/lib/distcloud-lab), whichever user created it. One that conflicts (same bridge, or an
    overlapping network) is stopped with its data kept, or reported.
  - Has to run as root on the machine that carries the lab.
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.lab
  - hep.distcloud.attributes
options:
  state:
    description:
      - V(present) brings the network up, V(stopped) stops the lab's hosts and removes the network, V(absent) removes hosts, network,
        folders and record.
    type: str
    choices: [present, stopped, absent]
    default: present
  bridge:
    description: Name of the bridge. Needed for O(state=present).
    type: str
  network:
    description: The lab's IPv4 network. Needed for O(state=present).
    type: str
  gateway:
    description: The outer machine's address in it. Needed for O(state=present).
    type: str
  domain:
    description: Domain of the lab's hosts. Needed for O(state=present).
    type: str
  others:
    description: What to do about another running lab that conflicts.
    type: str
    choices: [stop, fail]
    default: stop
"""

EXAMPLES = r"""
- name: Bring up the lab's network
  hep.distcloud.lab_network:
    lab: site
    bridge: dclab0
    network: 10.203.0.0/24
    gateway: 10.203.0.1
    domain: distcloud.lab
  become: true

- name: Take the lab away
  hep.distcloud.lab_network:
    lab: site
    state: absent
  become: true
"""

RETURN = r"""
actions:
  description: What was done (in check mode, would be done).
  returned: always
  type: list
  elements: str
  sample: [bridge dclab0, rules distcloud_lab_site]
stopped_labs:
  description: Names of other labs that conflicted and were stopped.
  returned: always
  type: list
  elements: str
  sample: []
"""

import concurrent.futures
import contextlib
import functools
import os

from ..module_utils._core.module import Failure
from ..module_utils._lab import nspawn, outer, plan
from ..module_utils._lab.module import LAB_OPTIONS, LabModule

FIELDS = ("bridge", "network", "gateway", "domain")


def enable_forwarding() -> None:
    outer.record_forwarding()
    outer.set_forwarding("1")


class LabNetwork(LabModule):
    """Compare the outer machine with the spec; the plan is a list of (description, function)."""

    result_key = "actions"

    @classmethod
    def argument_spec(cls):
        return dict(
            LAB_OPTIONS,
            state=dict(type="str", choices=["present", "stopped", "absent"], default="present"),
            bridge=dict(type="str"),
            network=dict(type="str"),
            gateway=dict(type="str"),
            domain=dict(type="str"),
            others=dict(type="str", choices=["stop", "fail"], default="stop"),
        )

    @classmethod
    def constraints(cls):
        return dict(required_if=[("state", "present", FIELDS)])

    def locks(self):
        # One lock for all labs: they share forwarding, and one may have to stop another.
        return ("network", self.params["lab"])

    def apply(self):
        lab = self.params["lab"]
        stopped, steps = self.steps(lab)
        if not self.module.check_mode:
            for _description, what in steps:
                what()
            if self.params["state"] == "absent":
                outer.drop_lock(lab)
                if not os.path.isdir(outer.STATE):
                    outer.drop_lock("network")
        actions = [description for description, what in steps]
        return dict(
            changed=bool(steps),
            actions=actions,
            stopped_labs=stopped,
            diff=dict(before="", after="".join(f"{line}\n" for line in actions), before_header="lab " + lab, after_header="lab " + lab),
        )

    def steps(self, lab):
        record = outer.lab_record(lab)
        if self.params["state"] == "present":
            return self.present(lab, record)
        steps = self.stop_steps(lab, record)
        if self.params["state"] == "absent":
            folder = outer.lab_folder(lab)
            if os.path.isdir(folder):
                steps.append((f"remove {folder}", lambda: outer.remove_tree(folder)))
            if os.path.isdir(outer.STATE) and not set(os.listdir(outer.STATE)) - {lab, "outer.json"}:
                steps.append((f"remove {outer.STATE}", self.remove_last))
        return [], steps

    @staticmethod
    def remove_last():
        outer.drop_own_cgroup_mount()
        outer.restore_forwarding()
        outer.remove_state_if_empty()

    def present(self, lab, record):
        spec = {name: self.params[name] for name in FIELDS}
        plan.check_network(spec["network"], spec["gateway"])
        self.refuse_networks_of_others(spec)
        in_the_way = self.in_the_way(lab, spec)
        if in_the_way and self.params["others"] == "fail":
            names = ", ".join(f"{name} (bridge {at['bridge']}, network {at['network']})" for name, at in in_the_way.items())
            raise Failure(
                f"another lab conflicts with this one: {names}; stop it first (playbook lab_stop), or set lab_host_others=stop",
                "lab",
                "others",
            )
        was_up = record is not None and record.get("up")
        moves = bool(self.bridges(lab, record) - {spec["bridge"]}) or (
            was_up and any(record[name] != spec[name] for name in ("bridge", "network", "gateway"))
        )
        # If a lab moves, the next module restarts its hosts with the new addresses; the old bridge and rules are removed now.
        leaving = {**in_the_way, lab: record} if moves else in_the_way
        steps, gone = [], set()
        for name, at in leaving.items():
            steps += self.stop_steps(name, at)
            gone |= self.bridges(name, at)
        desired = dict(spec, lab=lab, up=True, format=plan.FORMAT)
        if moves or record != desired:
            steps.append((f"record of lab {lab}", lambda: outer.write_json(os.path.join(outer.lab_folder(lab), "lab.json"), desired)))
        if outer.forwarding() != "1":
            steps.append(("net.ipv4.ip_forward = 1", enable_forwarding))
        elif outer.read_json(os.path.join(outer.STATE, "outer.json")) is None:
            steps.append(("remember net.ipv4.ip_forward", outer.record_forwarding))
        wrong = outer.bridge_problems(desired, {name: link for name, link in outer.links().items() if name not in gone})
        if wrong:
            steps.append((f"bridge {spec['bridge']} ({', '.join(wrong)})", lambda: outer.make_bridge(desired, wrong)))
        if moves or not outer.has_table(lab, spec["network"]):
            steps.append((f"rules {plan.table_name(lab)}", lambda: outer.make_table(lab, spec["network"])))
        return list(in_the_way), steps

    @staticmethod
    def refuse_networks_of_others(spec):
        """Refuse a network that the machine is in: a second route would cut it off from there, and perhaps from its admin."""
        owners = outer.bridge_owners()
        others = {name: link for name, link in outer.links().items() if name != spec["bridge"] and not owners.get(name)}
        taken = plan.addresses_inside(others, spec["network"])
        if taken:
            raise Failure(
                f"this machine itself has an address in the lab's network {spec['network']}: {', '.join(taken)}; give the lab "
                "another network (DISTCLOUD_LAB_NETWORK)",
                "lab",
                "network",
            )

    def in_the_way(self, lab, spec):
        """Other labs on our bridge or network, by name: their records, or where they were found if the record is lost."""
        records = {record["lab"]: record for record in outer.lab_records() if record["lab"] != lab}
        clashing = plan.clashes(records.values(), lab, spec["bridge"], spec["network"])
        found = {name: records[name] for name in clashing if self.bridges(name, records[name]) or self.lives(name)}
        owners = outer.bridge_owners()
        places = [
            {"lab": owners[name], "bridge": name, "network": network}
            for name, network in outer.bridge_networks().items()
            if owners.get(name) and owners[name] != lab and owners[name] not in records
        ]
        clashing = plan.clashes(places, lab, spec["bridge"], spec["network"])
        return {**found, **{place["lab"]: place for place in places if place["lab"] in clashing}}

    @staticmethod
    def bridges(lab, record):
        """The bridges of this lab: by their alias, and by its record if they have none."""
        owners = outer.bridge_owners()
        found = {name for name, owner in owners.items() if owner == lab}
        if record is not None and record.get("up") and owners.get(record["bridge"]) == "":
            found.add(record["bridge"])
        return found

    @staticmethod
    def lives(lab):
        return any(nspawn.find(lab, host).condition in (plan.RUNNING, plan.ORPHANED, plan.STUCK) for host in outer.host_records(lab))

    def stop_steps(self, lab, record):
        """Stop a lab's hosts and remove its network. All of it is looked up by name too, since its record may be lost or
        incomplete."""
        root = outer.cgroup_root()
        prefix = plan.cgroup_name(lab, "")
        left = [name[len(prefix) :] for name in sorted(os.listdir(root)) if name.startswith(prefix)] if root else []
        hosts = sorted(set(outer.host_records(lab)) | {name for name in left if self.belongs(lab, name)})
        busy = [host for host in hosts if os.path.isdir(outer.cgroup_path(lab, host) or "/nonexistent")]
        steps = []
        if busy:
            steps.append((f"stop {', '.join(busy)}", lambda: self.stop_hosts(lab, busy)))
        steps += [(f"remove bridge {name}", functools.partial(outer.remove_link, name)) for name in sorted(self.bridges(lab, record))]
        if outer.has_table(lab):
            steps.append((f"remove rules {plan.table_name(lab)}", lambda: outer.remove_table(lab)))
        if record is not None and record.get("up"):
            down = dict(record, up=False)
            steps.append((f"lab {lab} is stopped", lambda: self.mark_down(lab, down)))
        return steps

    @staticmethod
    def belongs(lab, host):
        """Whether a cgroup belongs to this lab and not to one whose name has the same prefix (site and site-b)."""
        full = f"{lab}-{host}"
        longer = [record["lab"] for record in outer.lab_records() if record["lab"] != lab and full.startswith(record["lab"] + "-")]
        return not any(len(name) > len(lab) for name in longer)

    def mark_down(self, lab, record):
        outer.write_json(os.path.join(outer.lab_folder(lab), "lab.json"), record)
        # A lab that is stopped in favor of another leaves forwarding on.
        if self.params["state"] != "present":
            outer.restore_forwarding()

    def stop_hosts(self, lab, hosts):
        # A lab that is to be removed loses its data anyway: no reason to wait for databases to close.
        absent = self.params["state"] == "absent"
        # Our own lab's lock is held already; another run may be working on the conflicting lab.
        held = contextlib.nullcontext() if lab == self.params["lab"] else outer.locked(lab, self.params["lock_timeout"])
        with held, concurrent.futures.ThreadPoolExecutor(max_workers=max(1, len(hosts))) as pool:
            list(pool.map(lambda host: nspawn.kill(lab, host) if absent else nspawn.stop(lab, host, self.params["stop_timeout"]), hosts))


def main():
    LabNetwork.main()


if __name__ == "__main__":
    main()
