#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_hosts
short_description: Start, stop or remove the hosts of a lab
description:
  - Runs Debian hosts with systemd and sshd as C(systemd-nspawn) machines, each on an overlay over a baked tree, in a cgroup of its own and
    connected to the lab's bridge. All hosts are handled in parallel.
  - A host is found by its cgroup. One that is only partly running (its nspawn was killed, its init lives) is restarted; after a reboot of
    the outer machine the hosts come back with their data.
  - Names and addresses of all hosts that the lab knows are written to every host's C(/etc/hosts), their keys to the caller's known_hosts.
  - Has to run as root on the machine that carries the lab, after M(hep.distcloud.lab_images) and M(hep.distcloud.lab_network).
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.lab
  - hep.distcloud.attributes
options:
  state:
    description: What to bring the hosts to.
    type: str
    choices: [started, stopped, absent]
    default: started
  hosts:
    description:
      - The hosts by name. Each has C(address); and as needed C(image) (V(base)), C(provider_port) (a second link C(ex0) into the bridge),
        C(capabilities), C(devices) (bound where the outer machine has them), C(aliases) (further names of its address) and C(nspawn_args).
      - Left out with O(state=stopped) or O(state=absent), all hosts that the lab knows are meant.
      - Hosts of the lab that are not listed are left as they are.
    type: dict
  trees:
    description: Root folder of each image, as M(hep.distcloud.lab_images) returns it.
    type: dict
    default: {}
  authorized_keys:
    description: Public keys that may log in as root and as C(lab).
    type: str
    default: ""
  pip_environment:
    description: Variables of pip (C(PIP_INDEX_URL) and the like) that go into the guests' C(/etc/pip.conf), over the outer machine's own.
    type: dict
    default: {}
  proxy:
    description: Proxy variables for the guests.
    type: dict
    default: {}
  known_hosts:
    description:
      - A file of the caller that gets the keys of all hosts that the lab knows, for its folder's owner. It is written before another run
        may work on the lab, so that two at a time do not undo each other's lines. Nothing is written where its folder is missing.
    type: path
  recreate:
    description: Recreate the listed hosts on the current tree of their image. Their data is lost.
    type: bool
    default: false
  timeout:
    description: Seconds until a started host has to answer.
    type: int
    default: 120
attributes:
  idempotent:
    description: A second run with the same options changes nothing, except with O(recreate).
    support: partial
    details:
      - With O(recreate=true) the hosts are recreated each time.
"""

EXAMPLES = r"""
- name: Start a host
  hep.distcloud.lab_hosts:
    lab: site
    hosts:
      central:
        address: 10.203.0.10
        image: base
    trees: "{{ images.trees }}"
    authorized_keys: "{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"
  become: true

- name: Stop all hosts of the lab
  hep.distcloud.lab_hosts:
    lab: site
    state: stopped
  become: true
"""

RETURN = r"""
hosts:
  description: Every host that the lab knows, with its address, image, condition and host key (empty if not created yet).
  returned: always
  type: dict
  sample: {central: {address: 10.203.0.10, image: base, condition: running, host_key: ssh-ed25519 AAAA}}
known_hosts:
  description: The lines of a known_hosts file for all of them.
  returned: always
  type: str
  sample: central,central.distcloud.lab,10.203.0.10 ssh-ed25519 AAAA
actions:
  description: What was done to each host (in check mode, would be done), with the reason.
  returned: always
  type: dict
  sample: {central: ["start: it is not running"]}
started:
  description: Names of the hosts that were started.
  returned: always
  type: list
  elements: str
  sample: [central]
