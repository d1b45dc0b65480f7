"""Converts rows of the schedd's grouped query to demand: which jobs are ours, of which group, and what they request. No I/O."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..domain.model import Demand, Resources
from ..matching.conjunction import split_conjunction

# JobStatus of HTCondor: 1 idle, 2 running, 6 transferring output (its slot is still claimed), 7 suspended.
_IDLE = 1
_RUNNING = (2, 6, 7)

# JobUniverse of HTCondor: jobs of these universes never claim a slot; the submit node runs them or passes them to another system.
SCHEDULER, GRID, LOCAL = 7, 9, 12
VANILLA = 5
# Evaluated by the schedd, so that such jobs cost nothing here. `=!=` is true for a job without a universe, and for grouped ads: the schedd
# applies the constraint to them again, although they only have the grouping attributes.
NEEDS_WORKER = " && ".join(f"JobUniverse =!= {universe}" for universe in (SCHEDULER, GRID, LOCAL))

# HTCondor's own defaults for jobs without a request (JOB_DEFAULT_REQUEST*).
DEFAULT_REQUEST = Resources(cores=1, ram_mib=128, disk_gib=0.01)

# Attributes by which jobs are grouped: each affects where a job may run or which worker it gets.
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
# Never useful for grouping, or different for every job, so that each job would become a group.
_NEVER_LEARNED = {
    *(name.lower() for name in GROUPING),
    *("clusterid", "procid", "globaljobid", "qdate", "jobid", "enteredcurrentstatus", "servertime", "currenttime", "time", "my", "target"),
    *("true", "false", "undefined", "error", "is", "isnt", "group_name", "target_alias"),
    *("imagesize", "diskusage", "memoryusage", "residentsetsize", "numjobstarts", "lastremotehost", "jobstartdate"),
}
_MAX_LEARNED = 48
# Attributes that condor_submit itself writes into requirements: many jobs cannot be matched without them.
_STANDARD = frozenset(
    ("requestgpus", "requiregpus", "gpusmincapability", "gpusmaxcapability", "gpusminmemory", "gpusminruntime", "filesystemdomain")
)
# Job ads are untrusted input: no value may exceed what the database columns and HTCondor's matching accept.
_MAX_TEXT_LENGTH = 255
_MAX_REQUIREMENTS_LENGTH = 16384
_MAX_NUMBER = 2**31 - 1
_MAX_KEEP_ALIVE = 30 * 86400
UNREADABLE = "error"  # replaces requirements that are too long or cannot be evaluated; as a ClassAd expression it matches nothing
# Limits per owner, as the size of the whole answer is limited: rows, and characters of their expressions.
_MAX_ROWS_PER_OWNER = 5000
_MAX_CHARACTERS_PER_OWNER = 4 * 1024 * 1024

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_NAME = re.compile(r"(?<![\w.])(?:(MY|TARGET)\s*\.\s*)?([A-Za-z_]\w*)(?!\s*\()(?![\w.])", re.IGNORECASE)


def compared_string(requirements: str, attribute: str) -> str | None:
    """The string that `requirements` compares `attribute` with (`group_name =?= "x"`), in either order; None if there is none.

    Only a clause of the top-level conjunction counts: a comparison inside `||` or `!` need not hold.
    """
    if attribute.lower() not in requirements.lower():
        return None
    name = re.escape(attribute)
    string_literal = r'"((?:[^"\\]|\\.)*)"'
    forward = re.compile(rf"(?<![\w.])(?:TARGET\s*\.\s*)?{name}\s*(?:=\?=|==|\bis\b)\s*{string_literal}", re.IGNORECASE)
    backward = re.compile(rf"{string_literal}\s*(?:=\?=|==|\bis\b)\s*(?:TARGET\s*\.\s*)?{name}(?![\w.])", re.IGNORECASE)
    for clause in split_conjunction(requirements):
        found = forward.fullmatch(clause) or backward.fullmatch(clause)
        if found:
            return found.group(1).replace('\\"', '"').replace("\\\\", "\\")
    return None


def referenced_attributes(requirements: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Attributes that requirements refer to: the jobs may define them, so matching needs their values.

    `requirements`: owner and text of each. The number is limited, because every attribute may split groups further. The limit is shared
    fairly between owners and texts, as jobs match nothing without their attributes.
    """
    spelled: dict[str, str] = {}
    texts: dict[str, list[Sequence[str]]] = {}
    for owner, text in sorted(set(requirements)):
        names = _job_attribute_names(text)
        texts.setdefault(owner, []).append([name.lower() for name in names])
        for name in names:
            spelled.setdefault(name.lower(), name)
    of_owner = [_round_robin(named) for named in texts.values()]
    owners = Counter(name for names in of_owner for name in names)
    # Each owner's list starts with what others need as well, so that those are included even with more owners than places.
    chosen = _round_robin(sorted(names, key=lambda name: -owners[name]) for names in of_owner)[:_MAX_LEARNED]
    return tuple(spelled[key] for key in sorted(chosen))


def _job_attribute_names(requirements: str) -> list[str]:
    """Names in requirements that may be attributes of the job; those with `TARGET.` belong to the slot."""
    if len(requirements) > _MAX_REQUIREMENTS_LENGTH:
        return []
    names: dict[str, str] = {}
    for scope, name in _NAME.findall(_STRING.sub('""', requirements)):
        if scope.upper() != "TARGET" and name.lower() not in _NEVER_LEARNED:
            names.setdefault(name.lower(), name)
    return list(names.values())


