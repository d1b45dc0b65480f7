"""The engine when parts of its environment fail: shared quotas, queues, disks, clocks, and a hanging loop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from sqlalchemy import event

from distcloud.common.storage.database import DatabaseError
from distcloud.scheduler.domain.model import Limits, Policy, VmState
from distcloud.scheduler.engine.minter_client import token_lifetime
from distcloud.scheduler.planning import bulkhead
from distcloud.scheduler.store.tables import CloudRow

from ..support.fakes import FakeJob, FakeWorld
from ..support.scripted import add, call, play
from ..support.stage import POLICY, Stage


def test_groups_in_one_project_share_quota(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(100, group=group) for group in ("atlas", "belle") for _ in range(4)])
    east = world.cloud("east", quota=Limits(vms=3))

    async def script(stage: Stage) -> None:
        await add(stage, ("atlas", "east"), ("belle", "east"))
        for _ in range(40):
            await stage.turn()
            assert len(east.servers) <= 3
        assert east.over_quota == 0, "the quota was exceeded"
        groups = {detail.vm.group for detail in (await stage.engine.vms(states=list(VmState))).vms}
        assert groups == {"atlas", "belle"}
        await stage.turns(120)
        assert stage.at_rest() and east.over_quota == 0

    play(tmp_path, world, script)


def test_quota_is_shared_with_unobserved_cloud(tmp_path: Path) -> None:
    """The other group's credential is broken: its project is inferred from its servers, which use the same quota."""
    world = FakeWorld(jobs=[FakeJob(1000, group="belle") for _ in range(2)])
    east = world.cloud("east", quota=Limits(vms=3))

    async def script(stage: Stage) -> None:
        await add(stage, ("atlas", "east"), ("belle", "east"))
        await stage.turns(12)
        assert len(east.servers) == 2
        async with stage.database.begin() as session:
            (await session.get_one(CloudRow, ("belle", "east"))).auth_secrets = stage.box.seal('{"password": "wrong"}')
        await stage.engine.close()
        await stage.begin()
        world.jobs += [FakeJob(1000) for _ in range(3)]
        await stage.turns(12)
        status = {cloud.group: cloud for cloud in stage.engine.status().clouds}
        assert "refuses the credential" in status["belle"].error and status["atlas"].reachable
        assert len(east.servers) == 3 and east.over_quota == 0

    play(tmp_path, world, script)


def test_unreachable_queue_is_reported_and_retires_no_worker(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30, queue="far")])
    world.cloud("east")

    async def script(stage: Stage) -> None:
        await stage.turns(10)
        assert len(world.servers()) == 1
        world.unreachable = {"far": "HTCondor: schedd far: no answer within 20 s"}
        world.jobs.append(FakeJob(60))
        await stage.turns(60)  # both jobs have finished, and the keep-alive has long expired
        assert all(job.done for job in world.jobs), "the job of the other queue got a worker of its own"
        assert len(world.servers()) == 2, "the unreachable queue may need the workers"
        pool = stage.engine.status().pool
        assert pool.reachable and pool.unreachable_queues == world.unreachable
        assert (await call(stage, "GET", "/v1/status"))["pool"]["unreachable_queues"] == world.unreachable
        ready = await call(stage, "GET", "/readyz")
        assert ready["status"] == "degraded" and [part["name"] for part in ready["dependencies"] if not part["ok"]] == ["queue far"]
        world.unreachable = {}
        await stage.turns(30)
        assert stage.at_rest() and stage.engine.status().pool.unreachable_queues == {}

    play(tmp_path, world, script, "east")


def test_full_disk_boots_nothing_without_row(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(600) for _ in range(40)])
    world.cloud("east")

    async def script(stage: Stage) -> None:
        await stage.turn()
        pages = {"most": 0}

        @event.listens_for(stage.database._engine.sync_engine, "begin")
        def full(connection: Any) -> None:
            most = pages["most"] or 1_000_000
            connection.exec_driver_sql(f"PRAGMA max_page_count = {most}")

        async with stage.database.read() as session:
            pages["most"] = (await (await session.connection()).exec_driver_sql("PRAGMA page_count")).scalar_one()
        failures = []
        for _ in range(6):
            try:
                await stage.turn()
            except DatabaseError as error:
                failures.append(str(error))
                await stage.engine.wait_idle()
            assert set(world.clouds["east"].created) <= {vm.id for vm in await stage.vms()}
        assert failures and "no space left" in failures[-1]
        assert len(world.clouds["east"].created) < 20
        pages["most"] = 0
        await stage.turns(30)
        assert len(world.clouds["east"].servers) == 20
        assert set(world.clouds["east"].created) <= {vm.id for vm in await stage.vms()} and not world.doubled

    play(tmp_path, world, script, "east", max_vms=20)


