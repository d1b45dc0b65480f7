# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lab hosts as systemd-nspawn runs them: their state, creation, start, stop and removal.

A host is found by its own cgroup, never by its nspawn process alone: that may be dead while the host lives.
Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import signal
import socket
import subprocess
import time
import typing as t

from .._core.module import Failure
from . import outer, plan
from .guest import Tree

# Everything private to this host (its overlay, on old machines the unified cgroups) is mounted in its own namespace. It disappears with
# the host's last process, and no other host's namespace keeps it busy.
LAUNCH = """set -e
cgroup=$1 remount=$2 lower=$3 upper=$4 work=$5 root=$6
shift 6
if [ "$remount" = yes ]; then
  umount -R /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
echo $$ > "/sys/fs/cgroup/$cgroup/cgroup.procs"
mount -t overlay distcloud-lab -o "lowerdir=$lower,upperdir=$upper,workdir=$work" "$root"
exec "$@"
"""
POWEROFF = signal.SIGRTMIN + 4


class Found(t.NamedTuple):
    """The observed state of a host; ``init`` is its init's PID outside, 0 for none."""

    condition: str
    init: int
    supervisor: int


def _status(process: int) -> dict[str, str]:
    try:
        with open(f"/proc/{process}/status", encoding="utf-8", errors="replace") as handle:
            return dict(line.rstrip("\n").split(":\t", 1) for line in handle if ":\t" in line)
    except (FileNotFoundError, ProcessLookupError):
        return {}


def find(lab: str, host: str) -> Found:
    """The condition of the host and its processes."""
    init = supervisor = 0
    own_depth = len(_status(os.getpid()).get("NSpid", "").split())
    processes = outer.cgroup_processes(outer.cgroup_path(lab, host))
    for process in processes:
        status = _status(process)
        pids = status.get("NSpid", "").split()
        if status.get("State", "Z").startswith("Z"):
            continue
        if len(pids) == own_depth + 1 and pids[-1] == "1":
            init = process
        elif len(pids) == own_depth and status.get("Name") == "systemd-nspawn":
            supervisor = process
    if init:
        return Found(plan.RUNNING if supervisor else plan.ORPHANED, init, supervisor)
    if processes:
        return Found(plan.STUCK, 0, supervisor)
    return Found(plan.STOPPED if os.path.isdir(outer.host_folder(lab, host)) else plan.ABSENT, 0, 0)


def tree_of(lab: str, host: str, found: Found, record: t.Mapping[str, t.Any]) -> Tree:
    """The current location of the host's files."""
    if found.init:
        return Tree(f"/proc/{found.init}/root")
    return Tree(os.path.join(outer.host_folder(lab, host), "upper"), record["tree"])


def links_of(lab: str, host: str, spec: t.Mapping[str, t.Any], bridge: str, present: t.Mapping[str, t.Any]) -> str:
    """Whether the outer ends of the host's links are there and in the bridge."""
    names = [plan.link_name(lab, host, port) for port in (("h", "x") if spec["provider_port"] else ("h",))]
    if any(name not in present for name in names):
        return "missing"
    if all(present[name].get("master") == bridge and "UP" in present[name].get("flags", []) for name in names):
        return "attached"
    return "detached"


def _has_link(name: str) -> bool:
    return os.path.isdir(f"/sys/class/net/{name}")


def _lacks_link(name: str) -> bool:
    return not _has_link(name)


def attach(lab: str, host: str, spec: t.Mapping[str, t.Any], bridge: str, timeout: float = 60) -> None:
    """Put the outer ends into the bridge, as soon as nspawn has made them."""
    for port, inner in (("h", "host0"), ("x", "ex0")) if spec["provider_port"] else (("h", "host0"),):
        name = plan.link_name(lab, host, port)
        if not outer.wait_for(functools.partial(_has_link, name), timeout, 0.02):
            raise Failure(f"host {host}: its link {name} did not appear within {timeout} s\n{log_tail(lab, host)}", "lab", "link")
        outer.attach_link(name, bridge, f"distcloud-lab {lab} {host} {inner}")


def create(lab: str, host: str, record: t.Mapping[str, t.Any]) -> dict[str, str]:
    """The host's folder with its identity; the record is written last, so that an interrupted creation is repeated."""
    folder = outer.host_folder(lab, host)
    outer.remove_tree(folder)
    for name in ("upper", "work", "root", "keys"):
        os.makedirs(os.path.join(folder, name), mode=0o700 if name == "keys" else 0o755)
    key = os.path.join(folder, "keys", "ssh_host_ed25519_key")
    outer.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host, "-f", key], f"making the key of host {host}")
    with open(os.path.join(folder, "keys", "machine-id"), "w", encoding="utf-8") as handle:
        handle.write(secrets.token_hex(16))
    outer.write_json(os.path.join(folder, "host.json"), record)
    keys = host_keys(lab, host)
    if keys is None:
        raise AssertionError("the keys that were just written are gone")
    return keys


