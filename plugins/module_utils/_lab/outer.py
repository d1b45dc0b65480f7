# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outer machine under a lab: its records, locks, cgroups, links, rules and the one sysctl that a lab needs.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
import typing as t

from .._core.files import replace_file
from .._core.module import Failure
from . import plan

STATE = "/var/lib/distcloud-lab"
LOCKS = "/run/lock"
LINKS = "/sys/class/net"
FORWARD = "/proc/sys/net/ipv4/ip_forward"
# The kernel resets this one whenever the other changes.
REDIRECTS = "/proc/sys/net/ipv4/conf/all/accept_redirects"
OWN_CGROUP_MOUNT = "/run/distcloud-lab/cgroup"
# Root's PATH under sudo may lack the system's directories, and the caller's environment must not reach the guests.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}


def run(argv: list[str], what: str, stdin: str = "", timeout: int = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command of the system; an error becomes a Failure with the end of the command's output."""
    try:
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            argv, input=stdin, capture_output=True, text=True, timeout=timeout, env=ENVIRONMENT, cwd="/", check=False, errors="replace"
        )
    except FileNotFoundError as error:
        raise Failure(f"{what}: the command {argv[0]} is not installed", "lab", "missing_command", {"command": argv[0]}) from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{what}: {argv[0]} did not end within {timeout} s", "lab", "timeout") from error
    if check and done.returncode != 0:
        output = (done.stderr or done.stdout).strip()[-2000:]
        raise Failure(f"{what}: {output or f'{argv[0]} ended with {done.returncode}'}", "lab", done.returncode, {"command": argv[0]})
    return done


def wait_for(test: t.Callable[[], t.Any], timeout: float, interval: float = 0.1) -> t.Any:
    """The first true answer of ``test``, or the last false one after the timeout."""
    deadline = time.monotonic() + timeout
    while True:
        answer = test()
        if answer or time.monotonic() > deadline:
            return answer
        time.sleep(interval)


def lock_path(name: str) -> str:
    return os.path.join(LOCKS, f"distcloud-lab-{name}.lock")


def _take(path: str) -> int | None:
    """The lock as a descriptor, None while another process holds it. A file that its last holder removed no longer counts."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(handle).st_ino:
                return handle
    except BlockingIOError:
        pass
    os.close(handle)
    return None


@contextlib.contextmanager
def locked(name: str, timeout: float) -> t.Iterator[int]:
    """Hold a lock of the outer machine; a timeout names the process that holds it."""
    os.makedirs(LOCKS, exist_ok=True)
    path = lock_path(name)
    # Descriptor 0 would count as false: hence the list.
    taken = wait_for(lambda: [handle for handle in [_take(path)] if handle is not None], timeout, 0.2)
    if not taken:
        with open(path, encoding="utf-8", errors="replace") as stream:
            holder = stream.read(20).strip() or "unknown"
        raise Failure(
            f"another run (process {holder}) has been working on {name} for more than {timeout} s", "lab", "locked", {"lock": path}
        )
    try:
        os.ftruncate(taken[0], 0)
        os.pwrite(taken[0], str(os.getpid()).encode(), 0)
        yield taken[0]
    finally:
        os.close(taken[0])


def is_locked(name: str) -> bool:
    """Whether somebody holds a lock at this moment; leaves no file behind."""
    if not os.path.exists(lock_path(name)):
        return False
    handle = _take(lock_path(name))
    if handle is None:
        return True
    drop_lock(name)
    os.close(handle)
    return False


def drop_lock(name: str) -> None:
    """Remove a lock's file; only for its holder."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(lock_path(name))


# -- records -----------------------------------------------------------------------------------------------------------------------------


def read_json(path: str) -> dict[str, t.Any] | None:
    try:
        with open(path, encoding="utf-8") as handle:
            found: dict[str, t.Any] = json.load(handle)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Failure(f"{path} is not a readable record ({error}); remove this lab by hand or restore the file", "lab", "record") from error
    return found


def write_json(path: str, data: t.Mapping[str, t.Any]) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    replace_file(path, json.dumps(data, indent=1, sort_keys=True).encode("utf-8"), 0o644)


def lab_folder(lab: str) -> str:
    return os.path.join(STATE, lab)


def host_folder(lab: str, host: str) -> str:
    return os.path.join(STATE, lab, "hosts", host)


def lab_record(lab: str) -> dict[str, t.Any] | None:
    record = read_json(os.path.join(lab_folder(lab), "lab.json"))
    if record is not None and record.get("format") != plan.FORMAT:
        raise Failure(
            f"lab {lab} was created by another version (record format {record.get('format')}, expected {plan.FORMAT}); remove "
            "it with that version's lab-down",
            "lab",
            "format",
        )
    return record


def lab_records() -> list[dict[str, t.Any]]:
    names = sorted(os.listdir(STATE)) if os.path.isdir(STATE) else []
    return [record for record in (lab_record(name) for name in names if plan.LAB_NAME.match(name)) if record]


