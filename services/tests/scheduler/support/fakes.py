"""In-memory clouds, pool and minter with a simulated clock, for faults that real components cannot produce on demand.

Every effect on the fake world passes `FakeWorld.step`, where a test can kill the scheduler before or right after the effect.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from distcloud.common.storage.database import Database
from distcloud.scheduler.domain.model import Demand, Flavor, Limits, Resources, Slot
from distcloud.scheduler.domain.states import ServerStatus
from distcloud.scheduler.drivers.base import Account, CloudError, ErrorKind, Inventory, Listing, Server, ServerRequest
from distcloud.scheduler.engine.minter_client import MinterUnavailable
from distcloud.scheduler.pool.base import PoolUnavailable, QueuedJob, Queues
from distcloud.scheduler.worker.configuration import WorkerSettings

T = TypeVar("T")
DOMAIN = "pool.test"
FLAVOR = Flavor("small", Resources(1, 2048, 10.0), "f-1")
BUILD_SECONDS, JOIN_SECONDS = 10.0, 20.0


class Killed(BaseException):
    """The scheduler was killed here (kill -9): the code after this line does not run."""


@dataclass
class FakeServer:
    server: Server
    created_at: float
    size: Resources
    hidden_until: float = 0.0  # some clouds list a new server late
    joins: bool = True


@dataclass
class FakeJob:
    """A job that needs one core for `seconds`; `queue` is its schedd."""

    seconds: float = 60.0
    group: str = "atlas"
    queue: str = "here"
    started_at: float | None = None
    machine: str | None = None
    done: bool = False


@dataclass
class FakeWorker:
    """The pool's view of one worker; it outlives the server until the ad is invalidated."""

    vm_id: str
    group: str
    total: Resources
    draining: bool = False
    last_heard: float = 0.0
    gone: bool = False


@dataclass
class FakeWorld:
    """The clock and everything outside the scheduler."""

    now: float = 1_000_000.0
    jobs: list[FakeJob] = field(default_factory=list)
    clouds: dict[str, FakeCloud] = field(default_factory=dict)
    workers: dict[str, FakeWorker] = field(default_factory=dict)
    drain_keys: dict[str, str] = field(default_factory=dict)
    refused: dict[str, float] = field(default_factory=dict)
    minted: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    kill_at: int | None = None
    dead: bool = False
    pool_down: bool = False
    unreachable: dict[str, str] = field(default_factory=dict)  # queues that do not answer
    forgotten: bool = False  # the collector has lost its ads
    hangs: bool = False  # queries to the pool never return
    minter_down: bool = False
    doubled: list[str] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def set_clock(self, by: float) -> None:
        """Set the clock without affecting what is in progress. Ads in the pool keep their timestamps, as in a collector."""
        self.now += by
        for job in self.jobs:
            job.started_at = None if job.started_at is None else job.started_at + by
        for server in self.servers():
            server.created_at += by
            server.hidden_until += by

    def step(self, name: str) -> None:
        if self.dead:
            raise Killed(name)
        self.steps.append(name)
        if self.kill_at is not None and len(self.steps) == self.kill_at:
            self.dead = True
            raise Killed(name)

    def cloud(self, name: str, **knobs: object) -> FakeCloud:
        self.clouds[name] = cloud = FakeCloud(self, name)
        for knob, value in knobs.items():
            setattr(cloud, knob, value)
        return cloud

    def servers(self) -> list[FakeServer]:
        return [server for cloud in self.clouds.values() for server in cloud.servers.values()]

    def live_workers(self) -> list[FakeWorker]:
        return [worker for worker in self.workers.values() if not worker.gone]

    def tick(self, seconds: float = 5.0) -> None:
        """Advance the clock: servers come up, workers join, jobs start and end, drained workers shut down."""
        self.now += seconds
        for cloud in self.clouds.values():
            cloud.tick()
        for job in self.jobs:
            if job.machine is not None and not job.done and job.started_at is not None and self.now - job.started_at >= job.seconds:
                worker = self.workers.get(job.machine)
                job.done = worker is not None and not worker.gone
                job.machine = None
        for worker in [*self.workers.values()]:
            claims = [job for job in self.jobs if job.machine == worker.vm_id]
            if worker.gone:
                for job in claims:
                    job.machine, job.started_at = None, None
                continue
            worker.last_heard = self.now
            if worker.draining:
                if not claims:
                    del self.workers[worker.vm_id]
                continue
            waiting = [job for job in self.jobs if job.machine is None and not job.done and job.group == worker.group]
            for job in waiting[: worker.total.cores - len(claims)]:
                job.machine, job.started_at = worker.vm_id, self.now


