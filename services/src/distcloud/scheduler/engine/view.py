"""The interface of the running engine for the REST API.

The engine implements `EngineView`; the API is written and tested against this protocol only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..domain.model import Action, Demand, Exclusion, Plan, PlanInputs, VmState
from ..domain.records import VmDetail, VmPage, VmTotals
from ..pool.demand import VANILLA


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """The last plan with the world it was made for; `failures` lists the actions that could not be started, and why."""

    at: float
    world: PlanInputs
    plan: Plan
    failures: tuple[tuple[Action, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CloudStatus:
    """The status of one cloud; times are seconds since the epoch."""

    group: str
    cloud: str
    region: str
    enabled: bool
    frozen: bool
    reachable: bool
    breaker: str  # closed, open, half_open
    boots_paused_until: float | None
    error: str  # why it is unreachable or gets no new servers, or has servers to be adopted later, for the admin; else empty
    observed_at: float | None
    vms: Mapping[str, int]  # live VMs by state
    foreign_vms: int
    quota_vms: int | None
    quota_cores: int | None
    quota_ram_mib: int | None
    unadopted_servers: int = 0  # with our ownership tag and without a row, to be adopted later: there are too many at once


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """Whether the pool is reachable, and its last response; `unreachable_queues` maps each queue that did not answer to the reason."""

    reachable: bool
    error: str
    asked_at: float | None
    idle_jobs: int
    running_jobs: int
    slots: int
    unreachable_queues: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """The status of the whole engine. `stuck` says that its loop does not turn (used by /healthz); `database` and `minter` hold the
    problems of these dependencies; `problem` is the first problem that stops the engine, `healthy` is false while there is one.
    `exclusions` are what the last cycle left out because it failed."""

    scheduler_uuid: str
    started_at: float
    cycle: int
    last_cycle_at: float | None
    last_cycle_seconds: float | None
    last_cycle_age: float | None
    healthy: bool
    problem: str
    stuck: str
    database: str
    minter: str
    pool: PoolStatus
    clouds: tuple[CloudStatus, ...]
    vms: Mapping[str, int]  # live VMs by state, all clouds
    exclusions: tuple[Exclusion, ...] = ()


@dataclass(frozen=True, slots=True)
class RetireResult:
    """The result of a retire request; `changed` is false if the VM was already being removed or gone."""

    changed: bool
    before: VmState
    after: VmState


@dataclass(frozen=True, slots=True)
class ExplainInputs:
    """One job from the schedd, as a demand of its own, and the world to evaluate it in.

    `demand` is None when the job is not for this scheduler (no group); `found` false when the schedd does not know the job.
    `status` is HTCondor's JobStatus (1 idle, 2 running, 5 held, ...), `universe` its JobUniverse (5 vanilla, 7 scheduler, ...).
    """

    job: str
    found: bool
    status: int | None
    demand: Demand | None
    world: PlanInputs
    hold_reason: str = ""
    universe: int = VANILLA


class EngineView(Protocol):
    """The operations of the engine; every method may be called from the API's event loop at any time."""

    def status(self) -> EngineStatus: ...

    def last_plan(self) -> PlanRecord | None: ...

    async def vms(
        self,
        *,
        states: Sequence[VmState] | None = None,  # None: all live ones (everything but gone)
        groups: Sequence[str] | None = None,
        cloud: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> VmPage: ...

    async def totals(self, groups: Sequence[str] | None = None) -> tuple[VmTotals, ...]:
        """One entry for each cloud that ever had a VM, even if it is no longer in the catalog."""
        ...

    async def vm(self, vm_id: str) -> VmDetail | None: ...

    async def retire(self, vm_id: str, who: str) -> RetireResult:
        """Drain the VM, then delete it. Raises KeyError for an unknown id."""
        ...

    async def explain_inputs(self, job: str) -> ExplainInputs:
        """`job` is "CLUSTER" or "CLUSTER.PROC". Raises PoolUnavailable (distcloud.scheduler.pool.base) when the pool does not answer."""
        ...

    def wake(self) -> None:
        """Run a cycle now: the catalog has changed."""
        ...