def host_records(lab: str) -> dict[str, dict[str, t.Any]]:
    folder = os.path.join(lab_folder(lab), "hosts")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    found = {name: read_json(os.path.join(folder, name, "host.json")) for name in names}
    return {name: record for name, record in found.items() if record is not None}


# -- cgroups -----------------------------------------------------------------------------------------------------------------------------


def mounts() -> list[tuple[str, str, str]]:
    """(device, mount point, type) of this namespace."""
    with open("/proc/self/mounts", encoding="utf-8") as handle:
        return [(parts[0], parts[1], parts[2]) for parts in (line.split() for line in handle)]


def unified_cgroups() -> bool:
    """Whether this machine has only the unified hierarchy, so that a guest's systemd takes /sys/fs/cgroup as it is."""
    return any(point == "/sys/fs/cgroup" and kind == "cgroup2" for device, point, kind in mounts())


def cgroup_root(make: bool = False) -> str | None:
    """Where cgroup v2 can be reached; a machine that mounts it nowhere gets a mount of our own where ``make`` allows."""
    found = [point for device, point, kind in mounts() if kind == "cgroup2"]
    if found:
        return found[0]
    if not make:
        return None
    os.makedirs(OWN_CGROUP_MOUNT, exist_ok=True)
    run(["mount", "-t", "cgroup2", "cgroup2", OWN_CGROUP_MOUNT], "mounting cgroup v2")
    return OWN_CGROUP_MOUNT


def drop_own_cgroup_mount() -> None:
    if any(point == OWN_CGROUP_MOUNT for device, point, kind in mounts()):
        run(["umount", OWN_CGROUP_MOUNT], "unmounting cgroup v2", check=False)
    for folder in (OWN_CGROUP_MOUNT, os.path.dirname(OWN_CGROUP_MOUNT)):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def cgroup_path(lab: str, host: str) -> str | None:
    root = cgroup_root()
    return os.path.join(root, plan.cgroup_name(lab, host)) if root else None


def cgroup_processes(path: str | None) -> list[int]:
    """Every process in a cgroup or below."""
    found: list[int] = []
    if path:
        for folder, _below, _files in os.walk(path):
            with contextlib.suppress(OSError), open(os.path.join(folder, "cgroup.procs"), encoding="utf-8") as handle:
                found += [int(word) for word in handle.read().split()]
    return found


