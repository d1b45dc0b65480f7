#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_network
short_description: Bring up or take away the network of a lab and the lab's record
description:
  - Keeps one bridge with the gateway's address, one nftables table that lets the lab's hosts out by masquerading, and IP forwarding, whose
    value before the first lab is written down and set back after the last one.
  - A lab is known by its record below C(/var/lib/distcloud-lab), whoever made it. One that is in the way (same bridge, or a network that
    overlaps) is stopped with its data kept, or reported.
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
      - V(present) brings the network up, V(stopped) stops the lab's hosts and takes the network away, V(absent) removes hosts, network,
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
    description: What to do about another running lab that is in the way.
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
  description: What was, or in check mode would be, done.
  returned: always
  type: list
  elements: str
  sample: [bridge dclab0, rules distcloud_lab_site]
stopped_labs:
  description: Names of other labs that were in the way and were stopped.
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
from ..module_utils._lab.module import OPTIONS_OF_A_LAB, LabModule

FIELDS = ("bridge", "network", "gateway", "domain")


class LabNetwork(LabModule):
    """Compare the outer machine with the wish; a list of (what is said, what does it) is the plan."""

    result_key = "actions"

    @classmethod
    def argument_spec(cls):
        return dict(
            OPTIONS_OF_A_LAB,
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

    def bring(self):
        lab = self.params["lab"]
        stopped, steps = self.steps(lab)
        if not self.module.check_mode:
            for _said, what in steps:
                what()
            if self.params["state"] == "absent":
                outer.drop_lock(lab)
                if not os.path.isdir(outer.STATE):
                    outer.drop_lock("network")
        said = [said for said, what in steps]
        return dict(
            changed=bool(steps),
            actions=said,
            stopped_labs=stopped,
            diff=dict(before="", after="".join("%s\n" % line for line in said), before_header="lab " + lab, after_header="lab " + lab),
        )

    def steps(self, lab):
        record = outer.lab_record(lab)
        if self.params["state"] == "present":
            return self.present(lab, record)
        steps = self.stop_steps(lab, record)
        if self.params["state"] == "absent":
            folder = outer.lab_folder(lab)
            if os.path.isdir(folder):
                steps.append(("remove %s" % folder, lambda: outer.remove_tree(folder)))
            if os.path.isdir(outer.STATE) and not set(os.listdir(outer.STATE)) - {lab, "outer.json"}:
                steps.append(("remove %s" % outer.STATE, self.remove_last))
        return [], steps

    @staticmethod
    def remove_last():
        outer.drop_own_cgroup_mount()
        outer.restore_forwarding()
        outer.remove_state_if_empty()

    def present(self, lab, record):
        wish = {name: self.params[name] for name in FIELDS}
        plan.check_network(wish["network"], wish["gateway"])
        self.refuse_networks_of_others(wish)
        in_the_way = self.in_the_way(lab, wish)
        if in_the_way and self.params["others"] == "fail":
            names = ", ".join("%s (bridge %s, network %s)" % (name, at["bridge"], at["network"]) for name, at in in_the_way.items())
            raise Failure(
                "another lab is in the way: %s; stop it first (playbook lab_stop), or set lab_host_others=stop" % names, "lab", "others"
            )
        was_up = record is not None and record.get("up")
        moves = bool(self.bridges(lab, record) - {wish["bridge"]}) or (
            was_up and any(record[name] != wish[name] for name in ("bridge", "network", "gateway"))
        )
        # Of a lab that moves, hosts are restarted with the new addresses by the next module; the old bridge and rules have to go now.
        leaving = {**in_the_way, lab: record} if moves else in_the_way
        steps, gone = [], set()
        for name, at in leaving.items():
            steps += self.stop_steps(name, at)
            gone |= self.bridges(name, at)
        wished = dict(wish, lab=lab, up=True, format=plan.FORMAT)
        if moves or record != wished:
            steps.append(("record of lab %s" % lab, lambda: outer.write_json(os.path.join(outer.lab_folder(lab), "lab.json"), wished)))
        if outer.forwarding() != "1":
            steps.append(("net.ipv4.ip_forward = 1", lambda: (outer.remember_forwarding(), outer.set_forwarding("1"))))
        elif outer.read_json(os.path.join(outer.STATE, "outer.json")) is None:
            steps.append(("remember net.ipv4.ip_forward", outer.remember_forwarding))
        wrong = outer.bridge_is(wished, {name: link for name, link in outer.links().items() if name not in gone})
        if wrong:
            steps.append(("bridge %s (%s)" % (wish["bridge"], ", ".join(wrong)), lambda: outer.make_bridge(wished, wrong)))
        if moves or not outer.has_table(lab, wish["network"]):
            steps.append(("rules %s" % plan.table_name(lab), lambda: outer.make_table(lab, wish["network"])))
        return list(in_the_way), steps

    @staticmethod
    def refuse_networks_of_others(wish):
        """A second way into a network that the machine is in would cut it off from there, and perhaps from its admin."""
        owners = outer.bridge_owners()
        others = {name: link for name, link in outer.links().items() if name != wish["bridge"] and not owners.get(name)}
        taken = plan.addresses_inside(others, wish["network"])
        if taken:
            raise Failure(
                "this machine itself has an address in the lab's network %s: %s; give the lab another network (DISTCLOUD_LAB_NETWORK)"
                % (wish["network"], ", ".join(taken)),
                "lab",
                "network",
            )

    def in_the_way(self, lab, wish):
        """Other labs that live on our bridge or network, by name: their records, or where they were found when the record was lost."""
        records = {record["lab"]: record for record in outer.lab_records() if record["lab"] != lab}
        clashing = plan.clashes(records.values(), lab, wish["bridge"], wish["network"])
        found = {name: records[name] for name in clashing if self.bridges(name, records[name]) or self.lives(name)}
        owners = outer.bridge_owners()
        places = [
            {"lab": owners[name], "bridge": name, "network": network}
            for name, network in outer.bridge_networks().items()
            if owners.get(name) and owners[name] != lab and owners[name] not in records
        ]
        clashing = plan.clashes(places, lab, wish["bridge"], wish["network"])
        return {**found, **{place["lab"]: place for place in places if place["lab"] in clashing}}

    @staticmethod
    def bridges(lab, record):
        """The bridges that are this lab's: by what they say, and by its record where they say nothing."""
        owners = outer.bridge_owners()
        found = {name for name, owner in owners.items() if owner == lab}
        if record is not None and record.get("up") and owners.get(record["bridge"]) == "":
            found.add(record["bridge"])
        return found

    @staticmethod
    def lives(lab):
        return any(nspawn.find(lab, host).condition in (plan.RUNNING, plan.ORPHANED, plan.STUCK) for host in outer.host_records(lab))

    def stop_steps(self, lab, record):
        """Stop a lab's hosts and take its network away. All of it is looked for by name too: a record may have been lost, and of it
        only the place be known, or nothing."""
        root = outer.cgroup_root()
        prefix = plan.cgroup_name(lab, "")
        left = [name[len(prefix) :] for name in sorted(os.listdir(root)) if name.startswith(prefix)] if root else []
        hosts = sorted(set(outer.host_records(lab)) | {name for name in left if self.belongs(lab, name)})
        busy = [host for host in hosts if os.path.isdir(outer.cgroup_path(lab, host) or "/nonexistent")]
        steps = []
        if busy:
            steps.append(("stop %s" % ", ".join(busy), lambda: self.stop_hosts(lab, busy)))
        steps += [("remove bridge %s" % name, functools.partial(outer.remove_link, name)) for name in sorted(self.bridges(lab, record))]
        if outer.has_table(lab):
            steps.append(("remove rules %s" % plan.table_name(lab), lambda: outer.remove_table(lab)))
        if record is not None and record.get("up"):
            down = dict(record, up=False)
            steps.append(("lab %s is stopped" % lab, lambda: self.mark_down(lab, down)))
        return steps

    @staticmethod
    def belongs(lab, host):
        """Whether a cgroup named after this lab is not one of a lab whose name only begins alike (site and site-b)."""
        full = "%s-%s" % (lab, host)
        longer = [record["lab"] for record in outer.lab_records() if record["lab"] != lab and full.startswith(record["lab"] + "-")]
        return not any(len(name) > len(lab) for name in longer)

    def mark_down(self, lab, record):
        outer.write_json(os.path.join(outer.lab_folder(lab), "lab.json"), record)
        # A lab that only makes room for the one that is wanted leaves it the forwarding.
        if self.params["state"] != "present":
            outer.restore_forwarding()

    def stop_hosts(self, lab, hosts):
        # A lab that is to be removed loses its data anyway: no reason to wait for databases to close.
        absent = self.params["state"] == "absent"
        # Our own lab's lock is held already; another lab that is in the way may be worked on by somebody else.
        held = contextlib.nullcontext() if lab == self.params["lab"] else outer.locked(lab, self.params["lock_timeout"])
        with held, concurrent.futures.ThreadPoolExecutor(max_workers=max(1, len(hosts))) as pool:
            list(pool.map(lambda host: nspawn.kill(lab, host) if absent else nspawn.stop(lab, host, self.params["stop_timeout"]), hosts))


def main():
    LabNetwork.main()


if __name__ == "__main__":
    main()
