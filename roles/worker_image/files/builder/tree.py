"""Turns a freshly installed Debian tree into a worker: files, users, units, initrd, GRUB configuration, cleanup."""

from __future__ import annotations

import lzma
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _process import BuildError, run
from packages import Manifest

# Written by the installation, different every time, wanted by nobody in a machine's first minute.
LEFT_OVERS = (
    "boot/*.old",
    "etc/*-",
    "etc/.pwd.lock",
    "etc/hostname",
    "etc/resolv.conf",
    "etc/ssh/ssh_host_*",
    "root/.bash_history",
    "run/*",
    "tmp/*",
    "var/cache/apt/*",
    "var/cache/debconf/*-old",
    "var/cache/ldconfig/aux-cache",
    "var/cache/man/*",
    "var/lib/apt/lists/*",
    "var/lib/chrony/*",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/*-old",
    "var/lib/initramfs-tools/*",
    "var/lib/systemd/credential.secret",
    "var/lib/systemd/random-seed",
    "var/log/*",
    "var/tmp/*",
)
# What a log's owner expects to find: the folders of packages that do not make them again.
KEPT_FOLDERS = ("var/log/condor", "var/log/chrony", "var/log/private")


def customise(root: Path, recipe: Mapping[str, Any], manifest: Manifest) -> None:
    """Applies `recipe` to the tree at `root`, which must be a chroot with its packages configured."""
    add_slot_users(root, int(recipe["slot_users"]))
    for entry in recipe["files"]:
        write(root, entry["path"], entry["content"], entry["mode"])
    write(root, "/usr/share/distcloud/worker-image-manifest.json", manifest.text(), "0644")
    write(root, "/etc/apt/sources.list", manifest.sources_list(recipe["sources"]), "0644")
    for entry in recipe["folders"]:
        path = inside(root, entry["path"])
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(int(entry["mode"], 8))
    for entry in recipe["links"]:
        link(root, entry["path"], entry["target"])
    set_units(root, recipe["units"])
    for path in recipe["removed"]:
        for found in sorted(root.glob(path.lstrip("/"))):
            remove(found)
    unpack_modules(root)
    write_boot(root, recipe)
    clean(root)
    mark_updated(root)


def add_slot_users(root: Path, count: int) -> None:
    """Create the accounts that jobs run as: without password, shell or home, each with its own group."""
    for number in range(1, count + 1):
        name = f"slotu{number}"
        run(
            [
                "chroot",
                root,
                "useradd",
                "--system",
                "--user-group",
                "--no-create-home",
                "--home-dir",
                "/nonexistent",
                "--shell",
                "/usr/sbin/nologin",
                "--comment",
                "HTCondor slot user",
                name,
            ],
            what=f"adding the user {name}",
        )


def inside(root: Path, path: str) -> Path:
    """`path` of the image as a path of the builder; never through a symlink that leads out of the tree."""
    target = root / path.lstrip("/")
    parent = target.parent
    while not parent.exists():
        parent = parent.parent
    if not parent.resolve().is_relative_to(root.resolve()):
        raise BuildError(f"files: {path} leads out of the image through a symbolic link")
    return target


def write(root: Path, path: str, content: str, mode: str) -> None:
    target = inside(root, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink():
        target.unlink()
    target.write_text(content)
    target.chmod(int(mode, 8))


def link(root: Path, path: str, to: str) -> None:
    place = inside(root, path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(to)


def set_units(root: Path, units: Mapping[str, list[str]]) -> None:
    """Enable, disable and mask units; a missing unit is an error, since a typo would slow down every boot."""
    for verb in ("disable", "mask", "enable"):
        wanted = units.get(verb) or []
        absent = [unit for unit in wanted if not has_unit(root, unit)]
        if absent and verb != "mask":
            raise BuildError(f"units.{verb}: no such unit in the image: {', '.join(absent)}")
        if wanted:
            run(["systemctl", f"--root={root}", "--quiet", verb, *wanted], what=f"units.{verb}")


def has_unit(root: Path, unit: str) -> bool:
    template = unit.split("@")[0] + "@." + unit.rsplit(".", 1)[-1] if "@" in unit else unit
    folders = ("etc/systemd/system", "usr/lib/systemd/system")
    return any(os.path.lexists(root / folder / name) for folder in folders for name in (unit, template))


def unpack_modules(root: Path) -> None:
    """Store kernel modules uncompressed: the image is compressed anyway, and unpacking xz is slow on an emulated CPU."""
    for packed in sorted((root / "usr/lib/modules").rglob("*.ko.xz")):
        plain = packed.with_suffix("")
        plain.write_bytes(lzma.decompress(packed.read_bytes()))
        plain.chmod(0o644)
        packed.unlink()
    for folder in sorted((root / "usr/lib/modules").iterdir()):
        run(["chroot", root, "depmod", folder.name], what="listing the kernel modules")


def mark_updated(root: Path) -> None:
    """Mark /etc and /var as up to date with /usr; otherwise the first boot rebuilds caches that the packages contain."""
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    for path in ("usr", "etc/.updated", "var/.updated"):
        place = root / path
        if not place.exists():
            place.write_text(f"# The time stamp of /usr that this folder was brought up to.\nTIMESTAMP_NSEC={epoch * 10**9}\n")
        os.utime(place, (epoch, epoch))


def write_boot(root: Path, recipe: Mapping[str, Any]) -> None:
    """Create the initrd and a GRUB configuration that boots immediately, without a menu."""
    kernels = sorted((root / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise BuildError(f"packages: the image needs exactly one kernel, it has {len(kernels)}")
    version = kernels[0].name.removeprefix("vmlinuz-")
    run(["chroot", root, "update-initramfs", "-c", "-k", version], what="making the initrd", epoch=int(os.environ["SOURCE_DATE_EPOCH"]))
    arguments = " ".join(["root=LABEL=root", "rw", *recipe["kernel_arguments"]])
    lines = [
        "serial --unit=0 --speed=115200",
        "terminal_output serial console",
        f"linux /boot/{kernels[0].name} {arguments}",
        f"initrd /boot/initrd.img-{version}",
        "boot",
    ]
    write(root, "/boot/grub/grub.cfg", "\n".join(lines) + "\n", "0644")


def clean(root: Path) -> None:
    for pattern in LEFT_OVERS:
        for found in sorted(root.glob(pattern)):
            if str(found.relative_to(root)) not in KEPT_FOLDERS:
                remove(found)
    for folder in KEPT_FOLDERS:
        for found in sorted((root / folder).glob("*")):
            remove(found)
    # Empty: the first boot writes its own, and knows by this that it is the first.
    write(root, "/etc/machine-id", "", "0444")


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