def host_keys(lab: str, host: str) -> dict[str, str] | None:
    folder = os.path.join(outer.host_folder(lab, host), "keys")
    found = {}
    for field, name in (("private", "ssh_host_ed25519_key"), ("public", "ssh_host_ed25519_key.pub"), ("machine_id", "machine-id")):
        try:
            with open(os.path.join(folder, name), encoding="utf-8") as handle:
                found[field] = handle.read()
        except FileNotFoundError:
            return None
    found["public"] = found["public"].strip()
    return found


def start(lab: str, host: str, spec: t.Mapping[str, t.Any], record: t.Mapping[str, t.Any], bridge: str) -> None:
    """Start the host and connect it, without waiting until it is ready."""
    tree = record["tree"]
    if not os.path.isdir(os.path.join(tree, "usr")):
        raise Failure(
            f"host {host}: the baked tree {tree} of it is missing; recreate the host (lab_host_recreate=true), its data will be lost",
            "lab",
            "tree",
        )
    cgroup = outer.cgroup_root(make=True)
    if cgroup is None:
        raise AssertionError("the requested cgroup root was not created")
    os.makedirs(os.path.join(cgroup, plan.cgroup_name(lab, host)), exist_ok=True)
    folder = outer.host_folder(lab, host)
    present = [device for device in spec["devices"] if os.path.exists(device)]
    arguments = plan.nspawn_arguments(lab, host, spec, os.path.join(folder, "root"), present)
    launch = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "/bin/sh",
        "-c",
        LAUNCH,
        "distcloud-lab",
        plan.cgroup_name(lab, host),
        "no" if outer.unified_cgroups() else "yes",
        tree,
        *(os.path.join(folder, name) for name in ("upper", "work", "root")),
    ]
    with open(os.path.join(folder, "console.log"), "ab") as console:
        subprocess.Popen(  # pylint: disable=ansible-bad-function
            launch + arguments,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env=outer.ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
    attach(lab, host, spec, bridge)


def stop(lab: str, host: str, timeout: float) -> None:
    """An orderly power-off; what is left after ``timeout`` is killed."""
    found = find(lab, host)
    path = outer.cgroup_path(lab, host)
    if found.init:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.init, POWEROFF)
        outer.wait_for(lambda: not outer.cgroup_processes(path), timeout)
    kill(lab, host)


def kill(lab: str, host: str) -> None:
    path = outer.cgroup_path(lab, host)
    outer.kill_cgroup(path)
    outer.remove_cgroup(path)
    for port in ("h", "x"):
        # The kernel removes a veth a moment after its namespace; a new start would find the old name in use.
        name = plan.link_name(lab, host, port)
        if not outer.wait_for(functools.partial(_lacks_link, name), 3, 0.05):
            outer.remove_link(name)


def destroy(lab: str, host: str) -> None:
    folder = outer.host_folder(lab, host)
    # The record goes first: an interrupted removal leaves a folder without a record, which the next creation replaces.
    record = os.path.join(folder, "host.json")
    if os.path.exists(record):
        os.unlink(record)
    outer.remove_tree(folder)


def enter(found: Found, argv: list[str], timeout: int = 60) -> subprocess.CompletedProcess[str]:
    return outer.run(
        ["nsenter", "--target", str(found.init), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--", *argv],
        f"running {argv[0]} in the guest",
        timeout=timeout,
        check=False,
    )


def log_tail(lab: str, host: str) -> str:
    """The end of the journal, or of the console where there is no journal to ask."""
    found = find(lab, host)
    if found.init:
        try:
            journal = enter(found, ["journalctl", "--no-pager", "--lines=25", "--output=short-monotonic"]).stdout.strip()
            failed = enter(found, ["systemctl", "--no-pager", "--plain", "--no-legend", "--failed"]).stdout.strip()
            if journal:
                return f"failed units: {failed or 'none'}\nend of its journal:\n{journal}"
        except Failure:
            pass
    try:
        with open(os.path.join(outer.host_folder(lab, host), "console.log"), "rb") as handle:
            handle.seek(max(0, os.fstat(handle.fileno()).st_size - 3000))
            return f"end of its console:\n{handle.read().decode(errors='replace').strip()}"
    except FileNotFoundError:
        return "no output"


def answers_ssh(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def wait_ready(lab: str, host: str, address: str, timeout: float) -> str:
    """Wait until systemd has finished starting and sshd answers; the state that systemd reports."""
    began = time.monotonic()
    state = ""

    def ready() -> bool:
        nonlocal state
        found = find(lab, host)
        if not found.init:
            if time.monotonic() - began > 60:
                raise Failure(f"host {host}: did not start\n{log_tail(lab, host)}", "lab", "not_started")
            return False
        if state not in ("running", "degraded"):
            state = enter(found, ["systemctl", "is-system-running"]).stdout.strip()
        return state in ("running", "degraded") and answers_ssh(address)

    if not outer.wait_for(ready, timeout, 0.2):
        raise Failure(
            f"host {host}: not ready within {timeout} s (systemd reports {state or 'nothing'}, sshd at {address} answers: "
            f"{answers_ssh(address)})\n{log_tail(lab, host)}",
            "lab",
            "not_ready",
        )
    return state
