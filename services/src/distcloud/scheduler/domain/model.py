"""The value types of the scheduler: demand, observed state, and the plan.

Everything here is frozen and free of I/O. The planner maps these values to these values; the ledger, the drivers and the pool
translate them from and to the outside.

Units: cores are counts, memory is MiB, disk is GiB, times are seconds since the epoch (UTC), durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

CloudKey = tuple[str, str]  # (group, cloud): names one cloud of the catalog


class VmState(StrEnum):
    """States of a worker VM in the ledger; `states.py` holds the allowed transitions."""

    REQUESTED = "requested"  # row written, create request not yet sent or not yet answered
    STARTING = "starting"  # the cloud is building the server
    UNREGISTERED = "unregistered"  # the server runs, but has not joined the pool
    IDLE = "idle"  # in the pool, no claimed slot
    RUNNING = "running"  # in the pool, at least one claimed slot
    RETIRING = "retiring"  # draining: running jobs finish, no new jobs start
    DELETING = "deleting"  # the cloud has been asked to delete it
    ERROR = "error"  # failed, silent or stopped without our request; to be deleted
    GONE = "gone"  # the cloud no longer has it; final


class Reason(StrEnum):
    """Why something was or was not done. The values are stable: the API, pages and logs rely on them."""

    DEMAND = "demand"  # boot: jobs are waiting that this worker can run
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
    ORPHAN = "orphan"  # has our ownership tag but no ledger row
    ORDERED = "ordered"  # requested by a person
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
    REQUIREMENTS_MISMATCH = "requirements_mismatch"  # the ClassAd match failed; detail names the clause
    LIMIT_REACHED = "limit_reached"
    THROTTLED = "throttled"
    ENOUGH_CAPACITY = "enough_capacity"
    NOT_OURS = "not_ours"
    EXCLUDED = "excluded"  # something of this cloud, group or job cannot be processed; the others are served


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources of a machine or job: cores (count), ram_mib (MiB), disk_gib (GiB, may be fractional)."""

    cores: int = 0
    ram_mib: int = 0
    disk_gib: float = 0.0

    def __add__(self, other: Resources) -> Resources:
        return Resources(self.cores + other.cores, self.ram_mib + other.ram_mib, self.disk_gib + other.disk_gib)

    def __sub__(self, other: Resources) -> Resources:
        return Resources(self.cores - other.cores, self.ram_mib - other.ram_mib, self.disk_gib - other.disk_gib)

    def times(self, count: int) -> Resources:
        return Resources(self.cores * count, self.ram_mib * count, self.disk_gib * count)

    def fits_in(self, capacity: Resources) -> bool:
        return self.cores <= capacity.cores and self.ram_mib <= capacity.ram_mib and self.disk_gib <= capacity.disk_gib


@dataclass(frozen=True, slots=True)
class Flavor:
    """A server size offered by a cloud."""

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
    """Usage counted against a quota or limit, for example by servers that the scheduler does not own."""

    vms: int = 0
    cores: int = 0
    ram_mib: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """A tenant of the scheduler, with the defaults for its jobs."""

    name: str
    keep_alive: int = 300
    default_flavor: str | None = None
    default_image: str | None = None
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # alias -> names of clouds


@dataclass(frozen=True, slots=True)
class Cloud:
    """One group's account in a region, with its last observed state.

    `quota` and `foreign` are as reported by the cloud; `reachable` is false while its circuit breaker is open.
    `images` are the image names in the cloud, `flavors` those left after exclusions; `networks` are the names and ids that each
    identify exactly one network (None: not reported).
    `project` is the key of the quota within the region of one Keystone, whose address is `keystone`: clouds of several groups with
    the same three share the quota (empty project: this cloud has its own quota). A cloud reports its project itself, and could name
    that of another; its Keystone is part of the catalog. `soft_limits` bound the total usage of the project, foreign servers included.
    `failures` counts consecutive failed servers; after `Policy.freeze_after_failures` of them the cloud is frozen for a while.
    `excluded` says why nothing may be booted there although it is reachable: something of its configuration cannot be processed.
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
    attributes: Mapping[str, str] = field(default_factory=dict)  # extra slot attributes for its workers
    project: str = ""
    keystone: str = ""  # normalized
    soft_limits: Limits = Limits()
    network: str | None = None
    failures: int = 0
    last_failure_at: float | None = None
    excluded: str = ""


@dataclass(frozen=True, slots=True)
class Demand:
    """Jobs with identical scheduling properties: one row of the schedd's grouped query."""

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
    attributes: Mapping[str, str] = field(default_factory=dict)  # extra job attributes as ClassAd text, for matching
    waiting_since: float | None = None  # the oldest job's queue time


