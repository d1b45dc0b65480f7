"""The engine's health in memory, and its conversion to the status shown by API and health checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...common.database import DatabaseError
from ..domain.model import Cloud, CloudKey, Demand, Policy, PoolCoverage, Slot
from ..matching.bindings import MatchingUnavailable
from ..planning.eligibility import credential_problem
from .monitor import CloudMonitor
from .view import CloudStatus, PoolStatus

# Workers update their ads every minute: after a longer gap in our own queries, a missing ad proves nothing yet.
_MAX_GAP = 60.0


@dataclass(slots=True)
class PoolView:
    """The pool's last response. While the pool is unreachable, it is only shown and not used for decisions."""

    reachable: bool = False
    error: str = ""
    asked_at: float | None = None  # time of the last response
    since: float | None = None  # since when it has answered without a gap
    demand: tuple[Demand, ...] = ()
    unreachable_queues: Mapping[str, str] = field(default_factory=dict)  # queue -> why it did not answer
    slots: tuple[Slot, ...] = ()
    _answered_monotonic: float = 0.0  # monotonic clock at the last response

    def answered(
        self, demand: tuple[Demand, ...], unreachable_queues: Mapping[str, str], slots: tuple[Slot, ...], at: float, monotonic: float
    ) -> None:
        """`at` is of the wall clock, `monotonic` of the monotonic clock: if they disagree, the wall clock was set."""
        if self.asked_at is None or not 0 <= at - self.asked_at <= _MAX_GAP or monotonic - self._answered_monotonic > _MAX_GAP:
            self.since = at
        self.reachable, self.error, self.asked_at, self._answered_monotonic = True, "", at, monotonic
        self.demand, self.unreachable_queues, self.slots = demand, unreachable_queues, slots

    def failed(self, error: str) -> None:
        self.reachable, self.error = False, error

    def coverage(self) -> PoolCoverage:
        return PoolCoverage(frozenset(self.unreachable_queues), self.since)

    def status(self) -> PoolStatus:
        idle, running = sum(demand.idle for demand in self.demand), sum(demand.running for demand in self.demand)
        return PoolStatus(self.reachable, self.error, self.asked_at, idle, running, len(self.slots), dict(self.unreachable_queues))


@dataclass(slots=True)
class EngineHealth:
    """Health of the engine's loop and its cycles. Fields named `*_monotonic` are times of the monotonic clock."""

    last_turn_monotonic: float  # last turn of the loop, successful or not
    cycles: int = 0
    last_at: float | None = None
    last_cycle_monotonic: float | None = None  # last successful cycle
    last_seconds: float | None = None
    waiting_for: str = ""  # what the engine waits for before its first cycle
    database: str = ""  # why the last cycle could not use the database
    failure: str = ""  # any other error of the last cycle
    vms: dict[CloudKey, Counter[str]] = field(default_factory=dict)

    def cycled(self, at: float, seconds: float, monotonic: float) -> None:
        self.cycles += 1
        self.last_at, self.last_seconds, self.database, self.failure = at, seconds, "", ""
        self.last_turn_monotonic = self.last_cycle_monotonic = monotonic

    def failed(self, error: Exception) -> bool:
        """Record the error of a failed cycle. Returns whether the error is of an expected type, whose message explains it."""
        expected = isinstance(error, DatabaseError | MatchingUnavailable)
        text = str(error) if expected else f"the last cycle failed: {type(error).__name__}; see the log"
        self.database, self.failure = (text, "") if isinstance(error, DatabaseError) else ("", text)
        return expected

    def stuck(self, monotonic: float, timeout: float) -> str:
        """Says that the loop has not turned for longer than `timeout` seconds; empty otherwise."""
        age = monotonic - self.last_turn_monotonic
        return f"the engine's loop is stuck: no turn for {age:.0f} s" if age > timeout else ""

    def problem(self, stuck: str) -> str:
        """Why the engine is unhealthy; empty if it is healthy."""
        return stuck or self.waiting_for or self.database or self.failure or ("" if self.cycles else "the first cycle has not finished yet")


def cloud_status(
    cloud: Cloud, monitor: CloudMonitor | None, vms: Mapping[CloudKey, Counter[str]], now: float, policy: Policy
) -> CloudStatus:
    """The status of one cloud for the API."""
    paused = None
    if cloud.failures >= policy.freeze_after_failures and cloud.last_failure_at is not None:
        paused = cloud.last_failure_at + policy.freeze_seconds
    if paused is not None and paused <= now:
        paused = None
    error = credential_problem(cloud, policy, now) if cloud.reachable else cloud.unreachable_reason
    if not error and paused is not None and monitor is not None:
        error = f"boots are paused: the last {cloud.failures} servers failed, the last one with: {monitor.last_failure}"
    return CloudStatus(
        group=cloud.group,
        cloud=cloud.name,
        region=cloud.region,
        enabled=cloud.enabled,
        frozen=cloud.frozen,
        reachable=cloud.reachable,
        breaker=monitor.state().value if monitor is not None else "closed",
        boots_paused_until=paused,
        error=error,
        observed_at=monitor.observed.began_at if monitor is not None and monitor.observed is not None else None,
        vms=dict(vms.get((cloud.group, cloud.name), {})),
        foreign_vms=cloud.foreign.vms,
        quota_vms=cloud.quota.vms,
        quota_cores=cloud.quota.cores,
        quota_ram_mib=cloud.quota.ram_mib,
    )
