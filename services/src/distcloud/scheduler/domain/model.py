"""The plain words of the scheduler: what is wanted, what is there, and what to do about it.

Everything here is a frozen value without behaviour that reaches outside. The planner maps these values to these values;
the ledger, the drivers and the pool translate them from and to the world.

Units, everywhere: cores are counts, memory is MiB, disk is GiB, times are seconds since the epoch (UTC), durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

CloudKey = tuple[str, str]  # (group, cloud): names one cloud of the catalog


class VmState(StrEnum):
    """States of a worker VM in the ledger; `states.py` holds the allowed transitions."""

    REQUESTED = "requested"  # row written, the cloud not asked or not yet answered
    STARTING = "starting"  # the cloud knows the server and builds it
    UNREGISTERED = "unregistered"  # runs, but the pool has not seen it
    IDLE = "idle"  # in the pool, no claimed slot
    RUNNING = "running"  # in the pool, at least one claimed slot
    RETIRING = "retiring"  # drains: running jobs finish, no new ones start
    DELETING = "deleting"  # the cloud was asked to delete it
    ERROR = "error"  # failed, silent or stopped without our order; to be deleted
    GONE = "gone"  # the cloud no longer has it; final


class Reason(StrEnum):
    """Why something was or was not done: stable words that pages, logs and tests may rely on."""

    DEMAND = "demand"  # boot: jobs wait that this worker can run
    NO_DEMAND = "no_demand"  # retire: idle longer than keep-alive
    NEVER_REGISTERED = "never_registered"
    NEVER_USED = "never_used"
    BUILD_FAILED = "build_failed"
    ERROR_TIMEOUT = "error_timeout"
    SILENT = "silent"  # was in the pool and vanished without a drain
    DRAINED = "drained"  # no slot left: delete now
    DRAIN_TIMEOUT = "drain_timeout"
    TOKEN_EXPIRING = "token_expiring"  # noqa: S105  maximum age reached: the pool token ends soon
    OVER_LIMIT = "over_limit"
    ORPHAN = "orphan"  # carries our id, has no row
    ORDERED = "ordered"  # a person asked
    CLOUD_DISABLED = "cloud_disabled"
    CLOUD_FROZEN = "cloud_frozen"
    CLOUD_UNREACHABLE = "cloud_unreachable"
    CREDENTIAL_EXPIRING = "credential_expiring"
    GROUP_UNKNOWN = "group_unknown"
    NO_CLOUD = "no_cloud"  # the group has no cloud at all
    ALIAS_EXCLUDES = "alias_excludes"
    NO_IMAGE = "no_image"
    NO_FLAVOR = "no_flavor"
    NO_NETWORK = "no_network"
    REQUIREMENTS_MISMATCH = "requirements_mismatch"  # the classad match failed; detail names the clause
    LIMIT_REACHED = "limit_reached"
    THROTTLED = "throttled"
    ENOUGH_CAPACITY = "enough_capacity"
    NOT_OURS = "not_ours"


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of a machine: cores (count), ram_mib (MiB), disk_gib (GiB, may be fractional)."""

    cores: int = 0
    ram_mib: int = 0
    disk_gib: float = 0.0

    def __add__(self, other: Resources) -> Resources:
        return Resources(self.cores + other.cores, self.ram_mib + other.ram_mib, self.disk_gib + other.disk_gib)

    def __sub__(self, other: Resources) -> Resources:
        return Resources(self.cores - other.cores, self.ram_mib - other.ram_mib, self.disk_gib - other.disk_gib)

    def times(self, count: int) -> Resources:
        return Resources(self.cores * count, self.ram_mib * count, self.disk_gib * count)

    def fits_in(self, room: Resources) -> bool:
        return self.cores <= room.cores and self.ram_mib <= room.ram_mib and self.disk_gib <= room.disk_gib


@dataclass(frozen=True, slots=True)
class Flavor:
    """A size of server that a cloud offers."""

    name: str
    resources: Resources
    id: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds; None means unbounded."""

    vms: int | None = None
    cores: int | None = None
    ram_mib: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What is used of a cloud's quota by servers that are not the scheduler's own."""

    vms: int = 0
    cores: int = 0
    ram_mib: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """A tenant of the scheduler: whose jobs it serves and with which defaults."""

    name: str
    keep_alive: int = 300
    default_flavor: str | None = None
    default_image: str | None = None
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # alias -> names of clouds


@dataclass(frozen=True, slots=True)
class Cloud:
    """An account in a region as one group uses it, with what was last observed there.

    `quota` and `foreign` are what the cloud itself reported; `reachable` is false while its circuit breaker is open.
    `images` are the names that the cloud has, `flavors` what it offers after exclusions; `networks` are the names and ids that
    stand for one network each (None: it does not say).
    `project` is the key of the quota within the region: clouds of several groups that share it share the quota (empty: this
    cloud has a quota of its own). `soft_limits` bound what everybody uses of the project, foreign servers included.
    `failures` counts the servers that failed in a row; enough of them freeze the cloud for a while.
    """

    name: str
    group: str
    region: str
    enabled: bool = False
    frozen: bool = False
    reachable: bool = True
    unreachable_reason: str = ""
    credential_expires_at: float | None = None
    priority: int = 0  # higher goes first
    limits: Limits = Limits()
    quota: Limits = Limits()
    foreign: Usage = Usage()
    flavors: tuple[Flavor, ...] = ()
    images: frozenset[str] = frozenset()
    networks: frozenset[str] | None = None
    default_flavor: str | None = None
    default_image: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)  # extra slot attributes of its workers
    project: str = ""
    soft_limits: Limits = Limits()
    network: str | None = None
    failures: int = 0
    last_failure_at: float | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """Jobs that are alike for scheduling: one row of the schedd's grouped answer."""

    group: str
    owner: str
    requirements: str  # ClassAd expression as text
    request: Resources
    idle: int
    running: int = 0
    priority: int = 0
    alias: str | None = None
    image: str | None = None
    flavor: str | None = None
    network: str | None = None
    keep_alive: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)  # further job attributes as ClassAd text, for matching
    waiting_since: float | None = None  # the oldest job's queue time


