"""From the schedd's grouped answer to demand: which jobs are ours, for which group, and what they ask for. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..conjunction import split
from ..model import Demand, Resources

# JobStatus of HTCondor: 1 idle, 2 running, 6 transferring output (its slot is still claimed), 7 suspended.
_IDLE = 1
_RUNNING = (2, 6, 7)

# What HTCondor itself assumes for a job that says nothing (JOB_DEFAULT_REQUEST*).
DEFAULT_REQUEST = Resources(cores=1, ram_mib=128, disk_gib=0.01)

# Attributes by which jobs are grouped: each names something that decides where a job may run or which worker it gets.
GROUPING = (
    "DistcloudGroup",
    "Owner",
    "Requirements",
    "RequestCpus",
    "RequestMemory",
    "RequestDisk",
    "JobPrio",
    "JobStatus",
    "VMInstanceType",
    "VMImage",
    "VMNetwork",
    "VMKeepAlive",
)
# Never worth grouping by, or different for every job: groups would be as many as jobs.
_NEVER = {
    *(name.lower() for name in GROUPING),
    *("clusterid", "procid", "globaljobid", "qdate", "jobid", "enteredcurrentstatus", "servertime", "currenttime", "time", "my", "target"),
    *("true", "false", "undefined", "error", "is", "isnt", "group_name", "target_alias"),
    *("imagesize", "diskusage", "memoryusage", "residentsetsize", "numjobstarts", "lastremotehost", "jobstartdate"),
}
_LEARNED_AT_MOST = 24
# Users write job ads: nothing in one may be larger than what the scheduler's own tables and HTCondor's matching bear.
_LONGEST_TEXT = 255
_LONGEST_REQUIREMENTS = 16384
_LARGEST = 2**31 - 1
_LONGEST_KEEP_ALIVE = 30 * 86400
TOO_LONG = "error"  # stands for requirements that are too long: as a ClassAd expression it matches nothing

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_NAME = re.compile(r"(?<![\w.])(?:(MY|TARGET)\s*\.\s*)?([A-Za-z_]\w*)(?!\s*\()(?![\w.])", re.IGNORECASE)


def named_in(requirements: str, attribute: str) -> str | None:
    """The string that `requirements` compares `attribute` with (`group_name =?= "x"`), in either order; None without one.

    Only a comparison that is not negated and stands in a conjunction is a promise; one inside `||` or `!` names nobody.
    """
    if attribute.lower() not in requirements.lower():
        return None
    name = re.escape(attribute)
    literal = r'"((?:[^"\\]|\\.)*)"'
    forward = re.compile(rf"(?<![\w.])(?:TARGET\s*\.\s*)?{name}\s*(?:=\?=|==|\bis\b)\s*{literal}", re.IGNORECASE)
    backward = re.compile(rf"{literal}\s*(?:=\?=|==|\bis\b)\s*(?:TARGET\s*\.\s*)?{name}(?![\w.])", re.IGNORECASE)
    for clause in split(requirements):
        found = forward.fullmatch(clause) or backward.fullmatch(clause)
        if found:
            return found.group(1).replace('\\"', '"').replace("\\\\", "\\")
    return None


def attributes_of(requirements: Iterable[str]) -> tuple[str, ...]:
    """Further attributes that requirements speak of: they may be the job's own, so the matching needs their values.

    Those with `TARGET.` are the slot's. Bounded, because every attribute may split groups further.
    """
    found: dict[str, str] = {}
    for text in requirements:
        for scope, name in _NAME.findall(_STRING.sub('""', text)):
            if scope.upper() != "TARGET" and name.lower() not in _NEVER:
                found.setdefault(name.lower(), name)
    return tuple(found[key] for key in sorted(found))[:_LEARNED_AT_MOST]


def demands(rows: Iterable[Mapping[str, Any]]) -> list[Demand]:
    """Demand from the grouped rows; rows that differ in JobStatus alone become one. Jobs without a group are not ours.

    A row has the attributes of GROUPING evaluated where they are numbers or strings, `Requirements` as text, `count`,
    `attributes`: the further ones as ClassAd text, and `QDate`: when the oldest of its jobs was submitted.
    """
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        demand = one(row)
        if demand is None:
            continue
        attributes = tuple(sorted(demand.attributes.items()))
        key = (
            *(demand.group, demand.owner, demand.requirements, demand.request, demand.priority, demand.alias, demand.image),
            *(demand.flavor, demand.network, demand.keep_alive, attributes),
        )
        entry = merged.setdefault(key, {"demand": demand, "idle": 0, "running": 0, "waiting_since": None})
        status, count = _number(row.get("JobStatus")), int(row.get("count", 1))
        if status == _IDLE:
            entry["idle"] += count
            entry["waiting_since"] = min((at for at in (entry["waiting_since"], demand.waiting_since) if at is not None), default=None)
        elif status in _RUNNING:
            entry["running"] += count
    return [
        replace(entry["demand"], idle=entry["idle"], running=entry["running"], waiting_since=entry["waiting_since"])
        for entry in merged.values()
        if entry["idle"] or entry["running"]
    ]


def one(row: Mapping[str, Any]) -> Demand | None:
    """The demand of one job or row of like jobs, without counts; None when it is nobody's of ours."""
    requirements = str(row.get("Requirements") or "true")
    if len(requirements) > _LONGEST_REQUIREMENTS:
        requirements = TOO_LONG
    # The schedd's own word comes first: it has checked that the owner is a member, which nobody has of the requirements' text.
    group = _text(row.get("DistcloudGroup"))
    if group is None:
        group = named_in(requirements, "group_name")
    if group is None or group == "nogroup":
        return None
    since, keep_alive = _number(row.get("QDate")), _whole(row.get("VMKeepAlive"))
    return Demand(
        group=group,
        owner=_text(row.get("Owner")) or "",
        requirements=requirements,
        request=Resources(
            cores=max(1, _whole(row.get("RequestCpus")) or DEFAULT_REQUEST.cores),
            ram_mib=max(1, _whole(row.get("RequestMemory")) or DEFAULT_REQUEST.ram_mib),
            disk_gib=_disk(row.get("RequestDisk")),
        ),
        idle=0,
        priority=_whole(row.get("JobPrio")) or 0,
        alias=named_in(requirements, "target_alias"),
        image=_text(row.get("VMImage")),
        flavor=_text(row.get("VMInstanceType")),
        network=_text(row.get("VMNetwork")),
        keep_alive=None if keep_alive is None else max(0, min(keep_alive, _LONGEST_KEEP_ALIVE)),
        attributes=dict(row.get("attributes") or {}),
        waiting_since=since if since is None else float(since),
    )


def _disk(value: Any) -> float:
    kibibytes = _number(value)
    return DEFAULT_REQUEST.disk_gib if kibibytes is None or kibibytes <= 0 else kibibytes / 1024 / 1024


def _number(value: Any) -> float | None:
    """A number between plus and minus `_LARGEST`; None for what is none (not a number, infinity)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return max(-_LARGEST, min(value, _LARGEST))


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _text(value: Any) -> str | None:
    """Text that can be stored and shown: in one line, without control characters, not longer than names are."""
    if not isinstance(value, str) or not value:
        return None
    return "".join(sign if sign.isprintable() else "?" for sign in value[:_LONGEST_TEXT])
