# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Baked trees of the lab: a root file system by mmdebstrap per kind of host, kept under the hash of what went into it.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import hashlib
import json
import os
import re
import subprocess
import time
import typing as t

from .._core.apt_sources import Source, local_sources
from .._core.module import Failure
from .._core.process import run_in_group
from . import outer

# Increase when `finish` changes: it is part of the hash.
FORMAT = 1
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
EXTRA_AUTHORITIES = "/usr/local/share/ca-certificates"
DPKG_OPTIONS = (
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/info/*",
    "force-unsafe-io",
)
APT_OPTIONS = (
    'APT::Install-Recommends "false"',
    'Acquire::Languages "none"',
    'Acquire::Retries "5"',
    'DPkg::Lock::Timeout "300"',
)
PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.S)
# What a lab host needs to be a lab host; no pattern of units to disable touches these.
KEPT = ("ssh.service", "systemd-networkd*", "dbus*", "remote-fs.target", "getty.target", "multi-user.target", "nftables.service")
FILES = {
    "etc/ssh/sshd_config.d/10-lab.conf": (
        "PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUseDNS no\n"
    ),
    "etc/systemd/system/systemd-networkd-wait-online.service.d/lab.conf": (
        "[Service]\nExecStart=\nExecStart=/usr/lib/systemd/systemd-networkd-wait-online --interface=host0 --timeout=20\n"
    ),
    "etc/sudoers.d/lab": "lab ALL=(ALL) NOPASSWD: ALL\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
    "etc/machine-id": "",
}


def choose_mirror(sources: t.Iterable[Source], codename: str) -> str:
    """The Debian mirror in use here: where the machine's own release comes from; empty if unknown."""
    for source in sources:
        if codename in source.suites and "main" in source.components and source.uri.startswith(("http://", "https://")):
            return source.uri.rstrip("/")
    return ""


def local_mirror() -> str:
    with open("/etc/os-release", encoding="utf-8") as handle:
        codename = dict(re.findall(r'^(\w+)="?([^"\n]*)', handle.read(), re.M)).get("VERSION_CODENAME", "")
    mirror = choose_mirror(local_sources(), codename)
    if not mirror:
        raise Failure(f"no Debian mirror found in /etc/apt for release {codename!r}; set lab_host_mirror", "lab", "mirror")
    return mirror


def authorities() -> dict[str, str]:
    """The outer machine's certificate authorities: its bundle, and the extra ones under their own names."""
    found = {}
    paths = [BUNDLE, *sorted(glob.glob(EXTRA_AUTHORITIES + "/**/*.crt", recursive=True))]
    for path in paths:
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as handle:
                found[path] = handle.read()
    return found


def recipe(name: str, spec: t.Mapping[str, t.Any], common: t.Mapping[str, t.Any], trusted: t.Mapping[str, str]) -> dict[str, t.Any]:
    """Everything that decides what a tree contains."""
    return {
        "format": FORMAT,
        "kind": name,
        "suite": common["suite"],
        "components": list(common["components"]),
        "mirror": common["mirror"],
        "packages": sorted(set(common["packages"]) | set(spec.get("packages") or [])),
        "disabled_units": sorted(set(common["disabled_units"]) | set(spec.get("disabled_units") or [])),
        "dpkg": list(DPKG_OPTIONS),
        "apt": list(APT_OPTIONS),
        "files": FILES,
        "authorities": {path: hashlib.sha256(text.encode()).hexdigest() for path, text in sorted(trusted.items())},
    }


def digest(of: t.Mapping[str, t.Any]) -> str:
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:20]


def command(of: t.Mapping[str, t.Any], target: str) -> list[str]:
    """The mmdebstrap command line. The package lists stay, so that a role's first installation needs no download of them."""
    argv = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        "--skip=cleanup/apt/lists",
        f"--include={','.join(of['packages'])}",
    ]
    argv += [f"--dpkgopt={option}" for option in of["dpkg"]]
    argv += [f"--aptopt={option}" for option in of["apt"]]
    return [*argv, of["suite"], target, f"deb {of['mirror']} {of['suite']} {' '.join(of['components'])}"]


def units_to_disable(enabled: t.Iterable[str], patterns: t.Iterable[str]) -> list[str]:
    patterns = list(patterns)
    return sorted(
        unit
        for unit in set(enabled)
        if any(fnmatch.fnmatch(unit, pattern) for pattern in patterns) and not any(fnmatch.fnmatch(unit, pattern) for pattern in KEPT)
    )


