"""The worker image: the same bytes twice, and a machine booted from it that starts its services and keeps its secrets from jobs.

Needs the hosts of a lab and its image (`playbooks/worker_image.yml --limit image_builders`), and no OpenStack. It is built a second time
on the lab's builder, and booted under QEMU on the first machine of the lab's regions, with a config drive as Nova makes it.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import typing as t
import uuid
from pathlib import Path

import pytest
from lab_access import missing

if t.TYPE_CHECKING:
    from running_lab import Lab

BOOT_TIMEOUT = 600  # seconds that a boot under emulation may take on shared cores
SECRET = "token-that-no-job-may-read"
# As the engine gives it to every worker; it has nothing to fill in.
FIREWALL = (Path(__file__).parents[2] / "services/src/distcloud/scheduler/worker/templates/worker.nft.j2").read_text("utf-8")
SSH_PORT = 2222  # of the machine that carries QEMU
MAC = "52:54:00:12:34:56"

# Runs in the VM as root and writes one JSON object to the console.
CHECKS = r"""
import glob, json, os, pwd, socket, subprocess

def run(*command, user=None):
    full = ["runuser", "-u", user, "--", *command] if user else list(command)
    done = subprocess.run(full, capture_output=True, text=True)
    return done.returncode, done.stdout.strip()

def readable(path):
    return run("head", "-c", "1", path, user="slotu1")[0] == 0

