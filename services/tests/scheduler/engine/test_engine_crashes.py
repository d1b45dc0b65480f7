"""The scheduler is killed at each of its steps in turn: no server leaks, none is created twice, jobs finish."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from distcloud.scheduler.domain.model import VmState
from distcloud.scheduler.drivers.base import CloudError, ErrorKind

from ..support.fakes import FakeJob, FakeWorld
from ..support.stage import Stage, migrated

TURNS = 60
PARTS = 3  # each covers every third step, so that parallel test processes share the work evenly


def the_world(scenario: str) -> FakeWorld:
    """One job, one cloud with room for one VM, and an additional failure."""
    world = FakeWorld(jobs=[FakeJob(seconds=30)])
    east = world.cloud("east")
    if scenario == "answers lost, server shown late":
        east.show_after, east.lose_create_answers, east.lose_delete_answers = 40.0, 1, 1
    elif scenario == "failed build":
        east.fail_builds = 1
    return world


async def play(folder: Path, scenario: str, kill_at: int | None) -> tuple[FakeWorld, Stage]:
    world = the_world(scenario)
    world.kill_at = kill_at
    stage = Stage(await migrated(folder), world)
    await stage.begin()
    quiet = turn = 0
    while turn < TURNS and quiet < 4:  # a few turns beyond the end: nothing may reappear
        if scenario == "refused once" and turn < 2:
            world.clouds["east"].refuse_creates = CloudError(ErrorKind.QUOTA, "east", "quota exceeded", no_effect=True)
        else:
            world.clouds["east"].refuse_creates = None
        await stage.turn(10.0)
        turn += 1
        quiet = quiet + 1 if stage.at_rest() else 0
    return world, stage


async def check(world: FakeWorld, stage: Stage, expected_servers: int) -> None:
    assert all(job.done for job in world.jobs), "the job did not run"
    assert not world.servers(), f"leaked: {[entry.server.name for entry in world.servers()]}"
    assert not world.workers, "a dead slot remains in the pool"
    assert not world.doubled
    created = world.clouds["east"].created
    assert len(created) == len(set(created)) == expected_servers, f"{len(created)} servers were created"
    vms = await stage.vms()
    assert {vm.state for vm in vms} == {VmState.GONE}
    assert set(created) <= {vm.id for vm in vms}, "a server never had a row"
    for vm in vms:
        detail = await stage.engine.vm(vm.id)
        assert detail is not None
        changes = [(event.from_state, event.to_state) for event in detail.events]
        assert changes[0] == (None, VmState.REQUESTED)
        assert all(before[1] is after[0] for before, after in pairwise(changes)), "the history has a gap"
        assert Counter(to for _, to in changes)[VmState.GONE] == 1
    for vm_id in created:
        assert vm_id in world.refused, "the identity of a deleted VM is still trusted"
    await stage.end()


@pytest.mark.parametrize(
    ("scenario", "servers"),
    [("nothing", 1), ("answers lost, server shown late", 1), ("failed build", 2), ("refused once", 1)],
)
@pytest.mark.parametrize("part", range(PARTS))
def test_scheduler_killed_at_every_step(scenario: str, servers: int, part: int) -> None:
    # In memory if possible: the test writes hundreds of small databases.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)

        async def main() -> None:
            world, stage = await play(folder, scenario, None)
            steps = list(world.steps)
            await check(world, stage, servers)
            assert len(steps) > 15
            for number in range(1 + part, len(steps) + 1, PARTS):
                world, stage = await play(folder, scenario, number)
                try:
                    assert stage.deaths == 1, "it was not killed"
                    await check(world, stage, servers)
                except AssertionError as error:
                    raise AssertionError(f"killed at step {number} of {len(steps)}, {world.steps[number - 1]}: {error}") from error

        asyncio.run(main())