"""

import concurrent.futures
import os

from ..module_utils._core.module import Failure
from ..module_utils._lab import guest, nspawn, outer, plan
from ..module_utils._lab.module import LAB_OPTIONS, LabModule


def read_text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""


def resolv_conf():
    """Resolvers that a guest can use: with a stub resolver on the loopback the real ones are in another file."""
    for path in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"):
        text = read_text(path)
        if plan.has_usable_resolver(text):
            return text
    raise Failure("no resolver for the guests: /etc/resolv.conf only lists the loopback; add a reachable one", "lab", "resolver")


class LabHosts(LabModule):
    """Find and plan every host, then apply the plans in parallel."""

    result_key = "hosts"

    @classmethod
    def argument_spec(cls):
        return dict(
            LAB_OPTIONS,
            state=dict(type="str", choices=["started", "stopped", "absent"], default="started"),
            hosts=dict(type="dict"),
            trees=dict(type="dict", default={}),
            authorized_keys=dict(type="str", default="", no_log=False),
            pip_environment=dict(type="dict", default={}, no_log=True),
            proxy=dict(type="dict", default={}, no_log=True),
            known_hosts=dict(type="path"),
            recreate=dict(type="bool", default=False),
            timeout=dict(type="int", default=120),
        )

    @classmethod
    def constraints(cls):
        return dict(required_if=[("state", "started", ["hosts"])])

    def locks(self):
        return (self.params["lab"],)

    def apply(self):
        self.lab = self.params["lab"]
        self.records = outer.host_records(self.lab)
        network = outer.lab_record(self.lab)
        self.network = network or {"bridge": "", "network": "10.0.0.0/8", "gateway": "10.0.0.1", "domain": "invalid"}
        state = self.params["state"]
        if state == "started":
            if network is None and not self.module.check_mode:
                raise Failure(f"lab {self.lab} has no network yet; run lab_network first", "lab", "network")
            specs = self.specs(network)
        else:
            names = self.records if self.params["hosts"] is None else self.params["hosts"]
            specs = {name: {} for name in names}
        self.present = outer.links()
        work = {name: self.lookup(name, spec) for name, spec in specs.items()}
        if state == "started":
            files = self.files(work)
        elif state == "absent" and network is not None:
            # Remaining hosts must not keep the address of a removed one.
            files = self.name_files({name: record for name, record in self.records.items() if name not in work}, {})
        else:
            files = {}
        if not self.module.check_mode:
            self.carry_out(work, files)
        result = self.result(work, files)
        self.publish_keys(result)
        return result

    def publish_keys(self, result):
        """Update the keys in the caller's file if they differ, and report that in the result."""
        path = self.params["known_hosts"]
        if not path or not os.path.isdir(os.path.dirname(path)):
            return
        folder, name = guest.Tree(os.path.dirname(path)), os.path.basename(path)
        drifts = guest.drifted(folder, [plan.GuestFile(name, result["known_hosts"])])
        for drift in drifts:
            if not self.module.check_mode:
                folder.write(name, drift.content, drift.file.mode)
            result["changed"] = True
            result["diff"].append(dict(before_header=path, after_header=path, before=drift.before, after=drift.after))

    def specs(self, network):
        hosts = self.params["hosts"]
        if network is None:
            # Check mode on a machine without the lab: the network would be there; only the addresses' place in it cannot be checked.
            specs = plan.normalize_hosts(hosts, "0.0.0.0/0", "0.0.0.1")
        else:
            specs = plan.normalize_hosts(hosts, network["network"], network["gateway"])
        for name, spec in specs.items():
            clash = [other for other, record in self.records.items() if other not in specs and record["address"] == spec["address"]]
            if clash:
                raise plan.SpecError(f"hosts.{name}.address: {spec['address']} already belongs to host {clash[0]} of this lab")
            if spec["image"] not in self.params["trees"]:
                raise plan.SpecError(
                    f"hosts.{name}.image: there is no tree for {spec['image']!r}; known are {', '.join(sorted(self.params['trees']))}"
                )
            spec["start"] = plan.start_fields(spec, self.network["bridge"], self.network["network"])
        return specs

    def lookup(self, name, spec):
        """The state of one host, and the steps for it."""
        record = self.records.get(name)
        found = nspawn.find(self.lab, name)
        links = "attached"
        if self.params["state"] == "started" and found.init:
            links = nspawn.links_of(self.lab, name, spec, self.network["bridge"], self.present)
        steps = plan.plan_host(self.params["state"], record, spec, found.condition, links, self.params["recreate"])
        tree = self.params["trees"].get(spec.get("image", ""), "")
        if record and steps[-1:] != [] and steps[-1].action == "start" and any(step.action == "create" for step in steps):
            record = None
        if record and spec and record["tree"] != tree:
            self.module.warn(
                f"host {name}: its tree ({os.path.dirname(record['tree'])}) is older than that of image {spec['image']} "
                f"({os.path.dirname(tree)}); it keeps the older tree until it is recreated (lab_host_recreate=true)"
            )
        return {"spec": spec, "record": record, "found": found, "steps": steps, "tree": tree}

    def files(self, work):
        """The files that differ, by host: of the listed ones all that the lab keeps, of the others only their list of hosts."""
        everyone = {name: record for name, record in self.records.items() if name not in work}
        everyone.update({name: item["spec"] for name, item in work.items()})
        self.settings = dict(
            self.network,
            resolv_conf=resolv_conf(),
            authorized_keys=self.params["authorized_keys"].strip() + "\n",
            pip_conf=plan.pip_configuration(read_text("/etc/pip.conf"), self.params["pip_environment"]),
            proxy=self.params["proxy"],
        )
        return self.name_files(everyone, work)

    def name_files(self, everyone, work):
        self.block = plan.host_lines(everyone, self.network["domain"], self.network["gateway"])
        drifts = {}
        for name in everyone:
            item = work.get(name)
            made = item is None or item["record"] is not None
            if item is None:
                wanted = [plan.GuestFile("/etc/hosts", self.block, block=True)]
            else:
                wanted = plan.guest_files(name, item["spec"], self.settings, self.block, nspawn.host_keys(self.lab, name) if made else None)
            found = item["found"] if item else nspawn.find(self.lab, name)
            tree = nspawn.tree_of(self.lab, name, found, self.records[name]) if made else None
            drifts[name] = guest.drifted(tree if tree is not None and os.path.isdir(tree.root) else None, wanted)
        return {name: found for name, found in drifts.items() if found}

    def carry_out(self, work, files):
        busy = {name: item for name, item in work.items() if item["steps"]}
        with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, len(busy) + 1)) as pool:
            futures = {name: pool.submit(self.bring_one, name, item, files.get(name, [])) for name, item in busy.items()}
            for name in sorted(set(files) - set(busy)):
                record = self.records[name]
                guest.write(nspawn.tree_of(self.lab, name, nspawn.find(self.lab, name), record), files[name])
            for name in sorted(set(work) - set(busy)):
                record = dict(work[name]["spec"], tree=self.records.get(name, {}).get("tree"))
                if work[name]["spec"] and record != self.records[name]:
                    outer.write_json(os.path.join(outer.host_folder(self.lab, name), "host.json"), record)
            errors = [error for error in (future.exception() for future in futures.values()) if error]
        failures = [error for error in errors if isinstance(error, Failure)]
        for error in errors:
            if not isinstance(error, Failure):
                raise error
        if failures:
            raise Failure("\n\n".join(failure.message for failure in failures), "lab", failures[0].code)

    def bring_one(self, name, item, drifts):
        record = item["record"] or {}
        spec = item["spec"]
        for step in item["steps"]:
            if step.action == "kill":
                nspawn.kill(self.lab, name)
            elif step.action == "stop":
                nspawn.stop(self.lab, name, self.params["stop_timeout"])
            elif step.action == "destroy":
                nspawn.destroy(self.lab, name)
            elif step.action == "create":
                record = dict(spec, tree=item["tree"])
                keys = nspawn.create(self.lab, name, record)
                drifts = None
            elif step.action == "attach":
                nspawn.attach(self.lab, name, spec, self.network["bridge"])
                guest.write(nspawn.tree_of(self.lab, name, item["found"], record), drifts)
            elif step.action == "start":
                tree = nspawn.tree_of(self.lab, name, nspawn.Found(plan.STOPPED, 0, 0), record)
                if drifts is None:
                    drifts = guest.drifted(tree, plan.guest_files(name, spec, self.settings, self.block, keys))
                guest.write(tree, drifts)
                # Leftovers of a dead host (its cgroup, a link without a namespace) would block the start.
                nspawn.kill(self.lab, name)
                record = dict(spec, tree=record["tree"])
                outer.write_json(os.path.join(outer.host_folder(self.lab, name), "host.json"), record)
                nspawn.start(self.lab, name, spec, record, self.network["bridge"])
                nspawn.wait_ready(self.lab, name, spec["address"], self.params["timeout"])

    def result(self, work, files):
        check = self.module.check_mode
        actions = {name: ["{}: {}".format(*step) for step in item["steps"]] for name, item in work.items()}
        for name, drifts in files.items():
            actions[name] = actions.get(name, []) + [f"write: {drift.file.path}" for drift in drifts]
        actions = {name: steps for name, steps in actions.items() if steps}
        records = outer.host_records(self.lab)
        if check:
            for name, item in work.items():
                if self.params["state"] == "absent":
                    records.pop(name, None)
                elif item["spec"]:
                    records[name] = item["spec"]
        hosts = {}
        for name, record in sorted(records.items()):
            keys = nspawn.host_keys(self.lab, name)
            hosts[name] = {
                "address": record["address"],
                "image": record["image"],
                "aliases": record["aliases"],
                "condition": nspawn.find(self.lab, name).condition,
                "host_key": keys["public"] if keys else "",
            }
        diff = [
            dict(
                before_header=f"lab host {name}",
                after_header=f"lab host {name}",
                before=work[name]["found"].condition + "\n",
                after="".join("{}: {}\n".format(*step) for step in work[name]["steps"]),
            )
            for name in sorted(work)
            if work[name]["steps"]
        ]
        diff += [
            dict(
                before_header=f"{name}:{drift.file.path}",
                after_header=f"{name}:{drift.file.path}",
                before=drift.before,
                after=drift.after,
            )
            for name, drifts in sorted(files.items())
            for drift in drifts
        ]
        return dict(
            changed=bool(actions),
            hosts=hosts,
            actions=actions,
            diff=diff,
            known_hosts=plan.known_hosts(hosts, self.network["domain"]),
            started=sorted(name for name, item in work.items() if any(step.action == "start" for step in item["steps"])),
        )


def main():
    LabHosts.main()


if __name__ == "__main__":
    main()
