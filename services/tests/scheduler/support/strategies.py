"""Builders and hypothesis strategies: consistent clouds, groups, demand, VMs and slots."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from distcloud.scheduler.domain.model import Cloud, Demand, Flavor, Group, Limits, Policy, Resources, Slot, Usage, Vm, VmState
from distcloud.scheduler.worker.offer import offered

NOW = 1_000_000.0
IMAGE = "worker"
SUBMIT = (
    '(TARGET.Arch == "X86_64") && (TARGET.OpSys == "LINUX") && (TARGET.Disk >= RequestDisk) && '
    "(TARGET.Memory >= RequestMemory) && (TARGET.HasFileTransfer)"
)
FLAVORS = (
    Flavor("small", Resources(1, 1024, 10.0)),
    Flavor("medium", Resources(2, 4096, 20.0)),
    Flavor("large", Resources(8, 16384, 80.0)),
)
REQUIREMENTS = (
    SUBMIT,
    "true",
    'group_name =?= "atlas"',
    'group_name =?= "belle" && target_alias =?= "west"',
    f'{SUBMIT} && (DistcloudRegion == "r0")',
    f"{SUBMIT} && (TARGET.Cpus >= 2)",
    "TARGET.Memory >= 999999",
    "((",
    "HasNothing",
)


@dataclass(frozen=True)
class Scene:
    """The inputs of one plan."""

    demand: tuple[Demand, ...]
    slots: tuple[Slot, ...]
    vms: tuple[Vm, ...]
    clouds: tuple[Cloud, ...]
    groups: tuple[Group, ...]
    policy: Policy
    now: float = NOW


def cloud(name: str = "a", group: str = "atlas", **changes: object) -> Cloud:
    """A cloud that can take workers."""
    usual = Cloud(name, group, f"r-{name}", enabled=True, flavors=FLAVORS, images=frozenset({IMAGE}), default_image=IMAGE)
    return replace(usual, **changes)  # type: ignore[arg-type]


def demand(idle: int = 1, **changes: object) -> Demand:
    """Single-core jobs without special requirements."""
    return replace(Demand("atlas", "alice", SUBMIT, Resources(1, 500, 1.0), idle, waiting_since=NOW - 60), **changes)  # type: ignore[arg-type]


def vm(number: int = 1, state: VmState = VmState.IDLE, **changes: object) -> Vm:
    """A worker of flavor small that has been in its state for a minute."""
    in_pool = state in (VmState.IDLE, VmState.RUNNING)
    usual = Vm(
        id=f"vm-{number:016d}",
        group="atlas",
        cloud="a",
        flavor="small",
        image=IMAGE,
        resources=FLAVORS[0].resources,
        state=state,
        requested_at=NOW - 300,
        changed_at=NOW - 60,
        server_id=f"server-{number}",
        last_seen_in_pool=NOW - 5 if in_pool else None,
        registered_at=NOW - 200 if in_pool else None,
        idle_since=NOW - 60 if state is VmState.IDLE else None,
        ever_used=state is VmState.RUNNING,
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


_NOTHING = Resources()


def slot(of: Vm, used: Resources = _NOTHING, owners: tuple[str, ...] = (), draining: bool = False, last_heard: float = NOW - 5) -> Slot:
    """The slot of a VM in the pool."""
    total = offered(of.resources)
    return Slot(f"{of.id}.distcloud.lab", of.id, total, total - used, len(owners), draining, last_heard, owners)


def group(name: str = "atlas", **changes: object) -> Group:
    return replace(Group(name), **changes)  # type: ignore[arg-type]


# Most drawn values are valid, with a few faults: if everything is faulty, the plan is empty.
_CLOUD_FAULTS: tuple[dict[str, object], ...] = (
    {"enabled": False},
    {"frozen": True},
    {"reachable": False, "unreachable_reason": "time-out"},
    {"credential_expires_at": NOW + 10},
    {"images": frozenset({"other"})},
    {"flavors": ()},
    {"default_image": "absent"},
    {"failures": 3, "last_failure_at": NOW - 10},
    {"failures": 3, "last_failure_at": NOW - 5000},
    {"flavors": FLAVORS[:1], "default_flavor": "absent"},
)
_UNUSUAL_JOBS: tuple[dict[str, object], ...] = (
    *[dict[str, object](requirements=text) for text in REQUIREMENTS],
    {"request": Resources(64, 100, 0.1)},
    {"alias": "unknown", "requirements": 'target_alias =?= "unknown"'},
    {"image": "other"},
    {"image": f"c0:{IMAGE}, c1:other"},
    {"flavor": "medium"},
    {"flavor": "c0:large"},
)


@st.composite
def limits(draw: st.DrawFn, most: int = 24) -> Limits:
    dimension = draw(st.sampled_from(("vms", "cores", "ram_mib")))
    bound = draw(st.integers(0, most))
    return Limits(**{dimension: bound * 1024 if dimension == "ram_mib" else bound})


@st.composite
def clouds_of(draw: st.DrawFn, name: str) -> tuple[Cloud, ...]:
    found = []
    for number in range(draw(st.integers(1, 3))):
        valid = Cloud(
            name=f"c{number}",
            group=name,
            region=f"r{draw(st.integers(0, 1))}",
            enabled=True,
            priority=draw(st.integers(0, 2)),
            limits=draw(st.just(Limits()) | limits()),
            quota=draw(st.just(Limits()) | limits()),
            soft_limits=draw(st.just(Limits()) | limits()),
            foreign=draw(st.just(Usage()) | st.just(Usage(2, 5, 6000))),
            flavors=draw(st.just(FLAVORS) | st.just(FLAVORS[:2])),
            images=frozenset({IMAGE, "other"}),
            default_image=IMAGE,
            default_flavor=draw(st.sampled_from((None, "medium"))),
            project=draw(st.sampled_from(("", "shared"))),
        )
        fault = draw(st.integers(0, 3 * len(_CLOUD_FAULTS)))
        if fault < len(_CLOUD_FAULTS):
            valid = replace(valid, **_CLOUD_FAULTS[fault])  # type: ignore[arg-type]
        found.append(valid)
    return tuple(found)


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    plain = Demand(
        group=draw(st.sampled_from(("atlas", "belle"))),
        owner=draw(st.sampled_from(("alice", "bob", "carol"))),
        requirements=SUBMIT,
        request=Resources(draw(st.sampled_from((1, 2, 8))), draw(st.sampled_from((100, 900, 2000))), draw(st.sampled_from((0.1, 5.0)))),
        idle=draw(st.integers(0, 9)),
        running=draw(st.integers(0, 2)),
        priority=draw(st.integers(-1, 1)),
        waiting_since=draw(st.none() | st.floats(NOW - 9999, NOW)),
    )
    unusual = draw(st.integers(0, 2 * len(_UNUSUAL_JOBS)))
    if unusual < len(_UNUSUAL_JOBS):
        plain = replace(plain, **_UNUSUAL_JOBS[unusual])  # type: ignore[arg-type]
    elif unusual == 2 * len(_UNUSUAL_JOBS):
        plain = replace(plain, group="nobody")
    alias = draw(st.sampled_from((None, None, None, None, "west", "c")))
    if alias is not None:
        plain = replace(plain, alias=alias, requirements=f'target_alias =?= "{alias}"')
    return plain


@st.composite
def workers(draw: st.DrawFn, number: int, clouds: tuple[Cloud, ...]) -> tuple[Vm, Slot | None]:
    home = draw(st.sampled_from(clouds))
    flavor = draw(st.sampled_from(FLAVORS))
    state = draw(st.sampled_from(tuple(VmState)))
    requested = NOW - draw(st.integers(0, 20_000))
    changed = draw(st.floats(requested, NOW))
    made = Vm(
        id=f"vm-{number:016d}",
        group=home.group,
        cloud=home.name,
        flavor=flavor.name,
        image=IMAGE,
        resources=flavor.resources,
        state=state,
        requested_at=requested,
        changed_at=changed,
        server_id=None if state is VmState.REQUESTED else f"server-{number}",
        last_seen_in_pool=draw(st.none() | st.floats(changed, NOW)),
        ever_used=draw(st.booleans()),
        idle_since=draw(st.none() | st.floats(requested, NOW)) if state is VmState.IDLE else None,
        token_expires_at=draw(st.none() | st.just(requested + 100_000)),
        drain_requested_at=draw(st.none() | st.floats(requested, NOW)) if state is VmState.RETIRING else None,
        manual=draw(st.sampled_from((False, False, False, True))),
        reason="drawn",
    )
    if draw(st.booleans()):
        return made, None
    cores = draw(st.integers(0, flavor.resources.cores))
    owners = tuple(draw(st.sampled_from(("alice", "bob"))) for _ in range(cores))
    return made, slot(made, Resources(cores, 100 * cores), owners, draw(st.booleans()), NOW - draw(st.sampled_from((5, 60, 5000))))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Scenes of two groups, with invalid values in some of them."""
    clouds = draw(clouds_of("atlas")) + draw(clouds_of("belle"))
    groups = (
        Group("atlas", aliases={"west": ("c0",), "c": ("c1", "c10")}, default_image=IMAGE),
        Group("belle", keep_alive=0, aliases={"west": ("c1",)}),
    )
    wanted = tuple(draw(demands()) for _ in range(draw(st.integers(1, 6))))
    vms: list[Vm] = []
    slots: list[Slot] = []
    if clouds:
        for number in range(draw(st.integers(0, 8))):
            made, shown = draw(workers(number, clouds))
            vms.append(made)
            if shown is not None:
                slots.append(shown)
    policy = Policy(
        max_new_per_cloud_and_cycle=draw(st.integers(1, 6)),
        max_starting_per_cloud=draw(st.integers(1, 8)),
        max_idle_per_cloud=draw(st.integers(0, 6)),
    )
    return Scene(wanted, tuple(slots), tuple(vms), clouds, groups, policy)
