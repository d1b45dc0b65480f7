"""The planner in a simulation: every job that can run does, and nothing is left at the end."""

from __future__ import annotations

from collections import defaultdict

import pytest

from distcloud.scheduler.domain.model import Boot, Demand, Limits, Policy, Resources, VmState

from ..support.simulation import CYCLE, Simulation, jobs
from ..support.strategies import cloud, group

QUICK = Policy(
    registration_timeout=600,
    first_use_timeout=600,
    silent_timeout=300,
    error_timeout=60,
    minimum_keep_alive=60,
    drain_timeout=3600,
    create_settle=30,
)


def run(world: Simulation, hours: float = 6.0) -> None:
    """Run until everything is done or the deadline is reached; checks the invariants in every cycle."""
    for _ in range(int(hours * 3600 / CYCLE)):
        world.step()
        for each in world.clouds:
            living = [vm for vm in world.living() if (vm.group, vm.cloud) == (each.group, each.name)]
            if each.limits.vms is not None:
                assert len(living) <= each.limits.vms
                assert len(world.servers_on(each.name)) <= each.limits.vms
        if world.done():
            return
    unfinished = [job for job in world.jobs if job.ended is None]
    raise AssertionError(f"not done: {len(unfinished)} jobs, ledger {world.living()}, servers {list(world.servers)}")


def test_all_jobs_run_and_all_workers_are_removed() -> None:
    world = Simulation([cloud("a"), cloud("b")], [group(keep_alive=60)], jobs(30, length=120.0), QUICK)
    run(world)
    assert {vm.state for vm in world.vms.values()} == {VmState.GONE}
    assert world.booted <= 30


def test_two_users_beyond_limits_use_both_regions() -> None:
    mine = jobs(12, length=300.0) + jobs(12, length=300.0, owner="bob")
    world = Simulation([cloud("a", limits=Limits(vms=3)), cloud("b", limits=Limits(vms=3))], [group(keep_alive=60)], mine, QUICK)
    where: dict[str, set[str]] = defaultdict(set)
    for _ in range(2000):
        world.step()
        for job in world.jobs:
            if job.on is not None and job.on in world.vms:
                where[job.kind.owner].add(world.vms[job.on].cloud)
        if world.done():
            break
    assert world.done()
    assert where == {"alice": {"a", "b"}, "bob": {"a", "b"}}


@pytest.mark.parametrize("seed", range(6))
def test_faults_delay_but_lose_no_job(seed: int) -> None:
    """A third of the creates are refused, lost, unanswered, fail, never join or die; deletes get lost too."""
    policy = Policy(**{**{name: getattr(QUICK, name) for name in QUICK.__slots__}, "freeze_after_failures": 0})
    world = Simulation(
        [cloud("a", limits=Limits(vms=4)), cloud("b", limits=Limits(vms=4))],
        [group(keep_alive=60)],
        jobs(25, length=200.0),
        policy,
        seed,
        faults=0.35,
    )
    run(world)


def test_worker_is_reused_while_jobs_arrive() -> None:
    steady = [job for number in range(20) for job in jobs(1, length=50.0, submitted=1_000_000.0 + 60.0 * number)]
    world = Simulation([cloud("a")], [group(keep_alive=180)], steady, QUICK)
    run(world)
    assert world.booted <= 3


def test_fragmented_capacity_does_not_serve_big_jobs() -> None:
    big = jobs(2, length=60.0, request=Resources(8, 8000, 5.0))
    small = jobs(8, length=400.0)
    world = Simulation([cloud("a", limits=Limits(vms=12))], [group(keep_alive=60)], small + big, QUICK)
    run(world)
    assert any(vm.flavor == "large" for vm in world.vms.values())


def test_stale_queue_does_not_boot_extra_workers() -> None:
    """Jobs start between the queries of the queue and of the pool; that must not boot workers twice."""
    world = Simulation([cloud("a")], [group(keep_alive=60)], jobs(10, length=500.0), QUICK)
    answers: list[list[Demand]] = []
    current = world.demand

    def delayed() -> list[Demand]:
        answers.append(current())
        return answers[max(0, len(answers) - 3)]

    world.demand = delayed  # type: ignore[method-assign]
    run(world)
    assert world.booted == 10


def test_same_seed_gives_same_history() -> None:
    def history(seed: int) -> list[object]:
        world = Simulation([cloud("a"), cloud("b")], [group(keep_alive=60)], jobs(8), QUICK, seed, faults=0.3)
        for _ in range(200):
            world.step()
        return [action for _, made in world.history for action in made.actions]

    assert history(3) == history(3)
    assert any(isinstance(action, Boot) for action in history(3))