def kill_cgroup(path: str | None, timeout: float = 60) -> None:
    """Kill everything in a cgroup and wait until it is empty."""
    if not path or not os.path.isdir(path):
        return
    try:
        with open(os.path.join(path, "cgroup.kill"), "w", encoding="utf-8") as handle:
            handle.write("1")
    except OSError:  # kernels before 5.14 have no such file
        for process in cgroup_processes(path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    if not wait_for(lambda: not cgroup_processes(path), timeout):
        raise Failure(f"processes {cgroup_processes(path)[:10]} in {path} survive SIGKILL", "lab", "unkillable")


def remove_cgroup(path: str | None) -> None:
    """Remove an empty cgroup, depth first; the kernel may hold it for a moment after the last process has gone."""
    if not path or not os.path.isdir(path):
        return

    def gone() -> bool:
        for folder, _below, _files in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        return not os.path.isdir(path)

    if not wait_for(gone, 60):
        raise Failure(f"cgroup {path} cannot be removed; processes in it: {cgroup_processes(path)}", "lab", "cgroup")


# -- network -----------------------------------------------------------------------------------------------------------------------------


def links() -> dict[str, dict[str, t.Any]]:
    return {link["ifname"]: link for link in json.loads(run(["ip", "-json", "-details", "address", "show"], "reading the links").stdout)}


def bridge_owners() -> dict[str, str]:
    """The lab that owns each bridge by its alias, empty for none; needs no program, a fresh machine may lack them."""
    found = [name for name in sorted(os.listdir(LINKS)) if os.path.isdir(os.path.join(LINKS, name, "bridge"))]
    return {name: plan.bridge_owner(setting(os.path.join(LINKS, name, "ifalias"))) for name in found}


def bridge_networks() -> dict[str, str]:
    """The IPv4 network of each bridge that has one, such as 10.203.0.0/24."""
    found = {name: link.get("addr_info", []) for name, link in links().items() if link.get("linkinfo", {}).get("info_kind") == "bridge"}
    networks = {name: [plan.network_of(entry) for entry in entries if entry.get("family") == "inet"] for name, entries in found.items()}
    return {name: some[0] for name, some in networks.items() if some}


def bridge_problems(desired: t.Mapping[str, t.Any], found: t.Mapping[str, dict[str, t.Any]]) -> list[str]:
    """What is wrong with the bridge of the lab `desired["lab"]`: nothing, or the fields."""
    link = found.get(desired["bridge"])
    if link is None:
        return ["absent"]
    if link.get("linkinfo", {}).get("info_kind") != "bridge":
        raise Failure(f"{desired['bridge']} exists but is not a bridge; set another name for the lab's bridge", "lab", "bridge")
    # A bridge of ours that an interrupted run left without its alias still has its hardware address.
    if not plan.bridge_owner(link.get("ifalias") or "") and link.get("address") != plan.bridge_mac(desired["bridge"]):
        raise Failure(f"{desired['bridge']} is a foreign bridge; set another name for the lab's bridge (lab_host_bridge)", "lab", "bridge")
    wrong = []
    prefix = int(desired["network"].split("/")[1])
    if not any(entry.get("local") == desired["gateway"] and entry.get("prefixlen") == prefix for entry in link.get("addr_info", [])):
        wrong.append("address")
    if link.get("ifalias") != plan.bridge_alias(desired["lab"]):
        wrong.append("owner")
    if "UP" not in link.get("flags", []):
        wrong.append("down")
    return wrong


def make_bridge(desired: t.Mapping[str, t.Any], wrong: list[str]) -> None:
    bridge, prefix = desired["bridge"], desired["network"].split("/")[1]
    if "absent" in wrong:
        what = f"making the bridge {bridge}"
        run(
            ["ip", "link", "add", bridge, "address", plan.bridge_mac(bridge), "type", "bridge", "forward_delay", "0", "stp_state", "0"],
            what,
        )
    run(["ip", "address", "flush", "dev", bridge, "scope", "global"], "addressing the bridge")
    run(["ip", "address", "add", f"{desired['gateway']}/{prefix}", "dev", bridge], "addressing the bridge")
    run(["ip", "link", "set", "dev", bridge, "alias", plan.bridge_alias(desired["lab"]), "up"], "bringing the bridge up")


def attach_link(link: str, bridge: str, alias: str) -> None:
    run(["ip", "link", "set", "dev", link, "alias", alias, "master", bridge, "up"], f"connecting {link} to {bridge}")


def remove_link(name: str) -> None:
    if os.path.isdir(os.path.join(LINKS, name)):
        try:
            run(["ip", "link", "delete", name], f"removing the link {name}")
        except Failure:
            # The kernel, which removes a veth with its namespace, may have been faster.
            if os.path.isdir(os.path.join(LINKS, name)):
                raise


def has_table(lab: str, network: str = "") -> bool:
    """Whether our table exists and masquerades the lab's network, where one is named."""
    if shutil.which("nft", path=ENVIRONMENT["PATH"]) is None:
        return False
    done = run(["nft", "list", "table", "ip", plan.table_name(lab)], "reading the rules", check=False)
    return done.returncode == 0 and (not network or f"ip saddr {network} ip daddr != {network} masquerade" in done.stdout)


def make_table(lab: str, network: str) -> None:
    # One transaction: add (harmless where it exists), delete, and load again.
    name = plan.table_name(lab)
    run(["nft", "-f", "-"], "loading the rules", stdin=f"table ip {name} {{}}\ndelete table ip {name}\n{plan.nat_rules(lab, network)}")


def remove_table(lab: str) -> None:
    done = run(["nft", "delete", "table", "ip", plan.table_name(lab)], "removing the rules", check=False)
    if done.returncode != 0 and "No such file" not in done.stderr:
        raise Failure(f"removing the rules of lab {lab}: {done.stderr.strip()}", "lab", "nft")


def setting(path: str) -> str:
    with open(path, encoding="utf-8") as handle:
        return handle.read().strip()


def set_setting(path: str, value: str) -> None:
    with open(path, "w", encoding="utf-8") as handle:
        handle.write(value)


def forwarding() -> str:
    return setting(FORWARD)


def set_forwarding(value: str) -> None:
    set_setting(FORWARD, value)


def boot_id() -> str:
    return setting("/proc/sys/kernel/random/boot_id")


def record_forwarding() -> None:
    """Record the settings before the first lab, once per boot of the outer machine."""
    path = os.path.join(STATE, "outer.json")
    known = read_json(path)
    if known is None or known.get("boot_id") != boot_id():
        write_json(path, {"boot_id": boot_id(), "ip_forward": forwarding(), "accept_redirects": setting(REDIRECTS)})


def restore_forwarding() -> bool:
    """Restore the recorded settings once no lab is up."""
    path = os.path.join(STATE, "outer.json")
    known = read_json(path)
    present = links()
    if known is None or any(record["bridge"] in present for record in lab_records() if record.get("up")):
        return False
    if known.get("boot_id") == boot_id() and known["ip_forward"] != forwarding():
        set_forwarding(known["ip_forward"])
        if "accept_redirects" in known:
            set_setting(REDIRECTS, known["accept_redirects"])
    os.unlink(path)
    return True


def remove_tree(path: str) -> None:
    shutil.rmtree(path, ignore_errors=False) if os.path.isdir(path) else None


def remove_state_if_empty() -> None:
    with contextlib.suppress(OSError):
        os.rmdir(STATE)
