# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module lab_network on a stand-in for the outer machine's links, rules and sysctl: labs that replace each other, move, or are left over.

Hosts, and the real links and rules, are in tests/integration/test_lab_host.py.
"""

from __future__ import annotations

import shutil
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hep.distcloud.plugins.module_utils._lab import outer, plan
from ansible_collections.hep.distcloud.plugins.modules.lab_network import LabNetwork
from module_harness import Result, run_module

PLACE = {"bridge": "dclab0", "network": "10.203.0.0/24", "gateway": "10.203.0.1", "domain": "distcloud.lab"}
NAT = "net.ipv4.ip_forward = 1"


class OuterMachine:
    """What survives a killed lab (bridges by name with alias and address, tables by name), and what survives a reboot."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state, self.forward = folder / "state", folder / "ip_forward"
        self.bridges: dict[str, dict[str, str]] = {}
        self.tables: dict[str, str] = {}
        self.boots = 0
        self.forward.write_text("0")
        (folder / "redirects").write_text("1")
        for attribute, value in {
            "STATE": str(self.state),
            "LOCKS": str(folder / "locks"),
            "FORWARD": str(self.forward),
            "REDIRECTS": str(folder / "redirects"),
            "boot_id": lambda: f"boot {self.boots}",
            "cgroup_root": lambda make=False: None,
            "drop_own_cgroup_mount": lambda: None,
            "links": self.links,
            "bridge_owners": lambda: {name: plan.bridge_owner(bridge["alias"]) for name, bridge in self.bridges.items()},
            "make_bridge": self.make_bridge,
            "remove_link": self.bridges.pop,
            "has_table": lambda lab, network="": lab in self.tables and network in ("", self.tables[lab]),
            "make_table": self.tables.__setitem__,
            "remove_table": lambda lab: self.tables.pop(lab, None),
        }.items():
            monkeypatch.setattr(outer, attribute, value)

    def links(self) -> dict[str, dict[str, t.Any]]:
        return {
            name: {
                "linkinfo": {"info_kind": "bridge"},
                "flags": ["UP"],
                "ifalias": bridge["alias"],
                "address": bridge.get("address", plan.bridge_mac(name)),
                "addr_info": [{"family": "inet", "local": bridge["gateway"], "prefixlen": 24}],
            }
            for name, bridge in self.bridges.items()
        }

    def make_bridge(self, desired: dict[str, t.Any], wrong: list[str]) -> None:
        assert ("absent" in wrong) == (desired["bridge"] not in self.bridges)
        self.bridges[desired["bridge"]] = {"alias": plan.bridge_alias(desired["lab"]), "gateway": desired["gateway"]}

    def reboot(self) -> None:
        self.boots += 1
        self.bridges.clear()
        self.tables.clear()
        self.forward.write_text("0")

    def run(self, lab: str, **spec: t.Any) -> Result:
        """Do a dry run and a run, and check that the run was as predicted."""
        params = {"lab": lab, **(PLACE if spec.get("state", "present") == "present" else {}), **spec}
        predicted, done = run_module(LabNetwork, params, check=True, diff=True), run_module(LabNetwork, params, diff=True)
        assert not done.failed, done.data
        assert predicted.data == done.data, (predicted.data, done.data)
        return done

    def up(self, lab: str, **spec: t.Any) -> list[str]:
        """Bring a lab up and check that it is complete, and that a second run changes nothing."""
        done = self.run(lab, **spec)
        place = {**PLACE, **spec}
        assert self.bridges[place["bridge"]] == {"alias": f"distcloud lab {lab}", "gateway": place["gateway"]}
        assert self.tables[lab] == place["network"]
        assert self.forward.read_text() == "1"
        assert self.run(lab, **spec).data["actions"] == []
        actions: list[str] = done.data["actions"]
        return actions

    @property
    def untouched(self) -> bool:
        return not self.bridges and not self.tables and self.forward.read_text() == "0" and not self.state.exists()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OuterMachine:
    return OuterMachine(tmp_path, monkeypatch)


def test_removed_lab_leaves_no_trace(machine: OuterMachine) -> None:
    assert machine.up("one") == ["record of lab one", NAT, "bridge dclab0 (absent)", "rules distcloud_lab_one"]
    machine.run("one", state="absent")
    assert machine.untouched
    assert not machine.run("one", state="absent").changed


def test_replaced_lab_regains_its_network(machine: OuterMachine) -> None:
    machine.up("one")
    assert "lab one is stopped" in machine.up("two")
    assert set(machine.tables) == {"two"}
    assert "lab two is stopped" in machine.up("one")
    machine.run("two", state="absent")
    assert machine.forward.read_text() == "1", "the bridge of a lab without running hosts is reused"
    machine.run("one", state="absent")
    assert machine.untouched