@dataclass
class FakeCloud:
    """An in-memory cloud with its fault settings."""

    world: FakeWorld
    name: str
    servers: dict[str, FakeServer] = field(default_factory=dict)
    created: list[str] = field(default_factory=list)
    user_data: list[bytes] = field(default_factory=list)
    down: bool = False
    refused: bool = False  # the credential
    complete: bool = True
    lose_create_answers: int = 0
    lose_delete_answers: int = 0
    refuse_creates: CloudError | None = None
    fail_builds: int = 0
    show_after: float = 0.0
    workers_join: bool = True
    quota: Limits = field(default_factory=Limits)
    foreign: list[Server] = field(default_factory=list)
    closed: int = 0
    over_quota: int = 0  # creates refused because of the quota
    _ids: itertools.count[int] = field(default_factory=itertools.count)

    def tick(self) -> None:
        for entry in self.servers.values():
            age = self.world.now - entry.created_at
            if entry.server.status is ServerStatus.BUILD and age >= BUILD_SECONDS:
                entry.server = replace(entry.server, status=ServerStatus.ACTIVE)
            name = entry.server.name
            up = entry.server.status is ServerStatus.ACTIVE and entry.joins and self.workers_join
            if up and age >= BUILD_SECONDS + JOIN_SECONDS and name not in self.world.workers and name not in self.world.refused:
                group = entry.server.metadata["distcloud_group"]
                self.world.workers[name] = FakeWorker(name, group, FLAVOR.resources, last_heard=self.world.now)
                entry.joins = False

    @property
    def project(self) -> str:
        return f"project of {self.name}"

    def _reach(self) -> None:
        if self.down:
            raise CloudError(ErrorKind.UNREACHABLE, self.name, "is down", no_effect=True)
        if self.refused:
            raise CloudError(ErrorKind.AUTH, self.name, "Keystone at http://k refuses the credential", no_effect=True)

    async def inventory(self) -> Inventory:
        self._reach()
        return Inventory((FLAVOR,), {"worker": "i-1"}, self.quota, self.project)

    async def listing(self) -> Listing:
        self._reach()
        shown = [entry.server for entry in self.servers.values() if self.world.now >= entry.hidden_until]
        return Listing((*shown, *self.foreign), self.complete)

    async def create(self, request: ServerRequest) -> str:
        self.world.step(f"{self.name}: before create")
        self._reach()
        if self.refuse_creates is not None:
            raise self.refuse_creates
        if self.quota.vms is not None and len(self.servers) + len(self.foreign) >= self.quota.vms:
            self.over_quota += 1
            raise CloudError(ErrorKind.QUOTA, self.name, "Quota exceeded for instances", no_effect=True)
        if any(entry.server.name == request.vm_id for entry in self.servers.values()):
            self.world.doubled.append(request.vm_id)
        server_id = f"{self.name}-server-{next(self._ids)}"
        status = ServerStatus.BUILD
        if self.fail_builds:
            self.fail_builds -= 1
            status = ServerStatus.ERROR
        server = Server(server_id, request.vm_id, status, dict(request.metadata), FLAVOR.resources, request.flavor, "i-1")
        self.servers[server_id] = FakeServer(server, self.world.now, FLAVOR.resources, self.world.now + self.show_after)
        self.created.append(request.vm_id)
        self.user_data.append(request.user_data)
        self.world.step(f"{self.name}: after create")
        if self.lose_create_answers:
            self.lose_create_answers -= 1
            raise CloudError(ErrorKind.UNREACHABLE, self.name, "no answer within 30 s", no_effect=False)
        return server_id

    async def delete(self, server_id: str) -> None:
        self.world.step(f"{self.name}: before delete")
        self._reach()
        entry = self.servers.pop(server_id, None)
        twins = [other for other in self.servers.values() if entry is not None and other.server.name == entry.server.name]
        if entry is not None and not twins and entry.server.name in self.world.workers:
            self.world.workers[entry.server.name].gone = True
        self.world.step(f"{self.name}: after delete")
        if self.lose_delete_answers:
            self.lose_delete_answers -= 1
            raise CloudError(ErrorKind.UNREACHABLE, self.name, "no answer within 30 s", no_effect=False)

    async def delete_leftovers(self, server_id: str) -> None:
        self._reach()
        self.world.step(f"{self.name}: sweep")

    async def close(self) -> None:
        self.closed += 1


