"""The schedd's job queue as its log file describes it: the expressions of each ad, and the jobs whose expressions are too large.

Records of `job_queue.log`, one a line: 101 KEY TYPES (new ad), 102 KEY (ad is gone), 103 KEY NAME TEXT (set), 104 KEY NAME (unset), 105
and 106 (begin and end of a transaction, written as a whole), 107 (sequence number, first in a file). A job's key is `CLUSTER.PROC`; what
it does not have itself comes from the cluster's ad, `0CLUSTER.-1`. A user's key is `0.NUMBER`.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import Iterable, Iterator, Mapping, Sequence

from expression_size import LITERAL, Text, parse, sizes

IDLE, HELD = 1, 5
_KEY = re.compile(r"0?([0-9]+)\.(-1|[0-9]+)")


@dataclass(frozen=True)
class Offender:
    """A job with the attributes that are over the limit, and the size of the largest."""

    cluster: int
    proc: int
    attributes: frozenset[str]
    largest: int
    status: int
    user: str

    @property
    def job(self) -> str:
        return f"{self.cluster}.{self.proc}"


@dataclass
class Cluster:
    """The expressions of a cluster's ad and of its jobs. A job's constant is kept only where it hides an expression of the cluster."""

    own: dict[str, Text] = field(default_factory=dict)
    jobs: dict[int, dict[str, Text]] = field(default_factory=dict)
    status: dict[int, int] = field(default_factory=dict)
    user: str = ""


class JobQueue:
    """State after the records read so far. `offset` is the end of the last complete transaction, in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.offset = 0
        self.users: dict[str, str] = {}
        self._clusters: dict[int, Cluster] = {}
        self._changed: dict[int, set[int] | None] = {}
        self._transaction: list[str] | None = None
        self._rest = b""
        self._read = 0

    def feed(self, data: bytes) -> None:
        """Process the next bytes of the file; a record that is not complete yet waits for the rest."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for raw in lines:
            self._read += len(raw) + 1
            line = raw.decode("utf-8", "surrogateescape")
            kind = line[:3]
            if kind == "105":
                self._transaction = self._transaction or []
            elif kind == "106":
                for record in self._transaction or []:
                    self._apply(record)
                self._transaction = None
            elif self._transaction is not None:
                self._transaction.append(line)
            else:
                self._apply(line)
            if self._transaction is None:
                self.offset = self._read

    def _apply(self, line: str) -> None:
        kind, _space, rest = line.partition(" ")
        key, _space, rest = rest.partition(" ")
        place = _KEY.fullmatch(key)
        if place is None or kind not in ("101", "102", "103", "104"):
            return
        number, proc = int(place[1]), int(place[2])
        if not number:
            if kind == "103" and rest.startswith("User "):
                self.users[rest[5:]] = key
            return
        cluster = self._clusters.setdefault(number, Cluster())
        if kind == "102":
            self._destroy(number, cluster, proc)
            return
        ad = cluster.own if proc < 0 else cluster.jobs.setdefault(proc, {})
        name, _space, text = rest.partition(" ")
        if kind == "103":
            self._set(cluster, ad, number, proc, name, text)
        elif kind == "101" or ad.pop(name.lower(), None) is not None:
            self._change(number, proc)

    def _destroy(self, number: int, cluster: Cluster, proc: int) -> None:
        if proc < 0:
            cluster.own.clear()
        cluster.jobs.pop(proc, None)
        cluster.status.pop(proc, None)
        if not cluster.own and not cluster.jobs:
            del self._clusters[number]

    def _set(self, cluster: Cluster, ad: dict[str, Text], number: int, proc: int, name: str, text: str) -> None:
        if name == "JobStatus" and text.isdecimal():
            cluster.status[proc] = int(text)
        elif name == "User":
            cluster.user = text
        name = sys.intern(name.lower())
        value = parse(text)
        hides = proc >= 0 and name in cluster.own
        if value is not LITERAL or hides:
            ad[name] = value
            self._change(number, proc)
        elif ad.pop(name, None) is not None:
            self._change(number, proc)

    def _change(self, number: int, proc: int) -> None:
        jobs = self._changed.setdefault(number, set())
        if proc < 0:
            self._changed[number] = None
        elif jobs is not None:
            jobs.add(proc)

    def offenders(self) -> Iterator[Offender]:
        """The jobs over the limit among those that changed since the last call."""
        changed, self._changed = self._changed, {}
        for number, procs in changed.items():
            cluster = self._clusters.get(number)
            if cluster is None:
                continue
            shared: Mapping[str, int] | None = None
            for proc in sorted(cluster.jobs if procs is None else procs & cluster.jobs.keys()):
                own = cluster.jobs[proc]
                if own:
                    found: Mapping[str, int] = sizes({**cluster.own, **own})
                else:
                    found = shared = sizes(cluster.own) if shared is None else shared
                over = {name: size for name, size in found.items() if size > self.limit}
                if over:
                    status = cluster.status.get(proc, cluster.status.get(-1, IDLE))
                    yield Offender(number, proc, frozenset(over), max(over.values()), status, cluster.user)

    def check_again(self, offenders: Iterable[Offender]) -> None:
        """Have the next call of `offenders` look at these jobs."""
        for offender in offenders:
            self._change(offender.cluster, offender.proc)


def replacement(name: str) -> str:
    """What an attribute over the limit is replaced with; a job without requirements would match every slot."""
    return "false" if name == "requirements" else "undefined"


def records(offenders: Sequence[Offender], users: Mapping[str, str], reason: str, now: int) -> str:
    """One transaction that replaces the attributes, holds the jobs that are idle, and disables the users.

    `users` are the keys of users. HTCondor needs the space after 105 and 106; without it the schedd does not start.
    """
    lines = ["105 "]
    for offender in offenders:
        edits = {name: replacement(name) for name in sorted(offender.attributes)}
        if offender.status == IDLE:
            held = {"JobStatus": HELD, "LastJobStatus": IDLE, "HoldReasonCode": 1, "HoldReasonSubCode": 0, "EnteredCurrentStatus": now}
            edits.update({name: str(value) for name, value in held.items()}, HoldReason=f'"{reason}"')
        lines += [f"103 {offender.job} {name} {value}" for name, value in edits.items()]
    for key in sorted({users[offender.user] for offender in offenders if offender.user in users}):
        lines += [f"103 {key} Enabled false", f'103 {key} DisableReason "A job of this user blocked the queue"']
    return "\n".join([*lines, "106 ", ""])
