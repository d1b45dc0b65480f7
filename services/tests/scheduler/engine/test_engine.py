"""The engine from a waiting job to a deleted VM, and its handling of failures. Fakes around a real database."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete

from distcloud.common.storage.database import Database
from distcloud.scheduler.domain.ids import new_vm_id
from distcloud.scheduler.domain.model import Limits, Reason, Resources, VmState
from distcloud.scheduler.domain.states import ServerStatus
from distcloud.scheduler.drivers.base import META_CLOUD, META_GROUP, META_SCHEDULER, META_VM, CloudError, ErrorKind, Server
from distcloud.scheduler.store.tables import CloudRow, GroupRow

from ..support.fakes import FLAVOR, FakeJob, FakeServer, FakeWorld
from ..support.stage import Stage, migrated

Play = Callable[[Stage], Awaitable[None]]


def play(
    folder: Path,
    world: FakeWorld,
    script: Play,
    *,
    clouds: Sequence[str] = ("east",),
    max_vms: int = 1,
    enabled: bool = True,
    url: str = "",
) -> None:
    for name in clouds:
        if name not in world.clouds:
            world.cloud(name)

    async def main() -> None:
        stage = Stage(url or await migrated(folder, clouds, max_vms=max_vms, enabled=enabled), world)
        await stage.begin()
        await script(stage)
        await stage.end()

    asyncio.run(main())


def server_of_ours(
    stage: Stage, vm_id: str, *, server_id: str = "srv", cloud: str = "east", status: ServerStatus = ServerStatus.ACTIVE
) -> FakeServer:
    metadata = {META_SCHEDULER: stage.engine.status().scheduler_uuid, META_VM: vm_id, META_GROUP: "atlas", META_CLOUD: cloud}
    return FakeServer(
        Server(server_id, vm_id, status, metadata, FLAVOR.resources, "small", "i-1"), stage.world.now, FLAVOR.resources, joins=False
    )


def test_waiting_job_gets_worker_that_is_retired_afterwards(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob()])

    async def script(stage: Stage) -> None:
        await stage.turns(3)
        assert len(world.servers()) == 1
        await stage.turns(40)
        assert stage.at_rest() and not world.workers
        (vm,) = await stage.vms()
        detail = await stage.engine.vm(vm.id)
        assert detail is not None and detail.gone_at is not None and detail.region == "east"
        states = [event.to_state.value for event in detail.events]
        assert states == ["requested", "starting", "unregistered", "running", "idle", "retiring", "deleting", "gone"]
        assert all(event.reason for event in detail.events)
        assert vm.token_expires_at is not None and world.refused[vm.id] == pytest.approx(vm.token_expires_at)
        assert len(world.drain_keys[vm.id]) == 64

    play(tmp_path, world, script)


def test_waiting_job_gets_worker_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    world = FakeWorld(jobs=[FakeJob()])

    async def script(stage: Stage) -> None:
        await stage.turns(43)
        assert stage.at_rest()

    async def prepare() -> None:
        database = Database(postgres_url, "scheduler")
        await database.migrate("distcloud.scheduler")
        async with database.begin() as session:
            session.add(GroupRow(name="atlas", keep_alive=20, default_image="worker", aliases={}))
            await session.flush()
            session.add(CloudRow(group_name="atlas", name="east", region="east", enabled=True, max_vms=1, auth={}))
        await database.close()

    asyncio.run(prepare())
    play(tmp_path, world, script, url=postgres_url)


def test_disabled_cloud_boots_only_after_enabling(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob()])

    async def script(stage: Stage) -> None:
        await stage.turns(5)
        assert not world.servers() and not world.minted
        (cloud,) = stage.engine.status().clouds
        assert not cloud.enabled
        async with stage.database.begin() as session:
            (await session.get_one(CloudRow, ("atlas", "east"))).enabled = True
        await stage.turns(2)
        assert len(world.servers()) == 1

    play(tmp_path, world, script, enabled=False)


def test_worker_gets_keep_alive_of_its_group(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob()])
    month = 30 * 86400

    async def script(stage: Stage) -> None:
        async with stage.database.begin() as session:
            (await session.get_one(GroupRow, "atlas")).keep_alive = month
        await stage.turns(3)
        (user_data,) = world.clouds["east"].user_data
        assert f"STARTD_NOCLAIM_SHUTDOWN = {2 * month}" in gzip.decompress(user_data).decode()

    play(tmp_path, world, script)


def test_dead_cloud_delays_no_other_and_keeps_vms(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(400) for _ in range(4)])

    async def script(stage: Stage) -> None:
        await stage.turns(12)
        assert {name: len(cloud.servers) for name, cloud in world.clouds.items()} == {"east": 2, "west": 2}
        world.clouds["west"].down = True
        world.jobs += [FakeJob(30)]
        await stage.turns(30)
        status = {cloud.cloud: cloud for cloud in stage.engine.status().clouds}
        assert not status["west"].reachable and "is down" in status["west"].error and status["west"].breaker != "closed"
        assert status["east"].reachable
        assert sum(status["west"].vms.values()) == 2, "its VMs are kept"
        assert stage.engine.status().healthy
        world.clouds["west"].down = False
        await stage.turns(120)
        assert stage.at_rest()
        assert len(world.clouds["west"].created) == 2

    play(tmp_path, world, script, clouds=("east", "west"), max_vms=2)


def test_unreachable_pool_stops_boots_and_retirements(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30)])

    async def script(stage: Stage) -> None:
        await stage.turns(12)
        assert len(world.servers()) == 1
        world.pool_down = True
        world.jobs.append(FakeJob(30))
        await stage.turns(60)  # far beyond keep-alive
        assert len(world.servers()) == 1 and len(world.clouds["east"].created) == 1
        pool = stage.engine.status().pool
        assert not pool.reachable and "no answer" in pool.error
        world.pool_down = False
        await stage.turns(60)
        assert stage.at_rest()

    play(tmp_path, world, script)


def test_unreachable_minter_stops_boots(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30)], minter_down=True)

    async def script(stage: Stage) -> None:
        await stage.turns(10)
        assert not world.clouds["east"].created
        assert len(await stage.vms()) < 10, "the breaker limits the number of rows"
        record = stage.engine.last_plan()
        assert record is not None and any("minter" in why for _, why in record.failures)
        assert {vm.reason for vm in await stage.vms()} == {"the cloud was not called: minter: no answer"}
        world.minter_down = False
        await stage.turns(80)
        assert stage.at_rest() and len(world.clouds["east"].created) == 1

    play(tmp_path, world, script)


def test_row_is_closed_only_after_deregistration(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30)])

    async def script(stage: Stage) -> None:
        while not world.jobs[0].done:
            await stage.turn()
        world.minter_down = True
        await stage.turns(40)
        (vm,) = await stage.vms()
        assert not world.servers() and vm.state is VmState.DELETING, "the server is gone, its identity is not revoked yet"
        world.minter_down = False
        await stage.turns(15)  # a failed task is retried after at most about a minute
        assert stage.at_rest() and vm.id in world.refused

    play(tmp_path, world, script)


def test_orphan_is_adopted_and_deleted(tmp_path: Path) -> None:
    world = FakeWorld()

    async def script(stage: Stage) -> None:
        orphan = new_vm_id()
        world.clouds["east"].servers["srv"] = server_of_ours(stage, orphan)
        await stage.turns(30)
        assert not world.servers()
        (vm,) = await stage.vms()
        assert vm.id == orphan and vm.state is VmState.GONE and orphan in world.refused
        detail = await stage.engine.vm(orphan)
        assert detail is not None and detail.events[0].reason.startswith(Reason.ORPHAN.value)

    play(tmp_path, world, script)


def test_orphan_finishes_its_jobs(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(60)])

    async def script(stage: Stage) -> None:
        orphan = new_vm_id()
        entry = server_of_ours(stage, orphan)
        entry.joins, entry.created_at = True, world.now - 100
        world.clouds["east"].servers["srv"] = entry
        await stage.turns(5)
        (vm,) = await stage.vms()
        assert vm.state is VmState.RETIRING and world.servers()
        await stage.turns(90)
        assert all(job.done for job in world.jobs) and not world.servers()

    play(tmp_path, world, script)


def test_orphan_listed_by_two_clouds_is_adopted_once(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(60)])
    world.cloud("west", servers=world.cloud("east").servers)  # the same project

    async def script(stage: Stage) -> None:
        orphan = new_vm_id()
        entry = server_of_ours(stage, orphan, cloud="deleted-long-ago")
        entry.joins, entry.created_at = True, world.now - 100
        world.clouds["east"].servers["srv"] = entry
        await stage.turns(8)
        assert [(vm.id, vm.server_id, vm.state) for vm in await stage.vms()] == [(orphan, "srv", VmState.RETIRING)]
        assert world.jobs[0].machine == orphan, "its job continues"
        await stage.turns(90)
        assert stage.at_rest() and not world.clouds["east"].created and not world.clouds["west"].created

    play(tmp_path, world, script, clouds=("east", "west"))


def test_server_reappearing_after_cloud_deletion_is_deleted(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30)])
    east = world.cloud("east")
    world.cloud("west", servers=east.servers)  # the same project

    async def script(stage: Stage) -> None:
        while not east.servers:
            await stage.turn()
        (back,) = east.servers.values()
        await stage.turns(40)
        (first,) = await stage.vms()
        assert first.state is VmState.GONE and stage.at_rest()
        async with stage.database.begin() as session:
            await session.execute(delete(CloudRow).where(CloudRow.name == first.cloud))
        east.servers[back.server.id] = back
        await stage.turns(20)
        assert stage.at_rest()
        (again,) = [vm for vm in await stage.vms() if vm.id != first.id]
        assert (again.state, again.server_id) == (VmState.GONE, back.server.id) and again.cloud != first.cloud

    play(tmp_path, world, script, clouds=("east", "west"))


def test_server_with_duplicate_id_tag_is_deleted(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(300)])

    async def script(stage: Stage) -> None:
        await stage.turns(12)
        (vm,) = await stage.vms()
        world.clouds["east"].servers["copy"] = server_of_ours(stage, vm.id, server_id="copy")
        await stage.turns(25)
        assert [entry.server.id for entry in world.servers()] == [vm.server_id]
        states = {found.id: found.state for found in await stage.vms()}
        assert states.pop(vm.id) is VmState.RUNNING and [*states.values()] == [VmState.GONE]

    play(tmp_path, world, script)


def test_foreign_servers_are_counted_and_never_touched(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30), FakeJob(30)])
    foreign_server = Server(
        "theirs",
        "vm-aaaaaaaaaaaaaaaa",
        ServerStatus.ACTIVE,
        {META_SCHEDULER: "another", META_VM: "vm-aaaaaaaaaaaaaaaa"},
        Resources(4, 8192, 20),
    )
    world.cloud("east", foreign=[foreign_server], quota=Limits(2, 100, 100000))

    async def script(stage: Stage) -> None:
        await stage.turns(4)
        assert len(world.clouds["east"].created) == 1, "the foreign server uses half of the quota"
        (cloud,) = stage.engine.status().clouds
        assert (cloud.foreign_vms, cloud.quota_vms) == (1, 2)
        await stage.turns(60)
        assert world.clouds["east"].foreign == [foreign_server]
        assert all(vm.id != foreign_server.name for vm in await stage.vms())

    play(tmp_path, world, script, max_vms=10)


def test_incomplete_listing_proves_no_absence(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30)])

    async def script(stage: Stage) -> None:
        await stage.turns(3)
        (entry,) = world.servers()
        entry.hidden_until = world.now + 300
        world.clouds["east"].complete = False
        await stage.turns(50)
        assert len(world.clouds["east"].created) == 1
        world.clouds["east"].complete = True
        await stage.turns(40)
        assert stage.at_rest()

    play(tmp_path, world, script)


def test_quota_error_pauses_boots_on_cloud(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30)])
    refusal = CloudError(ErrorKind.QUOTA, "east", "Quota exceeded", no_effect=True)
    world.cloud("east", refuse_creates=refusal)

    async def script(stage: Stage) -> None:
        await stage.turns(20)
        rows = await stage.vms()
        assert len(rows) == 3 and {vm.state for vm in rows} == {VmState.GONE}
        assert "Quota exceeded" in rows[0].reason
        (cloud,) = stage.engine.status().clouds
        assert cloud.boots_paused_until is not None

    play(tmp_path, world, script)


def test_workers_that_never_join_pause_boots(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30)])
    world.cloud("east", workers_join=False)

    async def script(stage: Stage) -> None:
        stage.policy = replace(stage.policy, registration_timeout=60)
        await stage.engine.close()
        await stage.begin()
        await stage.turns(120)
        assert len(world.clouds["east"].created) == 3 and not world.servers()
        (cloud,) = stage.engine.status().clouds
        assert cloud.boots_paused_until is not None

    play(tmp_path, world, script)


def test_manual_retire_and_unknown_vm(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(100)])

    async def script(stage: Stage) -> None:
        await stage.turns(12)
        (vm,) = await stage.vms()
        answer = await stage.engine.retire(vm.id, "anna")
        assert (answer.changed, answer.before, answer.after) == (True, VmState.RUNNING, VmState.RETIRING)
        assert not (await stage.engine.retire(vm.id, "anna")).changed
        await stage.turns(40)
        assert stage.at_rest() and len(world.clouds["east"].created) == 1, "its job finished"
        with pytest.raises(KeyError):
            await stage.engine.retire("vm-zzzzzzzzzzzzzzzz", "anna")

    play(tmp_path, world, script)


def test_second_engine_waits_for_lock_and_takes_over(tmp_path: Path) -> None:
    """Two engines in real time: the second waits, and takes over the VMs when the first stops."""
    world = FakeWorld(jobs=[FakeJob(30)])
    world.cloud("east")

    async def main() -> None:
        url = await migrated(tmp_path)
        first, second = Stage(url, world), Stage(url, world)
        await first.begin()
        await second.begin()
        stop_first, stop_second = asyncio.Event(), asyncio.Event()
        for stage in (first, second):
            stage.fast()
        running = asyncio.create_task(first.engine.run(stop_first))
        await until(lambda: len(world.servers()) == 1)
        waiting = asyncio.create_task(second.engine.run(stop_second))
        await until(lambda: "another engine" in second.engine.status().problem)
        assert not second.engine.status().healthy and first.engine.status().healthy
        stop_first.set()
        await running

        def time_passes() -> bool:
            world.tick(1.0)
            return second.at_rest()

        await until(time_passes)
        assert len(world.clouds["east"].created) == 1
        stop_second.set()
        await waiting
        for stage in (first, second):
            await stage.database.close()

    asyncio.run(main())


async def until(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the fakes have no events to wait for
            await asyncio.sleep(0.05)
