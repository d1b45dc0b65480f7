"""How the engine stands, in memory, and how that is told to pages and health checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from .model import Cloud, Demand, Policy, Slot
from .observe import CloudWatch
from .view import CloudStatus, PoolStatus
from .wishes import CloudKey


@dataclass(slots=True)
class PoolView:
    """The pool's last answer. While it is not reachable the last answer is for showing, not for deciding."""

    reachable: bool = False
    error: str = ""
    asked_at: float | None = None
    demand: tuple[Demand, ...] = ()
    slots: tuple[Slot, ...] = ()

    def status(self) -> PoolStatus:
        idle, running = sum(demand.idle for demand in self.demand), sum(demand.running for demand in self.demand)
        return PoolStatus(self.reachable, self.error, self.asked_at, idle, running, len(self.slots))


@dataclass(slots=True)
class Standing:
    """Of the cycles: how many, when, and what hinders them."""

    cycles: int = 0
    last_at: float | None = None
    last_seconds: float | None = None
    problem: str = ""
    vms: dict[CloudKey, Counter[str]] = field(default_factory=dict)

    def cycled(self, at: float, seconds: float) -> None:
        self.cycles += 1
        self.last_at, self.last_seconds, self.problem = at, seconds, ""

    def cycle_failed(self, problem: str) -> None:
        self.problem = problem


def cloud_status(cloud: Cloud, watch: CloudWatch | None, vms: Mapping[CloudKey, Counter[str]], now: float, policy: Policy) -> CloudStatus:
    """One cloud as a person wants to see it."""
    paused = None
    if cloud.failures >= policy.freeze_after_failures and cloud.last_failure_at is not None:
        paused = cloud.last_failure_at + policy.freeze_seconds
    return CloudStatus(
        group=cloud.group,
        cloud=cloud.name,
        region=cloud.region,
        enabled=cloud.enabled,
        frozen=cloud.frozen,
        reachable=cloud.reachable,
        breaker=watch.state().value if watch is not None else "closed",
        boots_paused_until=paused if paused is not None and paused > now else None,
        error="" if cloud.reachable else cloud.unreachable_reason,
        observed_at=watch.seen.began_at if watch is not None and watch.seen is not None else None,
        vms=dict(vms.get((cloud.group, cloud.name), {})),
        foreign_vms=cloud.foreign.vms,
        quota_vms=cloud.quota.vms,
        quota_cores=cloud.quota.cores,
        quota_ram_mib=cloud.quota.ram_mib,
    )
