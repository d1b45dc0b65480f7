"""A separate lab for one test, with its own name, network and bridge; other labs may run at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
FIRST_ADDRESS = 10


class Machine:
    """Runs the lab's playbooks from this checkout and reads their output; reaches the lab's hosts by SSH.

    `hosts` gives `lab_machine` of each host; addresses are assigned in that order.
    """

    def __init__(self, folder: Path, lab: str, network: str, bridge: str, hosts: Mapping[str, Mapping[str, Any]]) -> None:
        self.lab, self.network, self.bridge = lab, network, bridge
        self.addresses = {name: f"{network.rpartition('.')[0]}.{FIRST_ADDRESS + index}" for index, name in enumerate(hosts)}
        self.inventory = folder / "inventory"
        self.inventory.mkdir()
        entries = {
            name: {"ansible_host": self.addresses[name]} | ({"lab_machine": dict(machine)} if machine else {})
            for name, machine in hosts.items()
        }
        listed = {"all": {"children": {"lab_hosts": {"hosts": entries}}}}
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(listed))
        (self.inventory / "group_vars").symlink_to(ROOT / "inventories/lab/group_vars")
        self.home = folder / "state"
        self.prefix: list[str] = []

    def environment(self, lab: str) -> dict[str, str]:
        return os.environ | {
            "DISTCLOUD_LAB": lab,
            "DISTCLOUD_LAB_NETWORK": self.network,
            "DISTCLOUD_LAB_BRIDGE": self.bridge,
            "XDG_STATE_HOME": str(self.home),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        }

    def play(self, name: str, *arguments: str, lab: str = "", fails: bool = False) -> dict[str, Any]:
        options = ["-i", str(self.inventory), f"playbooks/{name}.yml", "--skip-tags", "lab_regions", *arguments]
        command = [*self.prefix, str(BIN / "ansible-playbook"), *options]
        environment = self.environment(lab or self.lab)
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1500, check=False)
        assert (done.returncode != 0) == fails, done.stdout[-6000:] + done.stderr[-2000:]
        found: dict[str, Any] = json.JSONDecoder().raw_decode(done.stdout, done.stdout.index("{"))[0]
        return found

    def guest(self, host: str, script: str, *, check: bool = True, stdin: bytes = b"", timeout: float = 120) -> str:
        ssh = self.home / "distcloud" / f"lab-{self.lab}" / "ssh"
        options = [f"UserKnownHostsFile={ssh}/known_hosts", "StrictHostKeyChecking=yes", "BatchMode=yes", "ConnectTimeout=30"]
        command = ["ssh", "-i", f"{ssh}/id_ed25519", *(word for option in options for word in ("-o", option))]
        done = subprocess.run(
            [*command, f"root@{self.addresses[host]}", script], input=stdin, capture_output=True, timeout=timeout, check=False
        )
        output = done.stdout.decode("utf-8", "replace")
        assert not check or done.returncode == 0, f"{host}: {output[-6000:]}\n{done.stderr.decode('utf-8', 'replace')[-4000:]}"
        return output.strip()
