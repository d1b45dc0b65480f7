"""Creates a whole BIOS disk from a tar file, without loop devices or mounts: boot record, GRUB in the gap, one ext4, then qcow2."""

from __future__ import annotations

import os
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _process import run

MIB = 1024 * 1024
SECTOR = 512
START = MIB  # of the one partition: leaves the gap in which GRUB's core lies
GRUB_MODULES = ("biosdisk", "part_msdos", "ext2", "linux", "normal", "configfile", "serial", "terminal", "boot")
GRUB_FILES = Path("/usr/lib/grub/i386-pc")
EARLY = "set root=(hd0,msdos1)\nset prefix=(hd0,msdos1)/boot/grub\nconfigfile /boot/grub/grub.cfg\n"


def content_mib(tar: Path) -> int:
    """The size of the tree in MiB, counted in blocks of 4 KiB as the file system will."""
    with tarfile.open(tar) as archive:
        blocks = sum((member.size + 4095) // 4096 + (0 if member.isfile() else 1) for member in archive)
    return blocks * 4096 // MIB + 1


def make_raw(tar: Path, disk: Path, work: Path, recipe: Mapping[str, Any], epoch: int) -> int:
    """Writes the raw disk and returns its size in MiB."""
    shape = recipe["disk"]
    size = content_mib(tar) * 107 // 100 + int(shape["journal_mib"]) + int(shape["free_mib"])
    with disk.open("wb") as stream:
        stream.truncate(START + size * MIB)
    run(
        [
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-b",
            "4096",
            "-m",
            "0",
            "-L",
            "root",
            "-U",
            shape["filesystem_uuid"],
            "-J",
            f"size={shape['journal_mib']}",
            "-O",
            "^metadata_csum_seed,^orphan_file",
            "-E",
            f"offset={START},hash_seed={shape['filesystem_uuid']},assume_storage_prezeroed=1,lazy_itable_init=0,root_owner=0:0",
            "-d",
            tar,
            disk,
            f"{size}M",
        ],
        what="making the file system",
        epoch=epoch,
    )
    early, core = work / "early.cfg", work / "core.img"
    early.write_text(EARLY)
    run(
        ["grub-mkimage", "-d", GRUB_FILES, "-O", "i386-pc", "-c", early, "-p", "(hd0,msdos1)/boot/grub", "-o", core, *GRUB_MODULES],
        what="making the boot loader",
        epoch=epoch,
    )
    write_boot_record(disk, (GRUB_FILES / "boot.img").read_bytes(), core.read_bytes(), size * MIB // SECTOR, int(shape["signature"], 16))
    return size


def write_boot_record(disk: Path, boot: bytes, core: bytes, sectors: int, signature: int) -> None:
    """Write GRUB's first sector with a partition table of one active Linux partition, and GRUB's core in the sectors after it."""
    if len(core) > START - SECTOR:
        raise ValueError("GRUB's core does not fit before the partition")
    beyond = b"\xfe\xff\xff"  # "no cylinders": the sectors count
    entry = struct.pack("<B3sB3sII", 0x80, beyond, 0x83, beyond, START // SECTOR, sectors)
    record = boot[:440] + struct.pack("<IH", signature, 0) + entry + bytes(48) + b"\x55\xaa"
    with disk.open("r+b") as stream:
        stream.write(record)
        stream.write(core)


def convert(disk: Path, image: Path, compression: str) -> None:
    """Raw to compressed qcow2; one thread and in order, so that the cluster order is reproducible."""
    run(
        ["qemu-img", "convert", "-q", "-m", "1", "-f", "raw", "-O", "qcow2", "-c", "-o", f"compression_type={compression}", disk, image],
        what="converting to qcow2",
    )
    with image.open("rb") as stream:
        os.fsync(stream.fileno())
