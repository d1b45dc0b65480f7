"""Response schemas of the engine's routes; the command line and the site report read them too, so they need no other part.

Times are ISO 8601 text in UTC, keys of amounts name the unit.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from ...common.http.schemas import Response, Timestamp
from ..domain.model import Reason, VmState

Counts = Annotated[dict[str, int], Field(description="number of VMs by state")]


class ResourcesResponse(Response):
    """Resources of a machine."""

    cores: int
    ram_mib: int
    disk_gib: float


class VmResponse(Response):
    """A VM in the ledger."""

    id: str
    group: str
    cloud: str
    region: str
    flavor: str
    image: str
    alias: str | None
    resources: ResourcesResponse
    state: VmState
    reason: str
    server_id: str | None
    manual: bool
    ever_used: bool
    requested_at: Timestamp | None
    changed_at: Timestamp | None
    registered_at: Timestamp | None
    last_seen_in_pool: Timestamp | None
    idle_since: Timestamp | None
    drain_requested_at: Timestamp | None
    token_expires_at: Timestamp | None
    gone_at: Timestamp | None


class VmEventResponse(Response):
    """A change of a VM's state."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    at: Timestamp | None
    from_state: VmState | None = Field(alias="from")
    to_state: VmState = Field(alias="to")
    reason: str


class VmDetailResponse(VmResponse):
    """A VM with its history, oldest event first."""

    events: list[VmEventResponse]


class VmListResponse(Response):
    """A page of VMs, newest first."""

    vms: list[VmResponse]
    cursor: Annotated[str | None, Field(description="parameter `cursor` of the next page; null on the last one")]


class CloudTotals(Response):
    """All VMs that a cloud has and had."""

    group: str
    cloud: str
    region: str
    vms: Counts


class TotalsResponse(Response):
    """Totals of every cloud that ever had a VM."""

    vms: list[CloudTotals]


class PoolStatusResponse(Response):
    """The pool, as it last answered."""

    reachable: bool
    error: str
    asked_at: Timestamp | None
    idle_jobs: int
    running_jobs: int
    slots: int
    unreachable_queues: Annotated[dict[str, str], Field(description="schedd -> error")]


class CloudStatusResponse(Response):
    """A cloud and its VMs."""

    group: str
    cloud: str
    region: str
    enabled: bool
    frozen: bool
    reachable: bool
    breaker: Literal["closed", "open", "half_open"]
    boots_paused_until: Timestamp | None
    error: Annotated[str, Field(description="why it is unreachable, gets no new servers or has unadopted ones; else empty")]
    observed_at: Timestamp | None
    vms: Counts
    foreign_vms: int
    quota_vms: int | None
    quota_cores: int | None
    quota_ram_mib: int | None
    unadopted_servers: Annotated[int, Field(description="servers with our ownership tag and without a row, to be adopted later")] = 0

    @property
    def condition(self) -> str:
        """The state of the cloud in one word."""
        if not self.enabled:
            return "disabled"
        if self.frozen:
            return "frozen"
        if not self.reachable:
            return "unreachable"
        return "paused" if self.boots_paused_until else "ok"


class ExclusionResponse(Response):
    """Something that cannot be processed and was left out, so that the others are served."""

    group: str
    cloud: str | None
    subject: Annotated[str, Field(description="what of the group or cloud")]
    reason: Annotated[str, Field(description="the kind of the error; the service's log has the details")]


class StatusResponse(Response):
    """The engine, the pool and the clouds that the token may read; `vms` counts live VMs of these clouds."""

    scheduler_uuid: str
    healthy: bool
    problem: Annotated[str, Field(description="why it is unhealthy; else empty")]
    stuck: str
    database: str
    minter: str
    started_at: Timestamp | None
    cycle: int
    last_cycle_at: Timestamp | None
    last_cycle_seconds: float | None
    last_cycle_age: float | None
    pool: PoolStatusResponse
    clouds: list[CloudStatusResponse]
    exclusions: list[ExclusionResponse] = []
    vms: Counts


class DemandResponse(Response):
    """Jobs with the same requirements, of one owner."""

    group: str
    owner: str
    requirements: str
    request: ResourcesResponse
    idle: int
    running: int
    priority: int
    alias: str | None
    image: str | None
    flavor: str | None
    network: str | None
    waiting_since: Timestamp | None


class VerdictResponse(Response):
    """Why jobs do, or do not, get workers on a cloud; `cloud` null: on any cloud."""

    demand: DemandResponse
    cloud: str | None
    flavor: str | None
    reason: Reason
    detail: str
    count: int


class BootResponse(Response):
    """A worker to boot."""

    action: Literal["boot"]
    group: str
    cloud: str
    flavor: str
    image: str
    alias: str | None
    reason: Reason
    detail: str


class RemovalResponse(Response):
    """A VM to retire or delete."""

    action: Literal["retire", "delete"]
    vm: str
    reason: Reason
    detail: str


class PlanResponse(Response):
    """The last plan."""

    at: Timestamp | None
    actions: list[Annotated[BootResponse | RemovalResponse, Field(discriminator="action")]]
    verdicts: list[VerdictResponse]
    failures: Annotated[list[str], Field(description="why actions could not be started; empty for tokens bound to groups")]
    truncated: Annotated[bool, Field(description="whether verdicts were left out")]


class ClauseResponse(Response):
    """A clause of a job's requirements that fails."""

    clause: str
    outcome: str
    because: str


class MismatchResponse(Response):
    """The clauses that fail on workers of one flavor."""

    flavor: str
    error: str
    failures: list[ClauseResponse]


class CloudExplanationResponse(Response):
    """Why the job waits, for one cloud."""

    cloud: str
    reason: Reason
    sentence: str
    flavor: str | None
    mismatches: list[MismatchResponse]


class ExplanationResponse(Response):
    """Why a job waits."""

    job: str
    status: str
    demand: DemandResponse | None
    summary: str
    clouds: list[CloudExplanationResponse]


class VmStateResponse(Response):
    """The state of a VM before or after a request."""

    state: VmState


class RetireResponse(Response):
    """`changed` is false for a VM that is already leaving or gone."""

    changed: bool
    before: VmStateResponse
    after: VmStateResponse


class RetireCloudResponse(Response):
    """The VMs that were retired, and how many live VMs the cloud has."""

    changed: bool
    retired: list[str]
    alive: int
