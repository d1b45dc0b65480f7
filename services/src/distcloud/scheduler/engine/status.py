"""How the engine stands, in memory, and how that is told to pages and health checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...common.database import DatabaseError
from ..domain.model import Cloud, CloudKey, Demand, Policy, PoolCoverage, Slot
from ..matching.bindings import MatchingUnavailable
from ..planning.eligibility import credential_problem
from .monitor import CloudWatch
from .view import CloudStatus, PoolStatus

# Workers tell of themselves every minute: after a longer silence of ours, theirs means nothing yet.
_GAP = 60.0


@dataclass(slots=True)
class PoolView:
    """The pool's last answer. While it is not reachable the last answer is for showing, not for deciding."""

    reachable: bool = False
    error: str = ""
    asked_at: float | None = None  # when it last answered
    since: float | None = None  # from when on it answered without a gap
    demand: tuple[Demand, ...] = ()
    unreachable: Mapping[str, str] = field(default_factory=dict)  # queues that did not answer, and why
    slots: tuple[Slot, ...] = ()
    _beat: float = 0.0  # of the clock that nobody sets, at the last answer

    def answered(self, demand: tuple[Demand, ...], unreachable: Mapping[str, str], slots: tuple[Slot, ...], at: float, beat: float) -> None:
        """`at` by the clock on the wall, `beat` by one that nobody sets: where the two disagree, the former was set."""
        if self.asked_at is None or not 0 <= at - self.asked_at <= _GAP or beat - self._beat > _GAP:
            self.since = at
        self.reachable, self.error, self.asked_at, self._beat = True, "", at, beat
        self.demand, self.unreachable, self.slots = demand, unreachable, slots

    def failed(self, error: str) -> None:
        self.reachable, self.error = False, error

    def coverage(self) -> PoolCoverage:
        return PoolCoverage(frozenset(self.unreachable), self.since)

    def status(self) -> PoolStatus:
        idle, running = sum(demand.idle for demand in self.demand), sum(demand.running for demand in self.demand)
        return PoolStatus(self.reachable, self.error, self.asked_at, idle, running, len(self.slots), dict(self.unreachable))


@dataclass(slots=True)
class Standing:
    """Of the loop and its cycles: how many, when, and what hinders them. `beat` is of a clock that nobody sets."""

    beat: float  # when the loop last came round, with or without success
    cycles: int = 0
    last_at: float | None = None
    last_beat: float | None = None  # of the last cycle that succeeded
    last_seconds: float | None = None
    waits_for: str = ""  # another engine's end
    database: str = ""  # why the last cycle could not use it
    failure: str = ""  # what else went wrong in the last cycle
    vms: dict[CloudKey, Counter[str]] = field(default_factory=dict)

    def cycled(self, at: float, seconds: float, beat: float) -> None:
        self.cycles += 1
        self.last_at, self.last_seconds, self.database, self.failure = at, seconds, "", ""
        self.beat = self.last_beat = beat

    def failed(self, error: Exception) -> bool:
        """A cycle ended with this. Whether it is foreseen: its own words then say what is the matter."""
        foreseen = isinstance(error, DatabaseError | MatchingUnavailable)
        words = str(error) if foreseen else f"the last cycle failed: {type(error).__name__}; the log says where"
        self.database, self.failure = (words, "") if isinstance(error, DatabaseError) else ("", words)
        return foreseen

    def stuck(self, beat: float, patience: float) -> str:
        """That the loop has not come round for longer than `patience` seconds; empty when it has."""
        age = beat - self.beat
        return f"the engine's loop is stuck: it has not come round for {age:.0f} s" if age > patience else ""

    def problem(self, stuck: str) -> str:
        """Why the engine is not healthy; empty when it is."""
        return stuck or self.waits_for or self.database or self.failure or ("" if self.cycles else "the first cycle is not finished yet")


def cloud_status(cloud: Cloud, watch: CloudWatch | None, vms: Mapping[CloudKey, Counter[str]], now: float, policy: Policy) -> CloudStatus:
    """One cloud as a person wants to see it."""
    paused = None
    if cloud.failures >= policy.freeze_after_failures and cloud.last_failure_at is not None:
        paused = cloud.last_failure_at + policy.freeze_seconds
    if paused is not None and paused <= now:
        paused = None
    error = credential_problem(cloud, policy, now) if cloud.reachable else cloud.unreachable_reason
    if not error and paused is not None and watch is not None:
        error = f"no new server for a while: the last {cloud.failures} failed, the last one with: {watch.last_failure}"
    return CloudStatus(
        group=cloud.group,
        cloud=cloud.name,
        region=cloud.region,
        enabled=cloud.enabled,
        frozen=cloud.frozen,
        reachable=cloud.reachable,
        breaker=watch.state().value if watch is not None else "closed",
        boots_paused_until=paused,
        error=error,
        observed_at=watch.seen.began_at if watch is not None and watch.seen is not None else None,
        vms=dict(vms.get((cloud.group, cloud.name), {})),
        foreign_vms=cloud.foreign.vms,
        quota_vms=cloud.quota.vms,
        quota_cores=cloud.quota.cores,
        quota_ram_mib=cloud.quota.ram_mib,
    )
