"""A scheduler on a real database in front of the fake world, driven turn by turn: observe the clouds, run a cycle and its tasks."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet

from distcloud.common.secretbox import SecretBox
from distcloud.common.storage.database import Database
from distcloud.scheduler.domain.model import Policy, Vm, VmState
from distcloud.scheduler.engine.engine import Engine
from distcloud.scheduler.engine.monitor import Timing
from distcloud.scheduler.engine.operations import WorkerContext
from distcloud.scheduler.store.tables import CloudRow, GroupRow

from .fakes import DOMAIN, FakeMinter, FakePool, FakeWorld, KillableDatabase, Killed, driver_for

_copies = itertools.count()
KEY = Fernet.generate_key().decode()
POLICY = Policy(minimum_keep_alive=20, create_settle=60, max_idle_per_cloud=5)


async def migrated(folder: Path, cloud_names: Sequence[str] = ("east",), *, max_vms: int = 1, enabled: bool = True) -> str:
    """URL of a copy of a migrated SQLite file with group atlas and its clouds: a migration per test would take minutes."""
    name = f"{'-'.join(cloud_names)}-{max_vms}-{enabled}"
    original = folder / f"template-{name}.db"
    if not original.exists():
        database = Database(f"sqlite:///{original}", "scheduler")
        await database.migrate("distcloud.scheduler")
        async with database.begin() as session:
            session.add(GroupRow(name="atlas", keep_alive=20, default_image="worker", aliases={}))
            await session.flush()
            for cloud in cloud_names:
                session.add(
                    CloudRow(group_name="atlas", name=cloud, region=cloud, enabled=enabled, max_vms=max_vms, auth={}, attributes={})
                )
        await database.close()
    copy = folder / f"{name}-{next(_copies)}.db"
    shutil.copy(original, copy)
    return f"sqlite:///{copy}"


class Stage:
    """Runs one scheduler, and starts a new one when it is killed."""

    def __init__(self, url: str, world: FakeWorld, *, policy: Policy = POLICY) -> None:
        self.url, self.world, self.policy = url, world, policy
        self.box = SecretBox([KEY])
        self.deaths = 0
        self.database: KillableDatabase
        self.engine: Engine

    async def begin(self) -> None:
        self.database = KillableDatabase(self.url, self.world)
        self.engine = Engine(
            self.database,
            self.box,
            FakePool(self.world),
            FakeMinter(self.world),
            driver_for(self.world),
            worker=WorkerContext(DOMAIN, f"central.{DOMAIN}"),
            policy=self.policy,
            clock=self.world.clock,
            monotonic=self.world.clock,
            jitter=lambda: 0.5,
        )
        await self.engine.start()

    def fast(self) -> None:
        """For a run by itself in real time: short beats."""
        self.engine._timing = self.engine._monitors._timing = Timing(cycle=0.1, listing=0.1, inventory=1.0)
        self.engine._loop._seconds = 0.1

    async def turn(self, seconds: float = 5.0) -> None:
        """Advance the clock, then run one turn of the scheduler. If it is killed, start a new one."""
        self.world.tick(seconds)
        try:
            for monitor in self.engine._monitors:
                if monitor.breaker.allows(self.world.now):
                    await monitor.refresh()
            await self.engine.cycle()
            await self.engine.wait_idle()
        except Killed:
            pass
        if self.world.dead:
            await self._bury()

    async def _bury(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.database.close()
        self.deaths += 1
        self.world.dead, self.world.kill_at = False, None
        await self.begin()

    async def turns(self, count: int) -> None:
        for _ in range(count):
            await self.turn()

    def at_rest(self) -> bool:
        """No job is idle or running, no server exists, and the last cycle saw no live row."""
        last = self.engine.last_plan()
        return all(job.done for job in self.world.jobs) and not self.world.servers() and last is not None and not last.world.vms

    async def vms(self) -> list[Vm]:
        page = await self.engine.vms(states=list(VmState), limit=1000)
        return [detail.vm for detail in page.vms]

    async def end(self) -> None:
        await self.engine.close()
        await self.database.close()