def test_error_names_conflicting_lab(machine: OuterMachine) -> None:
    machine.up("one")
    refused = run_module(LabNetwork, {"lab": "two", **PLACE, "bridge": "dclab1", "others": "fail"})
    assert refused.failed and "another lab conflicts with this one: one (bridge dclab0, network 10.203.0.0/24)" in refused.data["msg"]
    assert list(machine.bridges) == ["dclab0"]


def test_stale_record_does_not_claim_foreign_bridge(machine: OuterMachine) -> None:
    machine.up("one")
    machine.reboot()
    assert machine.up("two") == ["record of lab two", NAT, "bridge dclab0 (absent)", "rules distcloud_lab_two"]
    machine.run("one", state="absent")
    assert machine.up("two") == []
    machine.run("two", state="absent")
    assert machine.untouched


def test_rebooted_lab_is_resumed(machine: OuterMachine) -> None:
    machine.up("one")
    machine.reboot()
    assert machine.up("one") == [NAT, "bridge dclab0 (absent)", "rules distcloud_lab_one"]


@pytest.mark.parametrize(
    "spec", [{"gateway": "10.203.0.2"}, {"bridge": "dclab1"}, {"network": "10.204.0.0/24", "gateway": "10.204.0.1", "bridge": "dclab1"}]
)
def test_moved_lab_is_complete(machine: OuterMachine, spec: dict[str, str]) -> None:
    machine.up("one")
    machine.up("one", **spec)
    assert list(machine.bridges) == [spec.get("bridge", "dclab0")]
    machine.run("one", state="absent")
    assert machine.untouched


@pytest.mark.parametrize("lab", ["one", "two"])
@pytest.mark.parametrize("bridge", ["dclab0", "dclab1"])
def test_lab_without_record_is_found_by_bridge(machine: OuterMachine, lab: str, bridge: str) -> None:
    machine.up("one")
    shutil.rmtree(machine.state / "one")
    machine.up(lab, bridge=bridge)
    assert list(machine.bridges) == [bridge]
    assert set(machine.tables) == {lab}
    machine.run(lab, state="absent")
    assert machine.untouched


def test_remains_of_lab_without_record_are_removed(machine: OuterMachine) -> None:
    machine.up("one")
    shutil.rmtree(machine.state / "one")
    assert machine.run("one", state="absent").data["actions"][:2] == ["remove bridge dclab0", "remove rules distcloud_lab_one"]
    assert machine.untouched


@pytest.mark.parametrize("alias", ["", "of the firm"])
def test_foreign_bridge_is_not_changed(machine: OuterMachine, alias: str) -> None:
    theirs = {"alias": alias, "gateway": "192.0.2.1", "address": "52:54:00:00:00:01"}
    machine.bridges["dclab0"] = dict(theirs)
    for check in True, False:
        refused = run_module(LabNetwork, {"lab": "one", **PLACE}, check=check)
        assert refused.failed and "dclab0 is a foreign bridge; set another name" in refused.data["msg"]
    machine.run("one", state="absent")
    assert machine.bridges == {"dclab0": theirs} and not machine.tables and machine.forward.read_text() == "0"
    # A bridge of the lab itself, from a run that was interrupted before it wrote the alias.
    machine.bridges["dclab0"] = {**theirs, "address": plan.bridge_mac("dclab0"), "alias": ""}
    machine.up("one")


def test_network_of_the_machine_is_refused(machine: OuterMachine) -> None:
    machine.bridges["br0"] = {"alias": "", "gateway": "10.203.0.77"}
    for check in True, False:
        refused = run_module(LabNetwork, {"lab": "one", **PLACE}, check=check)
        assert refused.failed and "10.203.0.77 (br0); give the lab another network (DISTCLOUD_LAB_NETWORK)" in refused.data["msg"]
    assert list(machine.bridges) == ["br0"] and not machine.tables and machine.forward.read_text() == "0"
    machine.up("one", network="10.204.0.0/24", gateway="10.204.0.1")


def test_concurrent_labs_do_not_interfere(machine: OuterMachine) -> None:
    beside = {"bridge": "dclab1", "network": "10.204.0.0/24", "gateway": "10.204.0.1"}
    machine.up("one")
    machine.up("two", **beside)
    assert machine.up("one") == []
    machine.run("one", state="absent")
    assert machine.up("two", **beside) == []
    machine.run("two", state="absent")
    assert machine.untouched