def test_long_pool_outage_retires_no_running_worker(tmp_path: Path) -> None:
    """The machine was suspended, or the central manager was rebuilt: at first the collector is empty for a minute."""
    world = FakeWorld(jobs=[FakeJob(20_000) for _ in range(2)])
    world.cloud("east")

    async def script(stage: Stage) -> None:
        await stage.turns(12)
        before = {entry.server.id for entry in world.servers()}
        world.now += 3 * 3600
        world.forgotten = True
        await stage.turns(10)
        world.forgotten = False
        await stage.turns(10)
        assert {entry.server.id for entry in world.servers()} == before
        assert {vm.state for vm in await stage.vms()} == {VmState.RUNNING}

    play(tmp_path, world, script, "east", max_vms=2)


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_changed_clock_deletes_nothing_and_blocks_nothing(tmp_path: Path, jump: float) -> None:
    world = FakeWorld(jobs=[FakeJob(900)])
    world.cloud("east")

    async def script(stage: Stage) -> None:
        real = stage.engine._monotonic
        shift = 0.0
        stage.engine._monotonic = stage.engine._loop._monotonic = lambda: real() - shift
        await stage.turns(12)
        world.clouds["east"].down = True
        await stage.turns(8)  # the breaker is open
        shift = jump
        world.set_clock(jump)
        world.clouds["east"].down = False
        assert not stage.engine.status().stuck
        await stage.turns(3)
        assert stage.engine.status().clouds[0].reachable, "retried immediately, not at the time of the old clock"
        assert [vm.state for vm in await stage.vms()] == [VmState.RUNNING] and len(world.clouds["east"].created) == 1
        await stage.turns(200)
        assert stage.at_rest() and len(world.clouds["east"].created) == 1, "its worker is deleted in time by the new clock"

    play(tmp_path, world, script, "east")


@pytest.mark.parametrize("state", ["asked", "building", "idle", "retiring", "failed", "going", "silent"])
def test_clock_set_back_extends_no_timeout(tmp_path: Path, state: str) -> None:
    """By a day, in each state in which a worker waits for something."""
    world = FakeWorld(jobs=[FakeJob(60)])
    east = world.cloud("east")

    async def script(stage: Stage) -> None:
        if state == "asked":
            east.lose_create_answers, east.show_after = 1, 40.0
            await stage.turns(2)
        elif state == "building":
            await stage.turns(2)
        elif state == "failed":
            east.fail_builds = 1
            await stage.turns(4)
        else:
            await stage.turns({"idle": 24, "going": 26, "retiring": 12, "silent": 12}[state])
        if state == "retiring":
            await stage.engine.retire((await stage.vms())[0].id, "admin")
            await stage.turn()
        if state == "going":
            east.down = True
            await stage.turns(4)
        if state == "silent":
            for worker in world.workers.values():
                worker.gone = True
            await stage.turn()
        world.set_clock(-86400.0)
        east.down = False
        await stage.turns(240)
        assert stage.at_rest() and not world.doubled
        assert all(vm.requested_at <= world.now for vm in await stage.vms())
        assert len(east.created) <= 2

    play(tmp_path, world, script, "east")


def test_unexpected_error_fails_only_one_cycle(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(60)])
    world.cloud("east")

    async def script(stage: Stage) -> None:
        stage.fast()
        stop = asyncio.Event()
        asked = asyncio.Event()

        def broken(itself: Any, of: Any, matcher: Any) -> Any:
            asked.set()
            raise RuntimeError("unexpected")

        with patch.object(bulkhead.Bulkhead, "plan", broken):
            running = asyncio.create_task(stage.engine.run(stop))
            await asyncio.wait_for(asked.wait(), 60)
            asked.clear()
            await asyncio.wait_for(asked.wait(), 60)
            status = stage.engine.status()
            assert not status.healthy and status.problem == "the last cycle failed: RuntimeError; see the log"
        while not stage.engine.status().healthy:  # noqa: ASYNC110 - the status has no event to wait for
            await asyncio.sleep(0.02)
        stop.set()
        await asyncio.wait_for(running, 60)

    play(tmp_path, world, script, "east")


def test_hanging_loop_is_reported(tmp_path: Path) -> None:
    world = FakeWorld(hangs=True)
    world.cloud("east")

    async def script(stage: Stage) -> None:
        turning = asyncio.create_task(stage.engine.cycle())
        await asyncio.sleep(0.05)
        assert (await call(stage, "GET", "/healthz")) == {"status": "ok"}
        world.now += 61
        stuck = stage.engine.status()
        assert stuck.stuck == "the engine's loop is stuck: no turn for 61 s" and not stuck.healthy
        turning.cancel()
        await asyncio.wait([turning])
        world.hangs = False
        await stage.turn()
        assert stage.engine.status().healthy

    play(tmp_path, world, script, "east")


def test_token_outlives_vm_and_is_revoked_afterwards(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30)])
    world.cloud("east")

    async def script(stage: Stage) -> None:
        await stage.turns(43)
        assert stage.at_rest()
        (vm,) = await stage.vms()
        assert world.minted == [vm.id]
        assert vm.token_expires_at == vm.requested_at + token_lifetime(POLICY)
        assert world.refused == {vm.id: vm.token_expires_at}, "until it expires, and no longer"

    play(tmp_path, world, script, "east")
    assert token_lifetime(Policy(max_vm_age=7200, drain_timeout=3600)) == 7200 + 3600 + 3600