def _round_robin(lists: Iterable[Sequence[str]]) -> list[str]:
    """Merge lists round-robin: the first entries of all lists, then the second ones; within a round, the most frequent entries first."""
    turn: dict[str, int] = {}
    count: Counter[str] = Counter()
    for entries in lists:
        for place, entry in enumerate(entries):
            turn[entry] = min(place, turn.get(entry, place))
        count.update(entries)
    return sorted(turn, key=lambda entry: (entry not in _STANDARD, turn[entry], -count[entry], entry))


def demand_from_rows(rows: Iterable[Mapping[str, Any]]) -> list[Demand]:
    """Demand from grouped rows; rows that differ only in JobStatus are merged. Jobs without a group are skipped.

    A row has the attributes of GROUPING, evaluated to numbers or strings, `Requirements` as text, `count`, `attributes` (further ones
    as ClassAd text), and `QDate`, the submission time of its oldest job.
    """
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        demand = demand_from_row(row)
        if demand is None:
            continue
        attributes = tuple(sorted(demand.attributes.items()))
        key = (
            *(demand.group, demand.owner, demand.requirements, demand.request, demand.priority, demand.alias, demand.image),
            *(demand.flavor, demand.network, demand.keep_alive, attributes),
        )
        entry = merged.setdefault(key, {"demand": demand, "idle": 0, "running": 0, "waiting_since": None})
        status, count = _number(row.get("JobStatus")), _integer(row.get("count")) or 1
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


def demand_from_row(row: Mapping[str, Any]) -> Demand | None:
    """The demand of one job or grouped row, without counts; None if it has no group.

    A row that cannot be converted is a demand that matches nothing: it must not hide those of others.
    """
    try:
        return _demand(row)
    except Exception:
        return _demand({name: row.get(name) for name in ("DistcloudGroup", "Owner", "JobStatus")} | {"Requirements": UNREADABLE})


def _demand(row: Mapping[str, Any]) -> Demand | None:
    requirements, group = _requirements(row), group_of(row)
    if group is None:
        return None
    since, keep_alive = _number(row.get("QDate")), _integer(row.get("VMKeepAlive"))
    return Demand(
        group=group,
        owner=_printable_text(row.get("Owner")) or "",
        requirements=requirements,
        request=Resources(
            cores=max(1, _integer(row.get("RequestCpus")) or DEFAULT_REQUEST.cores),
            ram_mib=max(1, _integer(row.get("RequestMemory")) or DEFAULT_REQUEST.ram_mib),
            disk_gib=_disk(row.get("RequestDisk")),
        ),
        idle=0,
        priority=_integer(row.get("JobPrio")) or 0,
        alias=compared_string(requirements, "target_alias"),
        image=_printable_text(row.get("VMImage")),
        flavor=_printable_text(row.get("VMInstanceType")),
        network=_printable_text(row.get("VMNetwork")),
        keep_alive=None if keep_alive is None else max(0, min(keep_alive, _MAX_KEEP_ALIVE)),
        attributes=dict(row.get("attributes") or {}),
        waiting_since=since if since is None else float(since),
    )


def group_of(row: Mapping[str, Any]) -> str | None:
    """The group of a job or grouped row; None if it has none.

    DistcloudGroup takes precedence: the schedd has checked that the owner is a member, whereas the requirements are unchecked.
    """
    group = _printable_text(row.get("DistcloudGroup"))
    if group is None:
        group = compared_string(_requirements(row), "group_name")
    return None if group == "nogroup" else group


def universe_of(row: Mapping[str, Any]) -> int:
    """HTCondor's JobUniverse of one job."""
    universe = _integer(row.get("JobUniverse"))
    return VANILLA if universe is None else universe


def _requirements(row: Mapping[str, Any]) -> str:
    return limit_length(str(row.get("Requirements") or "true"))


def limit_length(text: str) -> str:
    """The expression, or `UNREADABLE` if it is too long."""
    return UNREADABLE if len(text) > _MAX_REQUIREMENTS_LENGTH else text


def limit_per_owner(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows, limited per owner: the oldest ones, and without their expressions once the owner's text limit is reached.

    A row without its requirements matches nothing until older rows are gone.
    """
    kept: list[dict[str, Any]] = []
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for row in sorted(rows, key=lambda row: _number(row.get("QDate")) or 0):
        owner = str(row.get("Owner"))
        count[owner] += 1
        if count[owner] > _MAX_ROWS_PER_OWNER:
            continue
        size[owner] += len(str(row.get("Requirements"))) + sum(map(len, (row.get("attributes") or {}).values()))
        over = {"Requirements": UNREADABLE, "attributes": {}} if size[owner] > _MAX_CHARACTERS_PER_OWNER else {}
        kept.append({**row, **over})
    return kept


def _disk(value: Any) -> float:
    kibibytes = _number(value)
    return DEFAULT_REQUEST.disk_gib if kibibytes is None or kibibytes <= 0 else kibibytes / 1024 / 1024


def _number(value: Any) -> float | None:
    """A number, clamped to plus or minus `_MAX_NUMBER`; None for any other value, including NaN and infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return max(-_MAX_NUMBER, min(value, _MAX_NUMBER))


def _integer(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _printable_text(value: Any) -> str | None:
    """Text that can be stored and displayed: one line, without control characters, at most `_MAX_TEXT_LENGTH` characters."""
    if not isinstance(value, str) or not value:
        return None
    return "".join(sign if sign.isprintable() else "?" for sign in value[:_MAX_TEXT_LENGTH])
