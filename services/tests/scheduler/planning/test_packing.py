"""Packing gives the same plan as the obvious way to pack, and does not look at every worker for every demand."""

from __future__ import annotations

import random
from dataclasses import replace
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distcloud.scheduler.domain.model import Demand, Group, Plan, Policy, Resources, Slot, Vm, VmState
from distcloud.scheduler.matching.matcher import Matcher
from distcloud.scheduler.planning import packing
from distcloud.scheduler.planning.capacity import CapacityTree, WorkerCapacity
from distcloud.scheduler.planning.planner import plan
from distcloud.scheduler.worker.offer import offered

from ..support import reference_packing
from ..support.strategies import FLAVORS, IMAGE, NOW, REQUIREMENTS, Scene, cloud, scenes, slot, vm

MATCHER = Matcher()
PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
STATES = (VmState.RUNNING, VmState.RUNNING, VmState.IDLE, VmState.UNREGISTERED, VmState.STARTING, VmState.REQUESTED)


def make_plan(scene: Scene) -> Plan:
    return plan(scene.demand, scene.slots, scene.vms, scene.clouds, scene.groups, scene.policy, scene.now, matcher=MATCHER)


def reference_plan(scene: Scene) -> Plan:
    with patch.object(packing, "pack", reference_packing.pack):
        return make_plan(scene)


@st.composite
def crowded_scenes(draw: st.DrawFn) -> Scene:
    """Up to 60 workers with odd amounts of free capacity, and up to 40 demands that compete for them."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    clouds = tuple(cloud(f"c{number}", region=f"r{number % 2}") for number in range(3))
    vms, slots = zip(*(_worker(rng, number) for number in range(rng.randint(1, 60))), strict=True)
    wanted = tuple(_demand(rng, number) for number in range(rng.randint(1, 40)))
    policy = Policy(max_idle_per_cloud=rng.randint(0, 6))
    return Scene(wanted, tuple(each for each in slots if each is not None), vms, clouds, (Group("atlas"),), policy)


def _worker(rng: random.Random, number: int) -> tuple[Vm, Slot | None]:
    flavor, state = rng.choice(FLAVORS), rng.choice(STATES)
    worker = vm(number, state, cloud=f"c{rng.randrange(3)}", flavor=flavor.name, resources=flavor.resources, image=IMAGE)
    if state not in (VmState.RUNNING, VmState.IDLE):
        return worker, None
    total = offered(flavor.resources)
    used = Resources(rng.randint(0, total.cores), rng.randint(0, total.ram_mib), round(rng.uniform(0, total.disk_gib), 2))
    return worker, slot(worker, used, ("alice",) * rng.randint(0, 2))


def _demand(rng: random.Random, number: int) -> Demand:
    request = Resources(rng.choice((0, 1, 1, 2, 4)), rng.choice((0, 100, 700, 3000)), rng.choice((0.0, 0.1, 1.5, 9.0)))
    return Demand(
        "atlas",
        f"user{number % 4}",
        rng.choice(REQUIREMENTS[:6]),
        request,
        rng.randint(0, 12),
        running=rng.randint(0, 2),
        waiting_since=NOW - number,
    )


@given(scenes() | crowded_scenes())
@PROPERTY
def test_plan_is_that_of_reference_packing(scene: Scene) -> None:
    assert repr(make_plan(scene)).encode() == repr(reference_plan(scene)).encode()


@given(crowded_scenes())
@PROPERTY
def test_every_worker_is_left_as_by_reference(scene: Scene) -> None:
    """Also which worker takes how many jobs is the same, not just the plan that follows."""

    def recorded(pack: object) -> list[str]:
        left: list[WorkerCapacity] = []

        def spy(situation: object, pending: object, by_group: dict[str, list[WorkerCapacity]]) -> None:
            left.extend(capacity for workers in by_group.values() for capacity in workers)
            pack(situation, pending, by_group)  # type: ignore[operator]

        with patch.object(packing, "pack", spy):
            make_plan(scene)
        return [repr(replace(capacity)) for capacity in left]

    assert recorded(packing.pack) == recorded(reference_packing.pack)


def test_search_skips_workers_without_room() -> None:
    worker = MATCHER.worker(cloud(), FLAVORS[2])
    full = [WorkerCapacity(worker, ("atlas", "a"), f"vm-{number}", VmState.RUNNING, 1, 500, 5.0) for number in range(1000)]
    full[700].cores = 4
    tree = CapacityTree(full)
    with patch.object(CapacityTree, "_has_room", autospec=True, side_effect=CapacityTree._has_room) as steps:
        assert list(tree.fitting(Resources(2, 100, 1.0))) == [700]
    assert steps.call_count <= 25
