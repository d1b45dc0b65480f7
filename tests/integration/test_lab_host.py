"""The lab's hosts on the real machine: up, again, resumed after every kind of death, moved aside, and away without a trace.

Modules lab_hosts, lab_images and lab_network, through the role.
Needs root or passwordless sudo. Uses a lab, a bridge and a network of its own, beside whatever lab is running.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_access import SUDO, processes, root, wait
from outer_machine import STATE, Snapshot, left_behind, marks, shell, snapshot
from own_lab import Machine

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
LAB, OTHER = "hosttest", "hosttest-b"
NETWORK, BRIDGE = "10.205.0.0/24", "dclabt0"
HOSTS: dict[str, dict[str, Any]] = {
    "one": {},
    "two": {"image": "openstack", "provider_port": True, "capabilities": ["all"], "devices": ["/dev/net/tun", "/dev/kvm"]},
}

pytestmark = pytest.mark.skipif(
    subprocess.run([*SUDO, "true"], capture_output=True, check=False).returncode != 0, reason="needs root or passwordless sudo"
)


def changed(result: dict[str, Any]) -> int:
    return int(sum(stats["changed"] for stats in result["stats"].values()))


def actions(result: dict[str, Any]) -> dict[str, list[str]]:
    """What the task that starts the hosts says it did."""
    for play in result["plays"]:
        for task in play["tasks"]:
            if task["task"]["name"].endswith(("Start the hosts", "Remove the hosts")) and "localhost" in task["hosts"]:
                found: dict[str, list[str]] = task["hosts"]["localhost"]["actions"]
                return found
    raise AssertionError("the hosts' task did not run")


def nspawn(host: str) -> int:
    return next(pid for pid in processes(LAB, host) if Path(f"/proc/{pid}/comm").read_text().startswith("systemd-nspawn"))


def boot_times(machine: Machine) -> list[str]:
    return [machine.guest(host, "cat /proc/1/stat | cut -d' ' -f22") for host in ("one", "two")]


@pytest.fixture(scope="module")
def before() -> Snapshot:
    return snapshot(NETWORK)


@pytest.fixture(scope="module")
def machine(before: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("lab"), LAB, NETWORK, BRIDGE, HOSTS)
    yield machine
    for lab in (LAB, OTHER):
        machine.play("lab_down", lab=lab)


def test_first_run_matches_check_and_opens_ssh(machine: Machine) -> None:
    predicted = actions(machine.play("lab", "--check", "--diff"))
    assert any(step.startswith("create") for step in predicted["one"])
    assert not (STATE / LAB).exists() and not processes(LAB, "one")
    assert actions(machine.play("lab")) == predicted
    for host in ("one", "two"):
        assert machine.guest(host, "systemctl is-system-running") == "running"
        assert machine.guest(host, "hostname -f") == f"{host}.distcloud.lab"
        assert machine.guest(host, "getent hosts one two one.distcloud.lab two.distcloud.lab | wc -l") == "4"
    assert "ex0" in machine.guest("two", "ls /sys/class/net") and "ex0" not in machine.guest("one", "ls /sys/class/net")
    assert machine.guest("two", "test -c /dev/net/tun && echo tun") == "tun"
    keys = {machine.guest(host, "cat /etc/ssh/ssh_host_ed25519_key.pub /etc/machine-id") for host in ("one", "two")}
    assert len(keys) == 2


def test_guests_reach_the_package_mirror(machine: Machine) -> None:
    assert "Err:" not in machine.guest("one", "apt-get update 2>&1 || echo Err: failed")


def test_second_run_changes_nothing(machine: Machine) -> None:
    began = boot_times(machine)
    assert changed(machine.play("lab")) == 0
    assert changed(machine.play("lab", "--check")) == 0
    assert boot_times(machine) == began


def test_check_predicts_drift_repair(machine: Machine) -> None:
    machine.guest("one", "echo nameserver 192.0.2.99 > /etc/resolv.conf; sed -i '/two/d' /etc/hosts; echo 192.0.2.7 mine >> /etc/hosts")
    bridge_link = next(iter(Path(f"/sys/class/net/{BRIDGE}/brif").iterdir())).name
    root("ip", "link", "set", bridge_link, "nomaster")
    predicted = actions(machine.play("lab", "--check", "--diff"))
    assert predicted["one"][-2:] == ["write: /etc/hosts", "write: /etc/resolv.conf"]
    assert any(step.startswith("attach") for steps in predicted.values() for step in steps)
    assert actions(machine.play("lab")) == predicted
    assert changed(machine.play("lab")) == 0
    assert machine.guest("one", "grep -c -e mine -e two /etc/hosts") == "2"


def test_two_hosts_do_not_share_cgroups(machine: Machine) -> None:
    machine.guest("one", "systemctl kill --kill-whom=all systemd-journald || true")
    assert machine.guest("two", "systemctl is-active systemd-journald") == "active"


@pytest.mark.fault
def test_host_restarts_after_nspawn_is_killed(machine: Machine) -> None:
    machine.guest("one", "echo kept > /root/data; sync")
    supervisor = nspawn("one")
    root("kill", "-9", str(supervisor))
    wait("the supervisor is gone", lambda: supervisor not in processes(LAB, "one"), seconds=60, pause=0.1)
    assert processes(LAB, "one"), "its init was expected to live on"
    done = actions(machine.play("lab"))
    assert done == {"one": ["stop: its supervisor is gone", "start: it was only partly running"]}
    assert machine.guest("one", "cat /root/data") == "kept"


@pytest.mark.fault
def test_killed_host_restarts_with_its_data(machine: Machine) -> None:
    machine.guest("two", "systemctl enable --now mariadb && mariadb -e 'CREATE DATABASE kept; CREATE TABLE kept.t AS SELECT 42 AS answer'")
    machine.guest("two", "echo kept > /root/data; sync")
    root("kill", "-9", *(str(pid) for host in ("one", "two") for pid in processes(LAB, host)), check=False)
    done = actions(machine.play("lab"))
    assert done == {host: ["start: it is not running"] for host in ("one", "two")}
    assert [machine.guest(host, "cat /root/data") for host in ("one", "two")] == ["kept", "kept"]
    assert machine.guest("two", "mariadb -N -e 'SELECT answer FROM kept.t'") == "42"


@pytest.mark.fault
def test_lab_restarts_after_reboot(machine: Machine) -> None:
    """After a reboot there are no processes, links, rules, cgroups or namespaces; only the folders are left."""
    keys = [machine.guest(host, "cat /etc/machine-id") for host in ("one", "two")]
    root("kill", "-9", *(str(pid) for host in ("one", "two") for pid in processes(LAB, host)), check=False)
    wait("all are dead", lambda: not processes(LAB, "one") and not processes(LAB, "two"), seconds=60, pause=0.1)
    shell(f"ip link delete {BRIDGE}; nft delete table ip distcloud_lab_hosttest")
    shell("find /sys/fs/cgroup -depth -type d -path '*distcloud-lab-hosttest-*' -exec rmdir {} +")
    machine.play("lab")
    assert [machine.guest(host, "cat /etc/machine-id") for host in ("one", "two")] == keys
    assert [machine.guest(host, "cat /root/data") for host in ("one", "two")] == ["kept", "kept"]
    assert machine.guest("two", "mariadb -N -e 'SELECT answer FROM kept.t'") == "42"
    assert changed(machine.play("lab")) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount another /sys/fs/cgroup")
def test_unified_cgroups_need_no_remount(machine: Machine) -> None:
    """What a newer distribution looks like: the same playbook under a mount namespace with nothing but cgroup v2."""
    machine.play("lab_stop")
    machine.prefix = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        'umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec "$@"',
        "sh",
    ]
    try:
        machine.play("lab")
    finally:
        machine.prefix = []
    assert machine.guest("one", "systemctl is-system-running") == "running"
    assert changed(machine.play("lab")) == 0


def test_stop_keeps_data_and_removes_network(machine: Machine) -> None:
    assert changed(machine.play("lab_stop")) == 1
    assert not processes(LAB, "one") and not Path(f"/sys/class/net/{BRIDGE}").exists()
    assert changed(machine.play("lab_stop")) == 0
    machine.play("lab")
    assert machine.guest("one", "cat /root/data") == "kept"


def test_conflicting_lab_is_reported_or_stopped(machine: Machine) -> None:
    refused = machine.play("lab", "-e", "lab_host_others=fail", lab=OTHER, fails=True)
    assert "another lab conflicts with this one: hosttest (bridge dclabt0" in json.dumps(refused)
    machine.play("lab", lab=OTHER)
    assert not processes(LAB, "one") and processes(OTHER, "one")
    machine.play("lab")
    assert not processes(OTHER, "one")
    assert machine.guest("one", "cat /root/data") == "kept"
    machine.play("lab_down", lab=OTHER)
    assert machine.guest("one", "true") == ""


def test_lab_can_be_managed_from_another_checkout(machine: Machine) -> None:
    """Another checkout or user has another key and an empty state; the record on the outer machine leads it to the same hosts."""
    elsewhere = machine.home
    machine.home = machine.home.with_name("elsewhere")
    try:
        done = actions(machine.play("lab"))
        assert all(step.startswith("write: /") and step.endswith("authorized_keys") for steps in done.values() for step in steps)
        assert machine.guest("one", "cat /root/data") == "kept"
    finally:
        machine.home = elsewhere
    machine.play("lab")


@pytest.mark.leak
def test_processes_without_directory_are_removed(machine: Machine) -> None:
    shell(f"rm -rf {STATE}/{LAB}/hosts/two/host.json")
    done = actions(machine.play("lab"))
    assert done["two"][:3] == ["kill: left over without a record", "create: it does not exist", "start: it does not exist"]
    assert machine.guest("two", "test -e /root/data || echo fresh") == "fresh"


@pytest.mark.leak
def test_nothing_is_left_behind(machine: Machine, before: Snapshot) -> None:
    assert changed(machine.play("lab_down")) > 0
    assert left_behind(before, snapshot(NETWORK), marks((LAB, OTHER), ("one", "two"), BRIDGE, NETWORK)) == {}
    assert not (STATE / LAB).exists() and not (machine.home / "distcloud").exists()
    assert changed(machine.play("lab_down")) == 0


@pytest.mark.leak
def test_killed_lab_without_directory_is_removed(machine: Machine, before: Snapshot) -> None:
    machine.play("lab")
    root("kill", "-9", *(str(pid) for host in ("one", "two") for pid in processes(LAB, host)), check=False)
    wait("its hosts are dead", lambda: not processes(LAB, "one") and not processes(LAB, "two"), 60)
    shell(f"rm -rf {STATE}/{LAB}")
    predicted, done = machine.play("lab_down", "--check"), machine.play("lab_down")
    assert changed(predicted) == changed(done) > 0
    assert left_behind(before, snapshot(NETWORK), marks((LAB, OTHER), ("one", "two"), BRIDGE, NETWORK)) == {}
