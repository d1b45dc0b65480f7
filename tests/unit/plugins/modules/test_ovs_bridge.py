# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module ovs_bridge against a stand-in for ovs-vsctl that keeps its database in a file."""

from __future__ import annotations

import json
import os
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hep.distcloud.plugins.modules.ovs_bridge import OvsBridge
from module_harness import Result, run_module

VSCTL = """#!%s
import json, sys
path = %r
state = json.load(open(path))
if state["down"]:
    sys.exit("ovs-vsctl: unix:/run/openvswitch/db.sock: database connection failed (No such file or directory)")
words = [word for word in sys.argv[1:] if not word.startswith("--timeout")]
bridges = state["bridges"]
if words == ["get", "Open_vSwitch", ".", "other_config"]:
    print("{" + ", ".join('%%s="%%s"' %% pair for pair in state["settings"].items()) + "}")
elif words == ["get-manager"]:
    print(state["manager"])
elif words[0] == "br-exists":
    sys.exit(0 if words[1] in bridges else 2)
elif words[0] == "list-ports":
    print("\\n".join(bridges[words[1]]["ports"]))
elif words[:2] == ["get", "bridge"]:
    print(bridges[words[2]]["datapath_type"] or '""')
else:
    state["transactions"] += 1
    for step in " ".join(words).split(" -- "):
        step = step.replace("--may-exist ", "").replace("-- ", "").split()
        if step[0] == "add-br":
            bridges.setdefault(step[1], {"datapath_type": "", "ports": []})
        elif step[0] == "add-port":
            if step[2] == "taken":
                sys.exit("ovs-vsctl: cannot create a port named taken because it is on bridge br-int")
            bridges[step[1]]["ports"] += [step[2]] if step[2] not in bridges[step[1]]["ports"] else []
        elif step[:2] == ["set", "bridge"]:
            bridges[step[2]]["datapath_type"] = step[3].split("=")[1]
        elif step[:2] == ["set", "Open_vSwitch"]:
            key, value = step[3].split(":", 1)[1].split("=")
            state["settings"][key] = value.strip('"')
        elif step[0] == "set-manager":
            state["manager"] = step[1]
json.dump(state, open(path, "w"))
"""
SPEC = {
    "name": "br-ex",
    "datapath_type": "netdev",
    "ports": ["ex0"],
    "manager": "ptcp:6640:127.0.0.1",
    "settings": {"userspace-tso-enable": "true"},
}
GOOD = {
    "down": False,
    "settings": {"userspace-tso-enable": "true", "theirs": "7"},
    "manager": "ptcp:6640:127.0.0.1",
    "bridges": {"br-ex": {"datapath_type": "netdev", "ports": ["ex0", "phy-br-ex"]}, "br-int": {"datapath_type": "", "ports": ["tap1"]}},
    "transactions": 0,
}


class Switch:
    """State of the stand-in."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.json"
        self.state = GOOD

    @property
    def state(self) -> dict[str, t.Any]:
        found: dict[str, t.Any] = json.loads(self.path.read_text())
        return found

    @state.setter
    def state(self, state: dict[str, t.Any]) -> None:
        self.path.write_text(json.dumps(state))


@pytest.fixture
def switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Switch:
    found = Switch(tmp_path)
    program = tmp_path / "ovs-vsctl"
    program.write_text(VSCTL % (sys.executable, str(found.path)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return found


def call(**options: t.Any) -> Result:
    return run_module(OvsBridge, SPEC, diff=True, **options)


def test_bridge_in_desired_state_is_unchanged(switch: Switch) -> None:
    for check in (True, False):
        assert not call(check=check).changed
    assert switch.state == GOOD


@pytest.mark.parametrize(
    "lost,fields",
    [
        ({"bridges": {}}, ["datapath_type", "ports"]),
        ({"bridges": {"br-ex": {"datapath_type": "netdev", "ports": ["phy-br-ex"]}}}, ["ports"]),
        ({"bridges": {"br-ex": {"datapath_type": "", "ports": ["ex0"]}}}, ["datapath_type"]),
        ({"manager": ""}, ["manager"]),
        ({"settings": {"theirs": "7"}}, ["settings.userspace-tso-enable"]),
        ({"settings": {"userspace-tso-enable": "false"}}, ["settings.userspace-tso-enable"]),
    ],
)
def test_drift_is_reported_and_repaired_in_one_transaction(switch: Switch, lost: dict[str, t.Any], fields: list[str]) -> None:
    switch.state = dict(GOOD, **lost)
    checked = call(check=True)
    assert checked.changed and checked.data["fields"] == fields and switch.state["transactions"] == 0
    done = call()
    assert (done.data["fields"], done.data["diff"]) == (fields, checked.data["diff"])
    assert switch.state["transactions"] == 1 and not call().changed
    there = lost.get("bridges", GOOD["bridges"]).get("br-ex", {"ports": []})["ports"]
    assert set(switch.state["bridges"]["br-ex"]["ports"]) == {"ex0", *there}


def test_switch_not_running_yet(switch: Switch) -> None:
    switch.state = dict(GOOD, down=True)
    checked = call(check=True)
    assert not checked.changed and "does not run yet" in checked.raw
    assert call().data["failure"]["code"] == "down"


def test_error_names_port_of_another_bridge(switch: Switch) -> None:
    result = run_module(OvsBridge, dict(SPEC, ports=["taken"]))
    assert result.failed and "taken because it is on bridge br-int" in result.data["msg"]
