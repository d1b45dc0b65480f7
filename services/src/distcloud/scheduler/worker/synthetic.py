"""The slot ad that a worker would advertise, computed from the worker's own configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ..domain.model import Resources
from .configuration import SettingsError, WorkerSettings, worker_file

# What the worker image (built by role worker_image) and its HTCondor advertise, as ClassAd text: recorded from a real worker
# (HTCondor 23.9.6, Debian 13), without the attributes that depend on the running machine.
IMAGE_CONSTANTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "MyType": '"Machine"',
        "TargetType": '"Job"',
        "Arch": '"X86_64"',
        "OpSys": '"LINUX"',
        "OpSysAndVer": '"Debian13"',
        "OpSysLegacy": '"LINUX"',
        "OpSysLongName": '"Debian GNU/Linux 13"',
        "OpSysMajorVer": "13",
        "OpSysName": '"Debian"',
        "OpSysShortName": '"Debian"',
        "OpSysVer": "1300",
        "UtsnameMachine": '"x86_64"',
        "UtsnameSysname": '"Linux"',
        "CondorPlatform": '"$CondorPlatform: X86_64-Debian_13 $"',
        "CondorVersion": '"$CondorVersion: 23.9.6 2024-08-08 $"',
        "HasFileTransfer": "true",
        "HasFileTransferPluginMethods": '"box,https,gdrive,dav,davs,http,onedrive,data,ftp,file,s3,gs"',
        "HasIOProxy": "true",
        "HasJICLocalConfig": "true",
        "HasJICLocalStdin": "true",
        "HasJobDeferral": "true",
        "HasJobTransferPlugins": "true",
        "HasMPI": "true",
        "HasPerFileEncryption": "true",
        "HasReconnect": "true",
        "HasSelfCheckpointTransfers": "true",
        "HasSshd": "true",
        "HasTDP": "true",
        "HasTransferInputRemaps": "true",
        "HasVM": "false",
        "IsLocalStartd": "false",
        "SlotID": "1",
        "SlotTypeID": "1",
        "SlotType": '"Partitionable"',
        "SlotWeight": "Cpus",
        "PartitionableSlot": "true",
        "NumDynamicSlots": "0",
        "AcceptedWhileDraining": "false",
        "State": '"Unclaimed"',
        "Activity": '"Idle"',
        "LoadAvg": "0.0",
        "TotalLoadAvg": "0.0",
        "CondorLoadAvg": "0.0",
        "TotalCondorLoadAvg": "0.0",
        "KeyboardIdle": "86400",
        "ConsoleIdle": "86400",
        "CurrentRank": "0.0",
        "Rank": "0.0",
        "GPUs": "0",
        "DetectedGPUs": "0",
        "TotalGPUs": "0",
        "TotalSlotGPUs": "0",
        "WithinResourceLimits": (
            "MY.Cpus > 0 && TARGET.RequestCpus <= MY.Cpus && MY.Memory > 0 && TARGET.RequestMemory <= MY.Memory && "
            "MY.Disk > 0 && TARGET.RequestDisk <= MY.Disk && (TARGET.RequestGPUs =?= undefined || MY.GPUs >= TARGET.RequestGPUs)"
        ),
        "Requirements": "START && (WithinResourceLimits)",
    }
)

_MACRO: Final = re.compile(r"\$\(([A-Za-z0-9_.]+)\)")
_MAX_MACROS: Final = 1000
_ASSIGNMENT: Final = re.compile(r"([A-Za-z0-9_.]+)\s*=\s*(.*)")


def slot_ad(settings: WorkerSettings, offer: Resources, constants: Mapping[str, str] = IMAGE_CONSTANTS) -> dict[str, str]:
    """The ad of the partitionable slot, attribute to ClassAd text; `offer` are the slot's resources. Raises SettingsError."""
    macros = parse(worker_file(settings))
    disk_kib = int(offer.disk_gib * 1024 * 1024)
    ad = dict(constants)
    ad |= {
        "Machine": f'"{settings.fqdn}"',
        "Name": f'"slot1@{settings.fqdn}"',
        "UidDomain": f'"{settings.domain}"',
        "FileSystemDomain": f'"{settings.fqdn}"',
        "START": expand("$(START)", macros),
        "MaxJobRetirementTime": expand("$(MAXJOBRETIREMENTTIME)", macros),
    }
    for name, value in (("Cpus", offer.cores), ("Memory", offer.ram_mib), ("Disk", disk_kib)):
        ad |= {prefix + name: str(value) for prefix in ("", "Total", "TotalSlot", "Detected")}
    for name in expand("$(STARTD_ATTRS)", macros).split():
        ad[name] = expand(f"$({name})", macros)
    return ad


def parse(text: str) -> dict[str, str]:
    """Read the assignments of a configuration file as HTCondor does: continuation lines joined, the last assignment wins, names
    case-insensitive.

    `use` lines define none of our attributes and are skipped. A name that refers to itself takes its earlier value.
    """
    macros: dict[str, str] = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.lstrip().startswith("#"):
            continue
        match = _ASSIGNMENT.fullmatch(line.strip())
        if match is None:
            continue
        name, value = match[1].lower(), match[2]
        earlier = macros.get(name, "")
        macros[name] = re.sub(rf"\$\({re.escape(name)}\)", lambda _, earlier=earlier: earlier, value, flags=re.IGNORECASE).strip()
    return macros


def expand(text: str, macros: Mapping[str, str]) -> str:
    """Replace each `$(NAME)` by its value; undefined names are empty, `$(DOLLAR)` is a dollar sign.

    Raises SettingsError for macros that refer to each other.
    """
    done: list[str] = []  # up to the last dollar sign that stands for itself
    replaced = 0
    while (match := _MACRO.search(text)) is not None:
        if match[1].upper() == "DOLLAR":
            done.append(f"{text[: match.start()]}$")
            text = text[match.end() :]
            continue
        replaced += 1
        if replaced > _MAX_MACROS:
            raise SettingsError(f"configuration: more than {_MAX_MACROS} macros in one value; do they refer to each other?")
        text = text[: match.start()] + macros.get(match[1].lower(), "") + text[match.end() :]
    return "".join((*done, text))