@dataclass(frozen=True, slots=True)
class Slot:
    """One worker as the pool reports it: its partitionable slot and how much of it is claimed."""

    machine: str  # full host name
    vm_id: str | None  # ledger id that the slot advertises
    total: Resources
    free: Resources
    claimed_slots: int
    draining: bool
    last_heard: float
    owners: tuple[str, ...] = ()  # one entry per claim


# Seconds that the clocks of two hosts may differ. A timestamp further in the future was written before the clock was set back.
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
    changed_at: float  # last state change
    server_id: str | None = None
    last_seen_in_pool: float | None = None
    ever_used: bool = False
    idle_since: float | None = None
    token_expires_at: float | None = None
    drain_requested_at: float | None = None
    alias: str | None = None
    reason: str = ""
    manual: bool = False  # under manual control: never touched
    registered_at: float | None = None  # first seen in the pool
    network: str | None = None
    keep_alive: int | None = None  # from the job it was booted for; None: the group's value applies
    delete_requested_at: float | None = None  # when the cloud was last asked to delete it


@dataclass(frozen=True, slots=True)
class Policy:
    """Throttles and timeouts of the scheduler; durations in seconds."""

    max_new_per_cloud_and_cycle: int = 5
    max_starting_per_cloud: int = 5
    max_idle_per_cloud: int = 5
    error_timeout: int = 300  # a failed worker that was in the pool may recover, with its jobs
    build_error_timeout: int = 60  # one that never joined only blocks the limit
    late_timeout: int = 1200  # building, or running outside the pool, for longer: its capacity is no longer counted
    build_timeout: int = 1800  # a cloud that lost a build in a crash reports BUILD forever
    registration_timeout: int = 7200
    first_use_timeout: int = 1800
    minimum_keep_alive: int = 120
    quiet_timeout: int = 300  # five missed updates: its capacity is no longer counted
    silent_timeout: int = 900  # was in the pool, no update since: deleted
    drain_timeout: int = 43200  # 12 h: a multi-core job may need that long
    drain_repeat: int = 300  # a drain request is repeated this often
    max_vm_age: int = 604800  # must stay below the lifetime of the pool token minus drain_timeout
    credential_margin: int = 86400
    freeze_after_failures: int = 3
    freeze_seconds: int = 900  # a cloud frozen by failures gets one probe this long after the last failure
    create_settle: int = 120  # a new server may be missing from listings for this long after the request
    delete_repeat: int = 60  # a delete request without effect is repeated this often
    # Grace period for a draining worker whose ad vanishes while the queue reports running jobs without a visible claim. Workers send an
    # update every minute and a collector that restarts loses one, so at least three updates must fit in.
    vanish_grace: int = 180


@dataclass(frozen=True, slots=True)
class PoolCoverage:
    """How complete the pool data of one cycle is.

    `unreachable` names the queues that did not answer: their demand is unknown, so no worker is considered unneeded. `since` is the
    start of the current period without a failed pool query (None: always): silence before it says nothing about a worker.
    """

    unreachable: frozenset[str] = frozenset()
    since: float | None = None


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """All arguments of `planner.plan`."""

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
    """Boot one worker."""

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
    """Let a worker finish its jobs and take no new ones; `again`: repeats a request that had no effect yet."""

    vm_id: str
    reason: Reason
    detail: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the server; `again`: repeats a request that had no effect yet."""

    vm_id: str
    reason: Reason
    detail: str = ""
    again: bool = False


Action = Boot | Retire | Delete


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why one demand does or does not get workers on one cloud (cloud None: the demand as a whole)."""

    demand: Demand
    cloud: str | None
    reason: Reason
    detail: str = ""
    flavor: str | None = None
    count: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """The planner's result: the actions, and a verdict for every decision."""

    actions: tuple[Action, ...] = ()
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Exclusion:
    """What was left out because it failed, so that the others could be served.

    `subject` is what of the group or cloud; `reason` names the kind of the error, whose details are in the log.
    """

    group: str
    cloud: str | None
    subject: str
    reason: str