NAMES = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes(12), ('169.254.169.254', 53))"
drive = run("blkid", "-L", "config-2")[1]
seen = {
    "hostname": socket.gethostname(),
    "config_drive": drive,
    "readable": [path for path in (drive, "/dev/vda", "/dev/vda1", "/etc/condor/tokens.d/worker", "/var/lib/cloud/instance/user-data.txt",
        "/var/lib/cloud/instance/user-data.txt.i", "/run/cloud-init/instance-data-sensitive.json",
        "/run/cloud-init/combined-cloud-config.json", "/var/log/cloud-init.log", "/var/log/cloud-init-output.log",
        "/etc/shadow", *glob.glob("/var/log/condor/*Log")) if readable(path)],
    "secret_in": run("grep", "-rls", "SECRET", "/etc", "/run", "/tmp", "/var", "/root", "/dev/shm", user="slotu1")[1],
    "may_read_something": readable("/etc/passwd"),
    "metadata": run("curl", "-s", "-m", "5", "http://169.254.169.254/openstack", user="slotu1")[0],
    "may_ask_for_names": [user for user in ("slotu1", "condor", "_chrony", "systemd-resolve")
        if run("python3", "-c", NAMES, user=user)[0] == 0],
    "rules": run("nft", "list", "ruleset")[1],
    "packages": dict(line.split() for line in run("dpkg-query", "-W", "-f", "${Package} ${Version}\n")[1].splitlines()),
    "slot_users": {entry.pw_name: entry.pw_shell for entry in pwd.getpwall() if entry.pw_name.startswith("slotu")},
    "condor_enabled": run("systemctl", "is-enabled", "condor")[1],
    "condor_active": run("systemctl", "is-active", "condor")[1],
    "failed": run("systemctl", "--failed", "--plain", "--no-legend")[1],
    "host_keys": glob.glob("/etc/ssh/ssh_host_*"),
    "machine_id": open("/etc/machine-id").read().strip(),
    "size_mib": os.statvfs("/").f_blocks * os.statvfs("/").f_frsize // 1048576,
    "own_address": socket.getaddrinfo(socket.gethostname(), None)[0][4][0],
    "resolver": open("/etc/resolv.conf").read(),
    "recompiled": run("find", "/usr/lib/python3", "-name", "*.pyc", "-newer", "/etc/machine-id")[1],
    "boot": run("systemd-analyze", "time")[1],
}
print("CHECKED " + json.dumps(seen), flush=True)
""".replace("SECRET", SECRET)

USER_DATA = {
    "write_files": [
        {"path": "/etc/condor/tokens.d/worker", "content": SECRET + "\n", "permissions": "0600", "owner": "root:root"},
        {"path": "/etc/distcloud/worker.nft", "content": FIREWALL, "permissions": "0644"},
        {"path": "/root/checks.py", "content": CHECKS, "permissions": "0700"},
    ],
    "runcmd": [
        ["nft", "-f", "/etc/distcloud/worker.nft"],
        ["systemctl", "start", "--no-block", "condor"],
        ["systemd-run", "--no-block", "--property=After=condor.service cloud-final.service", "--property=StandardOutput=tty",
         "--property=TTYPath=/dev/ttyS0", "python3", "/root/checks.py"],
    ],
}  # fmt: skip

NETWORK = {
    "links": [{"id": "l0", "type": "ovs", "ethernet_mac_address": MAC, "mtu": 1500}],
    "networks": [
        {
            "id": "n0",
            "link": "l0",
            "type": "ipv4",
            "ip_address": "10.0.2.15",
            "netmask": "255.255.255.0",
            "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.2.2"}],
        }
    ],
    "services": [{"type": "dns", "address": "10.0.2.3"}],
}


@pytest.fixture(scope="module")
def record(lab: Lab) -> dict[str, t.Any]:
    path = lab.state / "images" / "worker.json"
    if not path.exists():
        missing("the lab has no worker image: ansible-playbook playbooks/worker_image.yml")
    found: dict[str, t.Any] = json.loads(path.read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def machine(lab: Lab) -> str:
    """The lab machine that carries QEMU."""
    return str(lab.inventory["lab_regions"]["hosts"][0])


@pytest.fixture(scope="module")
def seen(lab: Lab, machine: str, record: dict[str, t.Any]) -> t.Iterator[dict[str, t.Any]]:
    """What a machine booted from the image says of itself."""
    folder = f"/var/tmp/worker-image-{uuid.uuid4().hex[:8]}"
    drive = {"meta_data.json": {"uuid": str(uuid.uuid4()), "hostname": "vm-test", "name": "vm-test"}, "network_data.json": NETWORK}
    texts = {name: json.dumps(body) for name, body in drive.items()} | {"user_data": "#cloud-config\n" + json.dumps(USER_DATA)}
    lab.run(machine, f"mkdir -p {folder}/drive/openstack/latest")
    try:
        for name, text in texts.items():
            encoded = base64.b64encode(text.encode()).decode()
            lab.run(machine, f"base64 -d > {folder}/drive/openstack/latest/{name}", stdin=encoded)
        send(lab, machine, Path(record["file"]), f"{folder}/worker.qcow2")
        lab.run(machine, f"cd {folder} && genisoimage -quiet -J -r -V config-2 -o drive.iso drive && qemu-img resize -q worker.qcow2 2G")
        lab.run(machine, QEMU.format(folder=folder, mac=MAC, port=SSH_PORT))
        console = lab.wait("the VM has run its checks", lambda: check_results(lab, machine, folder), seconds=BOOT_TIMEOUT)
        checked: dict[str, t.Any] = json.loads(console)
        yield checked
    finally:
        lab.run(machine, f"test ! -s {folder}/pid || kill $(cat {folder}/pid); tail -c 3000 {folder}/console; rm -rf {folder}", check=False)


QEMU = (
    "cd {folder} && qemu-system-x86_64 -accel tcg -m 512 -smp 1 -display none -no-reboot -daemonize -pidfile pid -serial file:console"
    " -drive file=worker.qcow2,if=virtio,cache=unsafe -drive file=drive.iso,media=cdrom,if=ide,readonly=on"
    " -netdev user,id=n,hostfwd=tcp:127.0.0.1:{port}-:22 -device virtio-net-pci,netdev=n,mac={mac} -device virtio-rng-pci"
)


def send(lab: Lab, host: str, source: Path, target: str) -> None:
    """Copies a file to a lab host."""
    options = ["-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={lab.state}/ssh/known_hosts", "-i", f"{lab.state}/ssh/id_ed25519"]
    subprocess.run(["scp", "-q", *options, str(source), f"root@{lab.address(host)}:{target}"], check=True, timeout=300)


def check_results(lab: Lab, machine: str, folder: str) -> str:
    """What stands behind CHECKED on the console, once the line is complete; fails at once when the kernel panics."""
    console = lab.run(machine, f"cat {folder}/console", check=False)
    assert "Kernel panic" not in console, console[-2000:]
    found, rest = console.partition("CHECKED ")[1:]
    return rest.partition("\n")[0].strip() if found and "\n" in rest else ""


def test_user_data_ran(seen: dict[str, t.Any]) -> None:
    assert seen["hostname"] == "vm-test"
    assert seen["condor_active"] == "active", "cloud-init starts HTCondor"
    assert seen["condor_enabled"] == "disabled", "nothing else does"
    assert not seen["failed"]


@pytest.mark.security
def test_job_cannot_read_secrets(seen: dict[str, t.Any]) -> None:
    assert seen["config_drive"].startswith("/dev/"), "there is a drive to refuse"
    assert seen["may_read_something"], "the check itself can read"
    assert seen["readable"] == []
    assert seen["secret_in"] == ""


@pytest.mark.security
def test_a_job_cannot_ask_the_metadata_service(seen: dict[str, t.Any]) -> None:
    assert seen["metadata"] == 7, "curl was refused at once"
    assert "policy drop" in seen["rules"] and "169.254.169.254" in seen["rules"]
    assert "table inet worker " in seen["rules"] and "table inet distcloud_worker " in seen["rules"], "the image's and the scheduler's"
    assert seen["may_ask_for_names"] == ["systemd-resolve"]


@pytest.mark.security
def test_open_port_passes_both_firewalls(lab: Lab, machine: str, seen: dict[str, t.Any]) -> None:
    assert seen["condor_active"] == "active", "the scheduler's firewall stands"
    read = f"timeout 120 bash -c 'exec 3<>/dev/tcp/127.0.0.1/{SSH_PORT}; head -c 7 <&3'"
    assert lab.run(machine, read).strip() == "SSH-2.0", "worker_image_inbound_tcp_ports of the lab has 22"


def test_image_has_exactly_the_manifest(seen: dict[str, t.Any], record: dict[str, t.Any]) -> None:
    manifest = json.loads(Path(record["manifest"]).read_text("utf-8"))
    assert seen["packages"] == {package["name"]: package["version"] for package in manifest["packages"]}


def test_slot_users(seen: dict[str, t.Any], record: dict[str, t.Any]) -> None:
    assert seen["slot_users"] == {f"slotu{number}": "/usr/sbin/nologin" for number in range(1, record["slot_users"] + 1)}


def test_machine_identity_is_unique(seen: dict[str, t.Any], record: dict[str, t.Any]) -> None:
    assert len(seen["machine_id"]) == 32
    assert seen["host_keys"] == [], "host keys are made by the first connection"
    assert seen["size_mib"] > 1700 > record["virtual_size_mib"], "the file system fills the disk"
    assert seen["own_address"], "it resolves its own name"
    assert "nameserver" in seen["resolver"]
    assert seen["recompiled"] == "", "the compiled Python of the image is valid in the VM"


def build(lab: Lab, manifest: Path | str, state: Path, check: bool = True, **more: t.Any) -> str:
    """Builds once more, by a manifest, into a state folder of its own."""
    variables = {"worker_image_rebuild": True, "worker_image_manifest": str(manifest), "worker_image_state_dir": str(state), **more}
    return lab.playbook("playbooks/worker_image.yml", "--limit", "image_builders", "-e", json.dumps(variables), check=check)


def test_same_packages_give_same_bytes(lab: Lab, record: dict[str, t.Any], tmp_path: Path) -> None:
    """Also where they are fetched from elsewhere: the image's sources.list is the manifest's."""
    elsewhere = [re.sub(r"^deb (\S+?)/? ", r"deb [trusted=no] \1/ ", line) for line in record["sources"]]
    build(lab, record["manifest"], tmp_path, worker_image_apt_sources=elsewhere)
    again = json.loads((tmp_path / "worker.json").read_text("utf-8"))
    assert again["sources"] == elsewhere != record["sources"]
    assert again["tools"] == record["tools"], "the builder's tools changed in between"
    assert again["manifest_sha256"] == record["manifest_sha256"]
    assert again["sha512"] == record["sha512"]


def test_a_second_run_builds_nothing(lab: Lab, record: dict[str, t.Any]) -> None:
    built = Path(record["file"]).stat().st_mtime_ns
    output = lab.playbook("playbooks/worker_image.yml", "--limit", "image_builders")
    assert "changed=0" in output and not any(f"changed={number}" in output for number in range(1, 10)), output[-2000:]
    assert Path(record["file"]).stat().st_mtime_ns == built


def test_unavailable_package_is_named(lab: Lab, record: dict[str, t.Any], tmp_path: Path) -> None:
    manifest = json.loads(Path(record["manifest"]).read_text("utf-8"))
    manifest["packages"][0] |= {"version": "0.0-never", "sha256": "0" * 64}
    changed = tmp_path / "manifest.json"
    changed.write_text(json.dumps(manifest))
    output = build(lab, changed, tmp_path, check=False)
    assert "no longer to be had" in output and manifest["packages"][0]["name"] + "=0.0-never" in output
    assert not (tmp_path / "worker.json").exists()
