"""The process that talks to HTCondor: its bindings block and may hang, so they live here, where they can be killed.

Reads one JSON request a line on standard input and answers each with one line on standard output; see `supervise.JsonChild`.
Runs on HTCondor's own Python bindings (`htcondor2`, `classad2`), with the tokens and the configuration of its environment.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import htcondor2

from . import demand as grouping
from .reading import Reader, Row, evaluated, literal

_SLOT_ATTRIBUTES = [
    *("Machine", "Name", "DistcloudVm", "TotalSlotCpus", "TotalSlotMemory", "TotalSlotDisk", "Cpus", "Memory", "Disk"),
    *("NumDynamicSlots", "ChildState", "ChildRemoteUser", "ChildRemoteOwner", "Draining", "DrainReason", "State", "Activity"),
    *("LastHeardFrom", "MyCurrentTime"),
]


class Client:
    """The pool's central manager and one schedd; where the schedd is, is asked once and again after a failure."""

    _CLUSTERS_KEPT = 200_000

    def __init__(self, collector: str, schedd: str) -> None:
        self._collector = htcondor2.Collector(collector)
        self._schedd_name = schedd
        self._schedd: Any = None
        self._learned: tuple[str, ...] = ()
        self._queued: dict[int, int] = {}  # cluster -> when it was submitted, which never changes
        self._reader = Reader()

    def demand(self) -> list[Row]:
        rows = self._grouped()
        ours = (row for row in rows if grouping.group_of(row) is not None)
        learned = grouping.attributes_of((str(row["Owner"]), str(row["Requirements"])) for row in ours)
        if learned != self._learned:
            # Requirements speak of attributes that were not asked for: ask again with them, they may be the jobs' own.
            self._learned = learned
            rows = self._grouped()
        self._date(rows)
        return grouping.bounded(rows)

    def _date(self, rows: list[Row]) -> None:
        """Gives each row the submission time of its oldest job: the first one of its ids, for ids are given in order of time."""
        oldest = {id(row): int(str(row["ids"]).partition(".")[0]) for row in rows if str(row["ids"]).partition(".")[0].isdigit()}
        missing = set(oldest.values()) - set(self._queued)
        if missing:
            if len(self._queued) > self._CLUSTERS_KEPT:
                self._queued.clear()
            constraint = f"ClusterId >= {min(missing)} && ClusterId <= {max(missing)}"
            for ad in self._query(constraint, ["ClusterId", "QDate"], htcondor2.QueryOpts.GroupBy):
                cluster, moment = literal(ad, "ClusterId"), literal(ad, "QDate")
                if isinstance(cluster, int) and isinstance(moment, int):
                    self._queued[cluster] = moment
        for row in rows:
            row["QDate"] = self._queued.get(oldest.get(id(row), -1))
            del row["ids"]

    def _grouped(self) -> list[Row]:
        projection = [*grouping.GROUPING, *self._learned]
        found = self._query(grouping.NEEDS_WORKER, projection, htcondor2.QueryOpts.GroupBy)
        counted = [{"count": _count(ad), "ids": literal(ad, "JobIds") or ""} for ad in found]
        return [row | count for row, count in zip(self._rows(found, self._learned), counted, strict=True)]

    def job(self, cluster: int, process: int) -> Row | None:
        constraint = f"ClusterId == {cluster} && ProcId == {process}"
        found = self._query(constraint, [], htcondor2.QueryOpts.Default)
        if not found:
            return None
        (row,) = self._rows(found, grouping.attributes_of([("", _requirements(found[0]))]))
        return row | {name: literal(found[0], name) for name in ("HoldReason", "QDate", "JobUniverse")}

    def slots(self) -> list[Row]:
        found = self._collector.query(htcondor2.AdTypes.Startd, "PartitionableSlot =?= true", projection=_SLOT_ATTRIBUTES)
        return self._reader.read(found, _slot, _slot_by_text, "Machine")

    def _query(self, constraint: str, projection: list[str], options: Any) -> list[Any]:
        for attempt in (1, 2):
            try:
                if self._schedd is None:
                    self._schedd = htcondor2.Schedd(self._locate())
                return list(self._schedd.query(constraint, projection, opts=options))
            except Exception:
                self._schedd = None  # it may have moved (shared port ids change with a restart)
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def _locate(self) -> Any:
        found = self._collector.locate(htcondor2.DaemonTypes.Schedd, self._schedd_name)
        if found is None:  # which the bindings would take for the schedd of this host: its jobs would count for another's
            raise LookupError(f"the collector knows no schedd called {self._schedd_name}")
        return found

    def _rows(self, ads: Sequence[Any], further: tuple[str, ...]) -> list[Row]:
        """The attributes of GROUPING evaluated, Requirements and the `further` ones as text."""

        def evaluate(ad: Any) -> Row:
            attributes = {name: grouping.cut(str(ad.lookup(name))) for name in further if name in ad}
            return {**_jobs(ad, evaluated), "Requirements": grouping.cut(_requirements(ad)), "attributes": attributes}

        return self._reader.read(ads, evaluate, _job_by_text, "Owner")


def _jobs(ad: Any, value: Callable[[Any, str], Any]) -> Row:
    return {name: value(ad, name) for name in grouping.GROUPING if name != "Requirements"}


def _job_by_text(ad: Any) -> Row:
    """A job whose ad cannot be evaluated is there, and matches nothing."""
    return {**_jobs(ad, literal), "Requirements": grouping.UNREADABLE, "attributes": {}}


def _slot(ad: Any) -> Row:
    return {name: evaluated(ad, name) for name in _SLOT_ATTRIBUTES}


def _slot_by_text(ad: Any) -> Row:
    return {name: literal(ad, name) for name in _SLOT_ATTRIBUTES}


def _requirements(ad: Any) -> str:
    return str(ad.lookup("Requirements")) if "Requirements" in ad else "true"


def _count(ad: Any) -> int:
    """How many jobs a grouped ad stands for."""
    for name in ("JobCount", "Count"):
        value = literal(ad, name)
        if isinstance(value, int):
            return value
    return 1


def serve() -> None:
    clients: dict[tuple[str, str], Client] = {}
    for line in sys.stdin:
        try:
            request: Mapping[str, Any] = json.loads(line)
            address = (str(request["collector"]), str(request.get("schedd", "")))
            if address not in clients:
                clients[address] = Client(*address)
            answer = {"result": _answer(clients[address], request)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)  # noqa: T201 - standard output is the protocol


def _answer(client: Client, request: Mapping[str, Any]) -> Any:
    match request["ask"]:
        case "demand":
            return client.demand()
        case "slots":
            return client.slots()
        case "job":
            return client.job(int(request["cluster"]), int(request["process"]))
        case other:
            raise ValueError(f"no such question: {other}")


if __name__ == "__main__":
    serve()