@dataclass(frozen=True, slots=True)
class Slot:
    """What the pool shows of one worker: its partitionable slot and how much of it is claimed."""

    machine: str  # full host name
    vm_id: str | None  # ledger id that it advertises
    total: Resources
    free: Resources
    claimed_slots: int
    draining: bool
    last_heard: float
    owners: tuple[str, ...] = ()  # of the claims, one entry a claim


# A stamp further ahead than the clocks of two hosts differ was written before the clock was set back (seconds).
MAX_CLOCK_SKEW = 300.0


@dataclass(frozen=True, slots=True)
class Vm:
    """One row of the ledger."""

    id: str
    group: str
    cloud: str
    flavor: str
    image: str
    resources: Resources
    state: VmState
    requested_at: float
    changed_at: float  # of the state
    server_id: str | None = None
    last_seen_in_pool: float | None = None
    ever_used: bool = False
    idle_since: float | None = None
    token_expires_at: float | None = None
    drain_requested_at: float | None = None
    alias: str | None = None
    reason: str = ""
    manual: bool = False  # a person has taken it over: never touched
    registered_at: float | None = None  # first seen in the pool
    network: str | None = None
    keep_alive: int | None = None  # of the job it was booted for; None: the group's
    delete_requested_at: float | None = None  # when the cloud was last asked to delete it


@dataclass(frozen=True, slots=True)
class Policy:
    """The scheduler's own bounds and patience; durations in seconds."""

    max_new_per_cloud_and_cycle: int = 5
    max_starting_per_cloud: int = 5
    max_idle_per_cloud: int = 5
    error_timeout: int = 300  # a failed worker that was in the pool may recover, with its jobs
    build_error_timeout: int = 60  # one that never was there holds up its limit for nothing
    late_timeout: int = 1200  # a server that is built, or runs without joining the pool, so long: no job is counted on it any more
    build_timeout: int = 1800  # a cloud that lost a build in a crash says for ever that it goes on
    registration_timeout: int = 7200
    first_use_timeout: int = 1800
    minimum_keep_alive: int = 120
    quiet_timeout: int = 300  # not heard for five updates: no waiting job is counted on it any more
    silent_timeout: int = 900  # in the pool once, not heard since: deleted
    drain_timeout: int = 43200  # 12 h: a multi-core job may need that long
    drain_repeat: int = 300  # the wish to drain is repeated this often
    max_vm_age: int = 604800  # must stay below the life of the pool token, less drain_timeout
    credential_margin: int = 86400
    freeze_after_failures: int = 3
    freeze_seconds: int = 900  # a cloud frozen by failures gets one probe this long after the last failure
    create_settle: int = 120  # a server may be missing from listings this long after it was asked for
    delete_repeat: int = 60  # an order to delete that had no effect is repeated this often
    # A draining worker whose ad vanishes while the queue says jobs run unseen gets this long: it tells of itself every minute, and
    # of these updates a collector that restarts swallows one, so that three must fit in.
    vanish_grace: int = 180


@dataclass(frozen=True, slots=True)
class PoolCoverage:
    """How far the pool's answer goes.

    `unreachable` names the queues that did not answer: what waits there is unknown, so nothing is taken for unneeded. `since` is
    the time from which on the pool has been heard without a gap (None: always): silence before it is ours, not a worker's.
    """

    unreachable: frozenset[str] = frozenset()
    since: float | None = None


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """Everything that `planner.plan` was, or would be, given."""

    demand: tuple[Demand, ...] = ()
    slots: tuple[Slot, ...] = ()
    vms: tuple[Vm, ...] = ()
    clouds: tuple[Cloud, ...] = ()
    groups: tuple[Group, ...] = ()
    policy: Policy = field(default_factory=Policy)
    now: float = 0.0
    coverage: PoolCoverage = field(default_factory=PoolCoverage)


@dataclass(frozen=True, slots=True)
class Boot:
    """Order one worker."""

    group: str
    cloud: str
    flavor: str
    image: str
    resources: Resources
    alias: str | None
    reason: Reason
    detail: str = ""
    network: str | None = None
    keep_alive: int | None = None


@dataclass(frozen=True, slots=True)
class Retire:
    """Let a worker finish its jobs and take no new ones; `again`: it was asked before and does not drain yet."""

    vm_id: str
    reason: Reason
    detail: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Give the server back to the cloud; `again`: it was asked before and the server is still there."""

    vm_id: str
    reason: Reason
    detail: str = ""
    again: bool = False


Action = Boot | Retire | Delete


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why jobs of one demand do, or do not, get workers on one cloud (cloud None: anywhere)."""

    demand: Demand
    cloud: str | None
    reason: Reason
    detail: str = ""
    flavor: str | None = None
    count: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """The planner's answer: what to do, and every decision with its reason."""

    actions: tuple[Action, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