def _write(tree: str, path: str, content: str, mode: int = 0o644) -> None:
    full = os.path.join(tree, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w", encoding="utf-8") as handle:
        handle.write(content)
    os.chmod(full, mode)


def finish(tree: str, of: t.Mapping[str, t.Any], trusted: t.Mapping[str, str]) -> None:
    """Configure what packages do not: units, authorities, access; remove what hosts must not share."""
    for path, content in of["files"].items():
        _write(tree, path, content, 0o440 if path.startswith("etc/sudoers.d") else 0o644)
    for key in glob.glob(os.path.join(tree, "etc/ssh/ssh_host_*")):
        os.unlink(key)
    what = f"finishing the tree {of['kind']}"
    outer.run(["chroot", tree, "useradd", "--create-home", "--shell", "/bin/bash", "lab"], what)
    for folder, owner in (("root/.ssh", "root"), ("home/lab/.ssh", "lab")):
        outer.run(["chroot", tree, "install", "-d", "-m", "0700", "-o", owner, "-g", owner, "/" + folder], what)

    # An authority that the guest's own bundle lacks is added as an extra one, else the next update of the bundle would drop it.
    with open(os.path.join(tree, BUNDLE.lstrip("/")), encoding="utf-8") as handle:
        known = {block.strip() for block in PEM.findall(handle.read())}
    number = 0
    for text in trusted.values():
        for block in PEM.findall(text):
            if block.strip() not in known:
                known.add(block.strip())
                number += 1
                _write(tree, f"{EXTRA_AUTHORITIES.lstrip('/')}/outer-{number:03d}.crt", block.strip() + "\n")
    if number:
        outer.run(["chroot", tree, "update-ca-certificates"], what, timeout=120)

    system = os.path.join(tree, "etc/systemd/system")
    enabled = [os.path.basename(path) for path in glob.glob(system + "/*.wants/*") + glob.glob(system + "/*.requires/*")]
    units = units_to_disable(enabled, of["disabled_units"])
    if units:
        outer.run(["systemctl", f"--root={tree}", "--quiet", "disable", *units], what)
    outer.run(["systemctl", f"--root={tree}", "--quiet", "enable", "systemd-networkd.service", "ssh.service"], what)
    outer.run(
        ["systemctl", f"--root={tree}", "--quiet", "mask", "console-getty.service", "systemd-hostnamed-varlink.service"],
        what,
        check=False,
    )
    for path in glob.glob(os.path.join(tree, "etc/rc[0-6S].d/[SK]*")):
        if units_to_disable([re.sub(r"^[SK]\d+", "", os.path.basename(path)) + ".service"], of["disabled_units"]):
            os.unlink(path)


def bake(of: t.Mapping[str, t.Any], cache: str, trusted: t.Mapping[str, str], proxies: t.Mapping[str, str], timeout: int) -> float:
    """Make the tree of a recipe in the cache; seconds it took, 0 where it was already there. Two runs do not bake the same at once."""
    name = digest(of)
    final = os.path.join(cache, name)
    os.makedirs(cache, mode=0o755, exist_ok=True)
    with outer.locked(f"bake-{name}", timeout) as lock:
        try:
            return 0.0 if os.path.isdir(final) else _bake(of, cache, final, trusted, proxies, timeout, lock)
        finally:
            outer.drop_lock(f"bake-{name}")


def _bake(
    of: t.Mapping[str, t.Any], cache: str, final: str, trusted: t.Mapping[str, str], proxies: t.Mapping[str, str], timeout: int, lock: int
) -> float:
    began = time.monotonic()
    temporary = os.path.join(cache, f".bake-{os.path.basename(final)}")
    outer.remove_tree(temporary)
    tree = os.path.join(temporary, "root")
    os.makedirs(tree)
    # By the recipe too: another one of this kind may be baked at the same time.
    log = os.path.join(cache, f"bake-{of['kind']}-{os.path.basename(final)}.log")
    with open(log, "wb") as handle:
        try:
            code = run_in_group(
                ["unshare", "--mount", "--propagation", "private", *command(of, tree)],
                timeout,
                handle,
                env=dict(outer.ENVIRONMENT, DEBIAN_FRONTEND="noninteractive", **proxies),
                cwd="/",
                lock=lock,
            )
        except subprocess.TimeoutExpired as error:
            raise Failure(
                (f"baking {of['kind']} was not finished after {timeout} s (log: {log}); with a slow mirror set lab_host_bake_timeout"),
                "lab",
                "timeout",
                {"log": log},
            ) from error
    if code != 0:
        with open(log, encoding="utf-8", errors="replace") as handle:
            lines = [line for line in handle.read().splitlines() if line.startswith(("E:", "W:", "dpkg: error"))] or ["see the log"]
        outer.remove_tree(temporary)
        raise Failure("baking {} failed (log: {}):\n{}".format(of["kind"], log, "\n".join(lines[-15:])), "lab", "bake", {"log": log})
    finish(tree, of, trusted)
    with contextlib.suppress(FileNotFoundError):  # another run's purge may have been sooner
        os.unlink(log)
    seconds = round(time.monotonic() - began, 1)
    outer.write_json(os.path.join(temporary, "recipe.json"), dict(of, seconds=seconds))
    os.rename(temporary, final)
    return seconds
