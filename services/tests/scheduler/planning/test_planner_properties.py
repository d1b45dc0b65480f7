"""Properties that hold for every plan, checked on scenes drawn by hypothesis."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distcloud.scheduler.domain.model import Boot, Cloud, Delete, Demand, Flavor, Limits, Plan, Reason, Retire, Usage, Vm, VmState
from distcloud.scheduler.matching.matcher import Matcher
from distcloud.scheduler.planning.planner import plan
from distcloud.scheduler.worker.offer import offered

from ..support.strategies import FLAVORS, IMAGE, NOW, Scene, scenes, slot

MATCHER = Matcher()
PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def make_plan(scene: Scene) -> Plan:
    return plan(scene.demand, scene.slots, scene.vms, scene.clouds, scene.groups, scene.policy, scene.now, matcher=MATCHER)


def boots(answer: Plan) -> list[Boot]:
    return [action for action in answer.actions if isinstance(action, Boot)]


def removals(answer: Plan) -> list[Retire | Delete]:
    return [action for action in answer.actions if not isinstance(action, Boot)]


def applied(scene: Scene, answer: Plan) -> Scene:
    """The scene after the plan was applied, at the same time."""
    by_id = {vm.id: vm for vm in scene.vms}
    for removal in removals(answer):
        vm = by_id[removal.vm_id]
        if isinstance(removal, Delete):
            by_id[vm.id] = replace(vm, state=VmState.DELETING, changed_at=scene.now, delete_requested_at=scene.now)
        elif removal.again:
            by_id[vm.id] = replace(vm, drain_requested_at=scene.now)
        else:
            by_id[vm.id] = replace(vm, state=VmState.RETIRING, changed_at=scene.now, drain_requested_at=scene.now)
    for number, boot in enumerate(boots(answer)):
        new = Vm(
            f"vm-new-{number:04d}-{len(by_id)}",
            boot.group,
            boot.cloud,
            boot.flavor,
            boot.image,
            boot.resources,
            VmState.REQUESTED,
            scene.now,
            scene.now,
            alias=boot.alias,
        )
        by_id[new.id] = new
    return replace(scene, vms=tuple(by_id.values()))


@given(scenes(), st.randoms(use_true_random=False))
@PROPERTY
def test_input_order_does_not_matter(scene: Scene, rng: random.Random) -> None:
    def shuffled(items: tuple[object, ...]) -> tuple[object, ...]:
        mixed = list(items)
        rng.shuffle(mixed)
        return tuple(mixed)

    clouds = tuple(replace(cloud, flavors=shuffled(cloud.flavors)) for cloud in scene.clouds)  # type: ignore[arg-type]
    mixed = Scene(
        shuffled(scene.demand),  # type: ignore[arg-type]
        shuffled(scene.slots),  # type: ignore[arg-type]
        shuffled(scene.vms),  # type: ignore[arg-type]
        shuffled(clouds),  # type: ignore[arg-type]
        shuffled(scene.groups),  # type: ignore[arg-type]
        scene.policy,
    )
    assert make_plan(mixed) == make_plan(scene)


@given(scenes())
@PROPERTY
def test_no_boot_without_waiting_jobs(scene: Scene) -> None:
    quiet = replace(scene, demand=tuple(replace(each, idle=0) for each in scene.demand))
    assert boots(make_plan(quiet)) == []
    waiting: dict[str, int] = defaultdict(int)
    for each in scene.demand:
        waiting[each.group] += each.idle
    ordered: dict[str, int] = defaultdict(int)
    for boot in boots(make_plan(scene)):
        ordered[boot.group] += 1
    assert all(count <= waiting[group] for group, count in ordered.items())


def _within(used: Usage, limits: Limits, others: Usage, boot: Boot) -> None:
    for dimension in ("vms", "cores", "ram_mib"):
        limit = getattr(limits, dimension)
        if limit is not None:
            assert getattr(used, dimension) + getattr(others, dimension) <= limit, (dimension, boot)


@given(scenes())
@PROPERTY
def test_no_boot_exceeds_a_limit(scene: Scene) -> None:
    answer = make_plan(scene)
    by_key = {(cloud.group, cloud.name): cloud for cloud in scene.clouds}

    def usage(of: list[Cloud], upto: int) -> Usage:
        keys = {(cloud.group, cloud.name) for cloud in of}
        sizes = [vm.resources for vm in scene.vms if vm.state is not VmState.GONE and (vm.group, vm.cloud) in keys]
        sizes += [boot.resources for boot in boots(answer)[:upto] if (boot.group, boot.cloud) in keys]
        return Usage(len(sizes), sum(size.cores for size in sizes), sum(size.ram_mib for size in sizes))

    for number, boot in enumerate(boots(answer), start=1):
        cloud = by_key[boot.group, boot.cloud]
        sharing = [cloud]
        if cloud.project:
            sharing = [other for other in scene.clouds if (other.region, other.project) == (cloud.region, cloud.project)]
        _within(usage([cloud], number), cloud.limits, Usage(), boot)
        for other in sharing:
            if other.reachable:
                _within(usage(sharing, number), other.quota, other.foreign, boot)
        _within(usage(sharing, number), cloud.soft_limits, cloud.foreign, boot)


@given(scenes())
@PROPERTY
def test_throttles_hold_per_cloud(scene: Scene) -> None:
    answer = make_plan(scene)
    for cloud in scene.clouds:
        key = (cloud.group, cloud.name)
        new = [boot for boot in boots(answer) if (boot.group, boot.cloud) == key]
        going = {removal.vm_id for removal in removals(answer)}
        starting = [
            vm
            for vm in scene.vms
            if (vm.group, vm.cloud) == key and vm.state in (VmState.REQUESTED, VmState.STARTING) and vm.id not in going
        ]
        assert len(new) <= scene.policy.max_new_per_cloud_and_cycle
        if new:
            assert len(new) + len(starting) <= scene.policy.max_starting_per_cloud


@given(scenes())
@PROPERTY
def test_boots_are_eligible_and_fit_waiting_jobs(scene: Scene) -> None:
    clouds = {(cloud.group, cloud.name): cloud for cloud in scene.clouds}
    groups = {group.name: group for group in scene.groups}
    for boot in boots(make_plan(scene)):
        cloud = clouds[boot.group, boot.cloud]
        flavor = next(flavor for flavor in cloud.flavors if flavor.name == boot.flavor)
        assert cloud.enabled and not cloud.frozen and cloud.reachable
        assert cloud.credential_expires_at is None or cloud.credential_expires_at - scene.now >= scene.policy.credential_margin
        assert boot.image in cloud.images
        assert boot.resources == flavor.resources
        assert boot.alias is None or cloud.name in groups[boot.group].aliases[boot.alias]
        assert boot.reason is Reason.DEMAND and boot.detail
        assert any(_would_run(each, boot, cloud, flavor) for each in scene.demand)


def _would_run(each: Demand, boot: Boot, cloud: Cloud, flavor: Flavor) -> bool:
    fits = each.request.fits_in(offered(flavor.resources))
    return (
        each.group == boot.group
        and each.idle > 0
        and each.alias == boot.alias
        and fits
        and MATCHER.match(each, cloud, flavor, boot.alias, boot.image).ok
    )


@given(scenes())
@PROPERTY
def test_manual_and_gone_vms_untouched_others_once(scene: Scene) -> None:
    touched = [removal.vm_id for removal in removals(make_plan(scene))]
    untouchable = {vm.id for vm in scene.vms if vm.manual or vm.state is VmState.GONE}
    assert not untouchable & set(touched)
    assert len(touched) == len(set(touched))


@given(scenes())
@PROPERTY
def test_workers_with_claims_are_not_deleted(scene: Scene) -> None:
    """A worker with claims is deleted only if it failed, is silent or drained for too long."""
    claimed = {each.vm_id for each in scene.slots if each.claimed_slots > 0}
    for removal in removals(make_plan(scene)):
        if isinstance(removal, Delete) and removal.vm_id in claimed and not removal.again:
            assert removal.reason in (Reason.BUILD_FAILED, Reason.ERROR_TIMEOUT, Reason.SILENT, Reason.DRAIN_TIMEOUT)


@given(scenes())
@PROPERTY
def test_applied_plan_is_not_repeated(scene: Scene) -> None:
    """At the same time no VM is removed twice, and booting ends, usually with at most one worker per waiting job.

    (It may take several plans: a job that no cloud boots a worker for may still run on one booted for another job.)
    """
    first = make_plan(scene)
    after = applied(scene, first)
    second = make_plan(after)
    assert {removal.vm_id for removal in removals(first)}.isdisjoint(
        removal.vm_id for removal in removals(second) if not isinstance(removal, Delete)
    )
    policy = replace(scene.policy, max_new_per_cloud_and_cycle=999, max_starting_per_cloud=999, max_idle_per_cloud=999)
    world = replace(scene, policy=policy)
    waiting, ordered = sum(each.idle for each in scene.demand), 0
    for _ in range(waiting + 1):
        answer = make_plan(world)
        if not boots(answer):
            break
        ordered += len(boots(answer))
        world = applied(world, answer)
    assert boots(make_plan(world)) == []
    # Jobs are assigned to workers greedily: where demands overlap, an extra worker may be booted.
    assert ordered <= 2 * waiting


@given(scenes())
@PROPERTY
def test_every_waiting_demand_gets_a_verdict(scene: Scene) -> None:
    answer = make_plan(scene)
    overall = [verdict for verdict in answer.verdicts if verdict.cloud is None]
    assert sorted(map(repr, (verdict.demand for verdict in overall))) == sorted(repr(each) for each in scene.demand if each.idle > 0)
    assert all(verdict.detail for verdict in answer.verdicts)
    assert sum(verdict.count for verdict in overall) == len(boots(answer))
    assert sum(verdict.count for verdict in answer.verdicts if verdict.cloud is not None) == len(boots(answer))


@st.composite
def stable_scenes(draw: st.DrawFn) -> Scene:
    """Busy and recently idle workers, demand that they serve, and demand that no worker can serve: nothing to do."""
    cloud = Cloud("c0", "atlas", "r0", enabled=True, flavors=FLAVORS, images=frozenset({IMAGE}), default_image=IMAGE, limits=Limits(vms=99))
    vms, slots = [], []
    for number in range(draw(st.integers(0, 6))):
        busy = draw(st.booleans())
        worker = Vm(
            f"vm-{number:016d}",
            "atlas",
            "c0",
            "small",
            IMAGE,
            FLAVORS[0].resources,
            VmState.RUNNING if busy else VmState.IDLE,
            NOW - 500,
            NOW - 60,
            server_id=f"s{number}",
            last_seen_in_pool=NOW - 3,
            registered_at=NOW - 400,
            idle_since=None if busy else NOW - draw(st.integers(0, 119)),
        )
        total = offered(worker.resources)
        vms.append(worker)
        slots.append(slot(worker, total if busy else replace(total, cores=0, ram_mib=0, disk_gib=0.0), ("alice",) if busy else ()))
    busy_count = sum(1 for vm in vms if vm.state is VmState.RUNNING)
    wanted = [
        Demand(
            "atlas",
            "alice",
            "true",
            replace(offered(FLAVORS[0].resources), disk_gib=1.0),
            draw(st.integers(0, len(vms) - busy_count)),
            busy_count,
        ),
        Demand("atlas", "bob", "TARGET.Memory > 999999", replace(offered(FLAVORS[0].resources), disk_gib=1.0), draw(st.integers(0, 50))),
    ]
    from distcloud.scheduler.domain.model import Group, Policy

    return Scene(tuple(wanted), tuple(slots), tuple(vms), (cloud,), (Group("atlas"),), Policy())


@given(stable_scenes())
@PROPERTY
def test_stable_scene_gives_empty_plan(scene: Scene) -> None:
    assert make_plan(scene).actions == ()
