"""Compares the machine that runs a lab before and after it, to find leftovers. Needs root or passwordless sudo.

`python tests/support/lab/outer_machine.py FILE NETWORK` writes the current state to FILE, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from lab_access import PATH, alive, root

STATE = Path("/var/lib/distcloud-lab")
# The kernel's counters change by themselves. Settings of one interface disappear with the interface, which is listed as a link.
COUNTED = re.compile(r"net\.netfilter\.nf_conntrack_count|net\.ipv[46]\.(conf|neigh)\.(?!all\.|default\.)")

Snapshot = dict[str, list[str]]


def shell(script: str) -> str:
    return root("/bin/sh", "-c", script)


def lines(program: str, *arguments: str) -> list[str]:
    """Output lines of a system program; empty if it is not installed, as on a machine before its first lab."""
    if shutil.which(program, path=PATH) is None:
        return []
    return [line.strip() for line in root(program, *arguments).splitlines()]


def snapshot(network: str) -> Snapshot:
    """The current state, by kind; `network` is the lab's, to which no connection may remain afterwards."""
    home = Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local" / "state"))
    here = Path("/run"), Path("/run/lock"), STATE.parent, STATE, home, home / "distcloud"
    folders = {path for folder in here if folder.is_dir() for path in folder.iterdir()}
    found = {
        "sysctl": [line for line in settings(Path("/proc/sys/net")) if not COUNTED.match(line)],
        "nftables": rules(lines("nft", "--stateless", "list", "ruleset")),
        # People come and go: a session of theirs is a mount too.
        "mounts": [line for line in Path("/proc/self/mounts").read_text().splitlines() if " /run/user/" not in line],
        "links": [path.name for path in Path("/sys/class/net").iterdir()],
        "addresses": [" ".join(line.split()[1:4]) for line in lines("ip", "-o", "address", "show")],
        "routes": lines("ip", "-4", "route", "show"),
        "connections": [line.split()[-1] for line in lines("ss", "-Htn", "state", "established", "dst", network)],
        "cgroups": shell("find /sys/fs/cgroup /run/distcloud-lab -type d -name 'distcloud-lab-*' 2>/dev/null || true").splitlines(),
        "processes": [line for line in lines("ps", "-eo", "args") if line.startswith("systemd-nspawn ")],
        "folders": [str(path) for path in folders if "distcloud" in path.name or STATE in path.parents],
        "labs": running_labs(),
    }
    return {kind: sorted(set(lines)) for kind, lines in found.items()}


def settings(folder: Path) -> list[str]:
    """Settings as sysctl prints them, without unreadable ones."""
    found = []
    for path in folder.rglob("*"):
        with suppress(OSError):
            found.append(f"{'.'.join(path.relative_to(folder.parent).parts)} = {' '.join(path.read_text().split())}")
    return found


def rules(ruleset: Iterable[str]) -> list[str]:
    """Firewall rules, each with its table and chain, so that lines can be compared one by one."""
    found: list[str] = []
    path: list[str] = []
    for line in map(str.strip, ruleset):
        if line.endswith("{"):
            path.append(line[:-1].strip())
            found.append(" / ".join(path))
        elif line == "}":
            path.pop()
        elif line:
            found.append(" / ".join([*path, line]))
    return found


def running_labs() -> list[str]:
    """Hosts of all labs that have living processes, by their cgroups."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if alive(folder):
                    found |= set(re.findall(r"distcloud-lab-[\w-]+", (folder / "cgroup").read_text()))
    return sorted(found)


def marks(labs: Collection[str], hosts: Collection[str], bridge: str, network: str) -> list[str]:
    """Words that identify parts of these labs."""
    links = [hashlib.sha256(f"{lab}/{host}".encode()).hexdigest()[:10] for lab in labs for host in hosts]
    named = [form.format(lab) for lab in labs for form in ("distcloud-lab-{}", "distcloud-lab/{}", "/lab-{}")]
    return [*named, *("distcloud_lab_" + lab.replace("-", "_") for lab in labs), bridge, network.rpartition(".")[0] + ".", *links]


def left_behind(before: Mapping[str, list[str]], after: Mapping[str, list[str]], ours: Collection[str]) -> Snapshot:
    """What is new, and which settings, rules and routes changed, by kind; kinds without a difference are left out.

    If another lab runs on the machine too, only lines with one of the words in `ours` count.
    """
    foreign = any(not any(mark in lab for mark in ours) for lab in [*before["labs"], *after["labs"]])
    found: Snapshot = {}
    for kind in before:
        lines = sorted(set(after[kind]) - set(before[kind]))
        if kind in ("nftables", "routes"):
            lines += [f"gone: {line}" for line in sorted(set(before[kind]) - set(after[kind]))]
        if kind == "sysctl":
            lines = other_values(before[kind], after[kind])
        elif foreign:
            lines = [line for line in lines if any(mark in line for mark in ours)]
        if lines:
            found[kind] = lines
    return found


def other_values(before: list[str], after: list[str]) -> list[str]:
    """Settings with another value than before. New ones came with a kernel module and have their defaults."""
    was, now = ({line.partition(" = ")[0]: line.partition(" = ")[2] for line in lines} for lines in (before, after))
    return [f"{name} = {now.get(name, 'gone')}, was {value}" for name, value in was.items() if now.get(name) != value]


def main() -> None:
    target, network = Path(sys.argv[1]), sys.argv[2]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(snapshot(network), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
