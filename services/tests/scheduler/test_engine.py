"""The engine from a waiting job to a deleted VM, in a world of fakes on a real database."""

from __future__ import annotations

import asyncio
from pathlib import Path

from distcloud.scheduler.model import VmState

from .fakes import FakeJob, World
from .stage import Stage, migrated


def test_a_waiting_job_gets_a_worker_and_the_worker_goes_afterwards(tmp_path: Path) -> None:
    world = World(jobs=[FakeJob()])
    east = world.cloud("east")

    async def main() -> None:
        stage = Stage(await migrated(tmp_path), world)
        await stage.begin()
        await stage.turns(3)
        assert len(east.servers) == 1
        await stage.turns(60)
        assert all(job.done for job in world.jobs)
        assert not east.servers and not world.workers
        (vm,) = await stage.vms()
        assert vm.state is VmState.GONE
        detail = await stage.engine.vm(vm.id)
        assert detail is not None
        print([(event.to_state.value, event.reason) for event in detail.events])
        assert vm.id in world.refused and world.drain_keys[vm.id]
        await stage.end()

    asyncio.run(main())
