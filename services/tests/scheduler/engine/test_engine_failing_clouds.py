"""Clouds that respond but create no servers are paused, and jobs run elsewhere; a cloud that was only unreachable is not paused."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from distcloud.common.storage.database import DatabaseUnavailable
from distcloud.scheduler import cli_tables
from distcloud.scheduler.api.schemas import StatusResponse
from distcloud.scheduler.domain.model import VmState
from distcloud.scheduler.domain.states import ServerStatus
from distcloud.scheduler.drivers.base import CloudError, ErrorKind, ServerRequest
from distcloud.scheduler.engine.unanswered import UnansweredCreates
from distcloud.scheduler.engine.view import CloudStatus
from distcloud.scheduler.worker.configuration import WorkerSettings

from ..support.fakes import FakeCloud, FakeJob, FakeMinter, FakeWorld, Killed
from ..support.scripted import call, play
from ..support.stage import POLICY, Stage

UNANSWERED = CloudError(ErrorKind.UNREACHABLE, "east", "POST compute servers: answered 500", no_effect=False)


def status(stage: Stage, name: str = "east") -> CloudStatus:
    return next(cloud for cloud in stage.engine.status().clouds if cloud.cloud == name)


@pytest.mark.parametrize("no_effect", [False, True])
def test_cloud_with_failing_creates_is_paused(tmp_path: Path, no_effect: bool) -> None:
    """`no_effect`: as after 429 (too many requests). Otherwise as after 5xx or a timeout: each row waits for proof of absence."""
    world = FakeWorld(jobs=[FakeJob(30)])
    world.cloud("east", refuse_creates=CloudError(ErrorKind.UNREACHABLE, "east", "POST compute servers: answered", no_effect=no_effect))
    west = world.cloud("west")

    async def script(stage: Stage) -> None:
        for _ in range(60):
            await stage.turn()
            if west.created:
                break
        assert len(west.created) == 1
        east = status(stage)
        assert east.reachable and east.boots_paused_until is not None
        assert "the last 3 servers failed" in east.error and "POST compute servers: answered" in east.error
        shown = io.StringIO()
        cli_tables.status(StatusResponse.model_validate(await call(stage, "GET", "/v1/status")), Console(file=shown))
        rows = [line.split("\t") for line in shown.getvalue().splitlines() if line.startswith("atlas")]
        assert [(row[1], row[3]) for row in rows] == [("east", "paused"), ("west", "ok")] and rows[0][-1] == east.error
        assert status(stage, "west").error == "" and status(stage, "west").boots_paused_until is None
        await stage.turns(60)
        assert world.jobs[0].done and stage.at_rest()
        assert [vm.cloud for vm in await stage.vms()].count("east") == 3, "each failure is one server"

    play(tmp_path, world, script, "east", "west")


def test_successful_worker_ends_the_pause(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30)])
    east = world.cloud("east", refuse_creates=UNANSWERED)

    async def script(stage: Stage) -> None:
        await stage.turns(60)
        assert status(stage).boots_paused_until is not None
        east.refuse_creates = None
        await stage.turns(200)
        assert world.jobs[0].done and stage.at_rest()
        assert status(stage).boots_paused_until is None and status(stage).error == ""

    play(tmp_path, world, script, "east")


def test_servers_created_despite_lost_responses_are_no_failures(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30) for _ in range(5)])
    world.cloud("east", lose_create_answers=5)

    async def script(stage: Stage) -> None:
        for _ in range(60):
            await stage.turn()
            assert status(stage).boots_paused_until is None
        assert stage.at_rest() and len(world.clouds["east"].created) == 5

    play(tmp_path, world, script, "east")


@pytest.mark.parametrize("back", ["later", "before the next refresh"])
def test_outage_of_whole_cloud_causes_no_pause(tmp_path: Path, back: str) -> None:
    """Its listing fails too: the breaker handles that, and boots continue as soon as it responds again."""
    world = FakeWorld(jobs=[FakeJob(30) for _ in range(5)])
    east = world.cloud("east")
    over = asyncio.Event()

    async def script(stage: Stage) -> None:
        usual = east.create
        asked = []

        async def times_out(request: ServerRequest) -> str:
            east.down = True
            asked.append(request.vm_id)
            if len(asked) < 5:
                await over.wait()
            elif back == "before the next refresh":
                (monitor,) = stage.engine._monitors
                await monitor.refresh()  # the monitor continues while the creates wait for responses
                east.down = False
            over.set()
            raise UNANSWERED

        east.create = times_out  # type: ignore[method-assign]
        await stage.turns(2)  # the first turn only starts the monitor
        assert len(await stage.vms()) == 5 and not east.created
        await stage.turns(5)
        east.down, east.create = False, usual  # type: ignore[method-assign]
        for _ in range(100):
            await stage.turn()
            assert status(stage).boots_paused_until is None
        assert stage.at_rest() and len(east.created) == 5

    play(tmp_path, world, script, "east")


def test_crash_before_create_call_causes_no_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = FakeWorld(jobs=[FakeJob(30) for _ in range(5)])
    world.cloud("east")
    mint = FakeMinter.mint
    asked: list[str] = []
    all_rows_written = asyncio.Event()

    async def dies_at_the_fifth(minter: FakeMinter, worker: WorkerSettings, lifetime: int) -> str:
        asked.append(worker.vm_id)
        if len(asked) == 5:
            world.dead = True
            all_rows_written.set()
        await all_rows_written.wait()
        if world.dead:
            raise Killed("mint")
        return await mint(minter, worker, lifetime)

    monkeypatch.setattr(FakeMinter, "mint", dies_at_the_fifth)

    async def script(stage: Stage) -> None:
        await stage.turns(2)
        assert stage.deaths == 1 and [vm.state for vm in await stage.vms()] == [VmState.REQUESTED] * 5
        for _ in range(100):
            await stage.turn()
            assert status(stage).boots_paused_until is None
        assert stage.at_rest()
        assert sum("the request was lost" in vm.reason for vm in await stage.vms()) == 5

    play(tmp_path, world, script, "east")


def test_listing_decides_only_creates_failed_before_it() -> None:
    """The listing may have been answered before the cloud became unreachable."""
    creates = UnansweredCreates()
    creates.add("early", "500", no_effect=True, failed_listings=0)
    before = creates.pending()
    creates.add("late", "504", no_effect=True, failed_listings=0)
    assert creates.listing_succeeded(before) == ["500"] and creates.pending() == ("late",)
    creates.listing_failed()
    assert creates.listing_succeeded(creates.pending()) == [] and creates.pending() == ()


def test_suspected_create_is_returned_once() -> None:
    creates = UnansweredCreates()
    for vm_id in ("lost", "found"):
        creates.add(vm_id, "504", no_effect=False, failed_listings=0)
    assert creates.lost("lost") == "", "not decided yet"
    assert creates.listing_succeeded(creates.pending()) == []
    creates.forget({"lost"})
    assert [creates.lost(vm_id) for vm_id in ("lost", "lost", "found")] == ["504", "", ""]


class HangingCloud(FakeCloud):
    """Never finishes a build."""

    def tick(self) -> None:
        for entry in self.servers.values():
            entry.created_at = self.world.now
        super().tick()


def test_cloud_with_hanging_builds_is_paused(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30)])
    east = world.clouds["east"] = HangingCloud(world, "east")

    async def script(stage: Stage) -> None:
        stage.policy = replace(POLICY, build_timeout=60)
        await stage.engine.close()
        await stage.begin()
        await stage.turns(100)
        assert len(east.created) == 3 and not east.servers
        assert status(stage).reachable and status(stage).boots_paused_until is not None
        assert "the last 3 servers failed" in status(stage).error and "build_failed" in status(stage).error

    play(tmp_path, world, script, "east", max_vms=1)


class LosingCloud(FakeCloud):
    """Accepts every server, but loses it before it becomes a worker."""

    lasts = 5.0

    def tick(self) -> None:
        super().tick()
        self.servers = {key: entry for key, entry in self.servers.items() if self.world.now - entry.created_at < self.lasts}


@pytest.mark.parametrize("lasts", [5.0, 15.0], ids=["while it builds", "before it joins"])
def test_lost_servers_pause_cloud_and_count_once(tmp_path: Path, lasts: float) -> None:
    world = FakeWorld(jobs=[FakeJob(30)])
    east = world.clouds["east"] = LosingCloud(world, "east")
    east.lasts = lasts
    west = world.cloud("west")

    async def script(stage: Stage) -> None:
        while not (await stage.vms())[:1]:
            await stage.turn()
        (first,) = await stage.vms()
        assert first.cloud == "east"
        world.minter_down = True  # it cannot be deregistered, so that every listing reports it missing
        await stage.turns(30)
        assert [monitor.failures for monitor in stage.engine._monitors] == [0, 0]
        world.minter_down = False
        for _ in range(200):
            await stage.turn()
            if west.created:
                break
        assert len(east.created) == 3 and status(stage).boots_paused_until is not None
        assert "the last 3 servers failed" in status(stage).error and "vanished" in status(stage).error
        await stage.turns(60)
        assert world.jobs[0].done and stage.at_rest()

    play(tmp_path, world, script, "east", "west", max_vms=1)


def test_manually_retired_server_does_not_count_as_failure(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30)])
    east = world.clouds["east"] = LosingCloud(world, "east")

    async def script(stage: Stage) -> None:
        await stage.turns(3)
        (vm,) = await stage.vms()
        await stage.engine.retire(vm.id, "admin")
        world.jobs.clear()
        await stage.turns(30)
        assert stage.at_rest() and not east.servers and [monitor.failures for monitor in stage.engine._monitors] == [0]

    play(tmp_path, world, script, "east", max_vms=1)


@pytest.mark.parametrize("fails", ["the cloud's delete", "the ledger"])
def test_hanging_build_counts_once_despite_repeated_deletes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    world = FakeWorld(jobs=[FakeJob(30)])
    east = world.clouds["east"] = HangingCloud(world, "east")

    async def script(stage: Stage) -> None:
        stage.policy = replace(POLICY, build_timeout=60, delete_repeat=10)
        await stage.engine.close()
        await stage.begin()
        await stage.turns(3)
        (monitor,) = stage.engine._monitors
        with monkeypatch.context() as patched:

            async def refuses(*_: object, **__: object) -> None:
                raise DatabaseUnavailable("away") if fails == "the ledger" else UNANSWERED

            if fails == "the ledger":
                patched.setattr(stage.engine._ledger, "apply_event", refuses)
            else:
                patched.setattr(east, "delete", refuses)
            await stage.turns(30)
            assert {entry.server.status for entry in east.servers.values()} == {ServerStatus.BUILD} and len(east.servers) == 1
            assert monitor.failures == (0 if fails == "the ledger" else 1)
        world.jobs.clear()
        await stage.turns(30)
        assert not east.servers and monitor.failures == 1

    play(tmp_path, world, script, "east", max_vms=1)


def test_failed_build_counts_once(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30)])
    world.cloud("east", fail_builds=1)

    async def script(stage: Stage) -> None:
        most = 0
        for _ in range(60):
            await stage.turn()
            most = max(most, *(monitor.failures for monitor in stage.engine._monitors))
        assert most == 1 and stage.at_rest()

    play(tmp_path, world, script, "east", max_vms=1)