class FakeDriver:
    """A driver for one account of a fake cloud; the account's secret must be correct."""

    def __init__(self, cloud: FakeCloud, account: Account) -> None:
        self._cloud = cloud
        self._account = account
        self._closed = False

    def _log_in(self) -> FakeCloud:
        if self._closed:
            raise CloudError(ErrorKind.UNREACHABLE, self._cloud.name, "was not asked: its account was changed meanwhile", no_effect=True)
        if self._account.secrets.get("password") == "wrong":
            raise CloudError(ErrorKind.AUTH, self._cloud.name, "Keystone at http://k refuses the credential", no_effect=True)
        self._account.credential.check_project(self._cloud.project)
        return self._cloud

    async def servers(self) -> Listing:
        return await self._log_in().listing()

    async def inventory(self) -> Inventory:
        return await self._log_in().inventory()

    async def create(self, request: ServerRequest) -> str:
        return await self._log_in().create(request)

    async def delete(self, server_id: str) -> None:
        await self._log_in().delete(server_id)

    async def delete_leftovers(self, server_id: str) -> None:
        await self._log_in().delete_leftovers(server_id)

    async def close(self) -> None:
        self._closed = True
        await self._cloud.close()


class FakePool:
    """A pool with the jobs of one owner, alice."""

    def __init__(self, world: FakeWorld) -> None:
        self._world = world

    def _reach(self) -> None:
        if self._world.pool_down:
            raise PoolUnavailable("HTCondor: schedd: no answer within 20 s")

    async def demand(self) -> Queues:
        self._reach()
        if self._world.hangs:
            await asyncio.Event().wait()
        found = []
        for group in sorted({job.group for job in self._world.jobs}):
            mine = [job for job in self._world.jobs if job.group == group and not job.done and job.queue not in self._world.unreachable]
            running = sum(1 for job in mine if job.machine is not None)
            if mine:
                found.append(Demand(group, "alice", "true", Resources(1, 512, 1.0), idle=len(mine) - running, running=running))
        return Queues(tuple(found), dict(self._world.unreachable))

    async def slots(self) -> list[Slot]:
        self._reach()
        found = []
        for worker in self._world.workers.values() if not self._world.forgotten else ():
            claims = sum(1 for job in self._world.jobs if job.machine == worker.vm_id)
            free = worker.total - Resources(claims, 512 * claims, 1.0 * claims)
            found.append(
                Slot(
                    f"{worker.vm_id}.{DOMAIN}",
                    worker.vm_id,
                    worker.total,
                    free,
                    claims,
                    worker.draining,
                    worker.last_heard,
                    ("alice@d",) * claims,
                )
            )
        return found

    async def job(self, job_id: str) -> QueuedJob | None:
        self._reach()
        number = int(job_id.partition(".")[0]) - 1
        if number >= len(self._world.jobs):
            return None
        return QueuedJob(job_id, 1, Demand(self._world.jobs[number].group, "alice", "true", Resources(1, 512, 1.0), idle=1))

    async def drain(self, vm_id: str, key: str) -> None:
        self._world.step("pool: before drain")
        self._reach()
        worker = self._world.workers.get(vm_id)
        if worker is None or worker.gone:
            raise PoolUnavailable(f"HTCondor: condor_drain: cannot find {vm_id}")
        worker.draining = True
        self._world.drain_keys[vm_id] = key
        self._world.step("pool: after drain")

    async def invalidate(self, vm_id: str) -> None:
        self._world.step("pool: before invalidate")
        self._reach()
        self._world.workers.pop(vm_id, None)
        self._world.step("pool: after invalidate")

    async def close(self) -> None:
        return None


class FakeMinter:
    def __init__(self, world: FakeWorld) -> None:
        self._world = world

    def _reach(self) -> None:
        if self._world.minter_down:
            raise MinterUnavailable("minter: no answer")

    async def mint(self, worker: WorkerSettings, lifetime: int) -> str:
        self._world.step("minter: before mint")
        self._reach()
        self._world.minted.append(worker.vm_id)
        return "a.b.c"

    async def refuse(self, vm_id: str, until: float) -> None:
        self._world.step("minter: before refuse")
        self._reach()
        self._world.refused[vm_id] = until
        self._world.step("minter: after refuse")


class KillableDatabase(Database):
    """A database where the scheduler can be killed before each write transaction, and after its commit."""

    def __init__(self, url: str, world: FakeWorld) -> None:
        super().__init__(url, "scheduler")
        self._world = world

    async def run(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        self._world.step("database: before transaction")
        result = await super().run(work)
        self._world.step("database: after commit")
        return result

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        if self._world.dead:
            raise Killed("read")
        async with super().read() as session:
            yield session


def driver_for(world: FakeWorld) -> Callable[[Account], FakeDriver]:
    """Creates drivers: an account belongs to the cloud of its name, or to the project of its credential."""
    return lambda account: FakeDriver(world.clouds[account.auth.get("application_credential_id", account.name)], account)
