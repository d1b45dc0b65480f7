"""The child process that queries HTCondor: its bindings block and may hang, so they run where they can be killed.

Reads one JSON request per line on standard input and answers each with one line on standard output; see `supervise.JsonChild`.
Uses HTCondor's Python bindings (`htcondor2`, `classad2`), with the tokens and the configuration of its environment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import htcondor2

from ...common.control import child
from . import demand as grouping
from .reading import Reader, Row, evaluate_attribute, read_literal

_SLOT_ATTRIBUTES = [
    *("Machine", "Name", "DistcloudVm", "TotalSlotCpus", "TotalSlotMemory", "TotalSlotDisk", "Cpus", "Memory", "Disk"),
    *("NumDynamicSlots", "ChildState", "ChildRemoteUser", "ChildRemoteOwner", "Draining", "DrainReason", "State", "Activity"),
    *("LastHeardFrom", "MyCurrentTime"),
]


class Client:
    """Queries the pool's collector and one schedd, whose address is looked up once and again after a failure."""

    _MAX_CLUSTERS = 200_000

    def __init__(self, collector: str, schedd: str) -> None:
        self._collector = htcondor2.Collector(collector)
        self._schedd_name = schedd
        self._schedd: Any = None
        self._learned: tuple[str, ...] = ()
        self._submitted_at: dict[int, int] = {}  # cluster -> submission time, which never changes
        self._reader = Reader()

    def demand(self) -> list[Row]:
        rows = self._grouped()
        ours = (row for row in rows if grouping.group_of(row) is not None)
        learned = grouping.referenced_attributes((str(row["Owner"]), str(row["Requirements"])) for row in ours)
        if learned != self._learned:
            # Requirements refer to attributes outside the projection: query again with them, the jobs may define them.
            self._learned = learned
            rows = self._grouped()
        self._add_submission_times(rows)
        return grouping.limit_per_owner(rows)

    def _add_submission_times(self, rows: list[Row]) -> None:
        """Add to each row the submission time of its oldest job, the first one of its ids: ids are assigned in order of submission."""
        oldest = {id(row): int(str(row["ids"]).partition(".")[0]) for row in rows if str(row["ids"]).partition(".")[0].isdigit()}
        missing = set(oldest.values()) - set(self._submitted_at)
        if missing:
            if len(self._submitted_at) > self._MAX_CLUSTERS:
                self._submitted_at.clear()
            constraint = f"ClusterId >= {min(missing)} && ClusterId <= {max(missing)}"
            for ad in self._query(constraint, ["ClusterId", "QDate"], htcondor2.QueryOpts.GroupBy):
                cluster, moment = read_literal(ad, "ClusterId"), read_literal(ad, "QDate")
                if isinstance(cluster, int) and isinstance(moment, int):
                    self._submitted_at[cluster] = moment
        for row in rows:
            row["QDate"] = self._submitted_at.get(oldest.get(id(row), -1))
            del row["ids"]

    def _grouped(self) -> list[Row]:
        projection = [*grouping.GROUPING, *self._learned]
        found = self._query(grouping.NEEDS_WORKER, projection, htcondor2.QueryOpts.GroupBy)
        counted = [{"count": _count(ad), "ids": read_literal(ad, "JobIds") or ""} for ad in found]
        return [row | count for row, count in zip(self._rows(found, self._learned), counted, strict=True)]

    def job(self, cluster: int, process: int) -> Row | None:
        constraint = f"ClusterId == {cluster} && ProcId == {process}"
        found = self._query(constraint, [], htcondor2.QueryOpts.Default)
        if not found:
            return None
        (row,) = self._rows(found, grouping.referenced_attributes([("", _requirements(found[0]))]))
        return row | {name: read_literal(found[0], name) for name in ("HoldReason", "QDate", "JobUniverse")}

    def slots(self) -> list[Row]:
        found = self._collector.query(htcondor2.AdTypes.Startd, "PartitionableSlot =?= true", projection=_SLOT_ATTRIBUTES)
        return self._reader.read(found, _slot, _literal_slot, "Machine")

    def _query(self, constraint: str, projection: list[str], options: Any) -> list[Any]:
        for attempt in (1, 2):
            try:
                if self._schedd is None:
                    self._schedd = htcondor2.Schedd(self._locate())
                return list(self._schedd.query(constraint, projection, opts=options))
            except Exception:
                self._schedd = None  # its address may have changed (shared port ids change with a restart)
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def _locate(self) -> Any:
        found = self._collector.locate(htcondor2.DaemonTypes.Schedd, self._schedd_name)
        if found is None:  # None would mean the schedd of this host to the bindings: its jobs would be counted for another one
            raise LookupError(f"the collector has no schedd named {self._schedd_name}")
        return found

    def _rows(self, ads: Sequence[Any], extra: tuple[str, ...]) -> list[Row]:
        """The attributes of GROUPING evaluated, Requirements and the `extra` ones as text."""

        def evaluate(ad: Any) -> Row:
            attributes = {name: grouping.limit_length(str(ad.lookup(name))) for name in extra if name in ad}
            return {**_jobs(ad, evaluate_attribute), "Requirements": grouping.limit_length(_requirements(ad)), "attributes": attributes}

        return self._reader.read(ads, evaluate, _literal_job, "Owner")


def _jobs(ad: Any, value: Callable[[Any, str], Any]) -> Row:
    return {name: value(ad, name) for name in grouping.GROUPING if name != "Requirements"}


def _literal_job(ad: Any) -> Row:
    """A job whose ad cannot be evaluated still appears, but matches nothing."""
    return {**_jobs(ad, read_literal), "Requirements": grouping.UNREADABLE, "attributes": {}}


def _slot(ad: Any) -> Row:
    return {name: evaluate_attribute(ad, name) for name in _SLOT_ATTRIBUTES}


def _literal_slot(ad: Any) -> Row:
    return {name: read_literal(ad, name) for name in _SLOT_ATTRIBUTES}


def _requirements(ad: Any) -> str:
    return str(ad.lookup("Requirements")) if "Requirements" in ad else "true"


def _count(ad: Any) -> int:
    """Number of jobs that a grouped ad stands for."""
    for name in ("JobCount", "Count"):
        value = read_literal(ad, name)
        if isinstance(value, int):
            return value
    return 1


def serve() -> None:
    clients: dict[tuple[str, str], Client] = {}

    def answer(request: Mapping[str, Any]) -> Any:
        address = (str(request["collector"]), str(request.get("schedd", "")))
        if address not in clients:
            clients[address] = Client(*address)
        return _answer(clients[address], request)

    child.serve(answer)


def _answer(client: Client, request: Mapping[str, Any]) -> Any:
    match request["ask"]:
        case "demand":
            return client.demand()
        case "slots":
            return client.slots()
        case "job":
            return client.job(int(request["cluster"]), int(request["process"]))
        case other:
            raise ValueError(f"unknown request: {other}")


if __name__ == "__main__":
    serve()
