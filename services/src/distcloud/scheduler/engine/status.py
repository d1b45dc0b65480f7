"""The pool as it last answered, and the status of pool and clouds for API and health checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...common.times import duration
from ..domain.model import Cloud, CloudKey, Demand, Policy, PoolCoverage, Slot
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
    if not error and monitor is not None and monitor.configuration.error:
        wait = monitor.configuration.wait(now)
        error = f"no boots{f' for another {duration(wait)}' if wait else ''}: {monitor.configuration.error}"
    postponed = monitor.postponed if monitor is not None else 0
    if not error and postponed:
        error = f"{postponed} more servers carry our ownership tag and have no row; they are adopted and deleted a few at a time"
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
        unadopted_servers=postponed,
    )
