"""Clouds that answer and yet make no servers: they are paused, and the jobs go elsewhere; a cloud that was only away is not."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from distcloud.common.database import DatabaseUnavailable
from distcloud.scheduler import cli_tables
from distcloud.scheduler.domain.model import VmState
from distcloud.scheduler.domain.states import ServerStatus
from distcloud.scheduler.drivers.base import CloudError, ErrorKind, ServerRequest
from distcloud.scheduler.engine.unanswered import UnansweredCreates
from distcloud.scheduler.engine.view import CloudStatus

from .support.fakes import FakeCloud, FakeJob, FakeMinter, FakeWorld, Killed
from .support.scripted import call, play
from .support.stage import POLICY, Stage

UNANSWERED = CloudError(ErrorKind.UNREACHABLE, "east", "POST compute servers: answered 500", undone=False)


def status(stage: Stage, name: str = "east") -> CloudStatus:
    return next(cloud for cloud in stage.engine.status().clouds if cloud.cloud == name)


@pytest.mark.parametrize("undone", [False, True])
def test_a_cloud_that_fails_at_creates_alone_is_paused_and_the_job_runs_elsewhere(tmp_path: Path, undone: bool) -> None:
    """`undone`: as after 429 (too many requests). Else as after 5xx or a time-out, when each row waits for its proof of absence."""
    world = FakeWorld(jobs=[FakeJob(30)])
    world.cloud("east", refuse_creates=CloudError(ErrorKind.UNREACHABLE, "east", "POST compute servers: answered", undone=undone))
    west = world.cloud("west")

    async def script(stage: Stage) -> None:
        for _ in range(60):
            await stage.turn()
            if west.created:
                break
        assert len(west.created) == 1
        east = status(stage)
        assert east.reachable and east.boots_paused_until is not None
        assert "the last 3 failed" in east.error and "POST compute servers: answered" in east.error
        shown = io.StringIO()
        cli_tables.status(await call(stage, "GET", "/v1/status"), Console(file=shown))
        rows = [line.split("\t") for line in shown.getvalue().splitlines() if line.startswith("atlas")]
        assert [(row[1], row[3]) for row in rows] == [("east", "paused"), ("west", "ok")] and rows[0][-1] == east.error
        assert status(stage, "west").error == "" and status(stage, "west").boots_paused_until is None
        await stage.turns(60)
        assert world.jobs[0].done and stage.at_rest()
        assert [vm.cloud for vm in await stage.vms()].count("east") == 3, "one failure is one server"

    play(tmp_path, world, script, "east", "west")


def test_a_paused_cloud_is_tried_again_and_a_worker_there_ends_it(tmp_path: Path) -> None:
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


def test_servers_that_come_in_spite_of_lost_answers_are_no_failures(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30) for _ in range(5)])
    world.cloud("east", lose_create_answers=5)

    async def script(stage: Stage) -> None:
        for _ in range(60):
            await stage.turn()
            assert status(stage).boots_paused_until is None
        assert stage.at_rest() and len(world.clouds["east"].created) == 5

    play(tmp_path, world, script, "east")


@pytest.mark.parametrize("back", ["later", "before the next look"])
def test_an_outage_of_a_whole_cloud_pauses_nothing(tmp_path: Path, back: str) -> None:
    """Its listing fails as well: the breaker does what is to be done, and boots go on as soon as it answers again."""
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
            elif back == "before the next look":
                (watch,) = stage.engine._watches
                await watch.look()  # the watch goes on while the creates wait for their answers
                east.down = False
            over.set()
            raise UNANSWERED

        east.create = times_out  # type: ignore[method-assign]
        await stage.turns(2)  # the first one only begins to watch
        assert len(await stage.vms()) == 5 and not east.created
        await stage.turns(5)
        east.down, east.create = False, usual  # type: ignore[method-assign]
        for _ in range(100):
            await stage.turn()
            assert status(stage).boots_paused_until is None
        assert stage.at_rest() and len(east.created) == 5

    play(tmp_path, world, script, "east")


def test_requests_lost_by_a_death_before_the_cloud_was_asked_pause_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = FakeWorld(jobs=[FakeJob(30) for _ in range(5)])
    world.cloud("east")
    mint = FakeMinter.mint
    asked: list[str] = []
    all_rows_written = asyncio.Event()

    async def dies_at_the_fifth(minter: FakeMinter, vm_id: str, lifetime: int) -> str:
        asked.append(vm_id)
        if len(asked) == 5:
            world.dead = True
            all_rows_written.set()
        await all_rows_written.wait()
        if world.dead:
            raise Killed("mint")
        return await mint(minter, vm_id, lifetime)

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


def test_a_look_judges_only_creates_that_had_failed_before_it_began() -> None:
    """It may have been answered before the cloud went away."""
    creates = UnansweredCreates()
    creates.add("early", "500", undone=True, failed_looks=0)
    before = creates.pending()
    creates.add("late", "504", undone=True, failed_looks=0)
    assert creates.look_succeeded(before) == ["500"] and creates.pending() == ("late",)
    creates.look_failed()
    assert creates.look_succeeded(creates.pending()) == [] and creates.pending() == ()


def test_a_suspected_create_is_told_once_and_forgotten_with_its_row() -> None:
    creates = UnansweredCreates()
    for vm_id in ("lost", "found"):
        creates.add(vm_id, "504", undone=False, failed_looks=0)
    assert creates.lost("lost") == "", "not judged yet"
    assert creates.look_succeeded(creates.pending()) == []
    creates.forget({"lost"})
    assert [creates.lost(vm_id) for vm_id in ("lost", "lost", "found")] == ["504", "", ""]


class HangingCloud(FakeCloud):
    """Never ends a build."""

    def tick(self) -> None:
        for entry in self.servers.values():
            entry.created_at = self.world.now
        super().tick()


def test_a_cloud_that_hangs_in_every_build_is_paused(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30)])
    east = world.clouds["east"] = HangingCloud(world, "east")

    async def script(stage: Stage) -> None:
        stage.policy = replace(POLICY, build_timeout=60)
        await stage.engine.close()
        await stage.begin()
        await stage.turns(100)
        assert len(east.created) == 3 and not east.servers
        assert status(stage).reachable and status(stage).boots_paused_until is not None
        assert "the last 3 failed" in status(stage).error and "build_failed" in status(stage).error

    play(tmp_path, world, script, "east", max_vms=1)


class LosingCloud(FakeCloud):
    """Accepts every server, and has forgotten it before it becomes a worker."""

    lasts = 5.0

    def tick(self) -> None:
        super().tick()
        self.servers = {key: entry for key, entry in self.servers.items() if self.world.now - entry.created_at < self.lasts}


@pytest.mark.parametrize("lasts", [5.0, 15.0], ids=["while it builds", "before it joins"])
def test_a_cloud_that_loses_what_it_accepted_is_paused_and_each_server_counts_once(tmp_path: Path, lasts: float) -> None:
    world = FakeWorld(jobs=[FakeJob(30)])
    east = world.clouds["east"] = LosingCloud(world, "east")
    east.lasts = lasts
    west = world.cloud("west")

    async def script(stage: Stage) -> None:
        while not (await stage.vms())[:1]:
            await stage.turn()
        (first,) = await stage.vms()
        assert first.cloud == "east"
        world.minter_down = True  # its farewell cannot be said, so that it is missed again and again
        await stage.turns(30)
        assert [watch.failures for watch in stage.engine._watches] == [0, 0]
        world.minter_down = False
        for _ in range(200):
            await stage.turn()
            if west.created:
                break
        assert len(east.created) == 3 and status(stage).boots_paused_until is not None
        assert "the last 3 failed" in status(stage).error and "vanished" in status(stage).error
        await stage.turns(60)
        assert world.jobs[0].done and stage.at_rest()

    play(tmp_path, world, script, "east", "west", max_vms=1)


def test_a_server_that_a_person_took_back_says_nothing_of_its_cloud(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30)])
    east = world.clouds["east"] = LosingCloud(world, "east")

    async def script(stage: Stage) -> None:
        await stage.turns(3)
        (vm,) = await stage.vms()
        await stage.engine.retire(vm.id, "admin")
        world.jobs.clear()
        await stage.turns(30)
        assert stage.at_rest() and not east.servers and [watch.failures for watch in stage.engine._watches] == [0]

    play(tmp_path, world, script, "east", max_vms=1)


@pytest.mark.parametrize("fails", ["the cloud's delete", "the ledger"])
def test_a_hanging_build_counts_once_however_often_its_delete_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    world = FakeWorld(jobs=[FakeJob(30)])
    east = world.clouds["east"] = HangingCloud(world, "east")

    async def script(stage: Stage) -> None:
        stage.policy = replace(POLICY, build_timeout=60, delete_repeat=10)
        await stage.engine.close()
        await stage.begin()
        await stage.turns(3)
        (watch,) = stage.engine._watches
        with monkeypatch.context() as patched:

            async def refuses(*_: object, **__: object) -> None:
                raise DatabaseUnavailable("away") if fails == "the ledger" else UNANSWERED

            if fails == "the ledger":
                patched.setattr(stage.engine._ledger, "order", refuses)
            else:
                patched.setattr(east, "delete", refuses)
            await stage.turns(30)
            assert {entry.server.status for entry in east.servers.values()} == {ServerStatus.BUILD} and len(east.servers) == 1
            assert watch.failures == (0 if fails == "the ledger" else 1)
        world.jobs.clear()
        await stage.turns(30)
        assert not east.servers and watch.failures == 1

    play(tmp_path, world, script, "east", max_vms=1)


def test_a_failed_build_counts_when_it_fails_and_not_again_when_it_is_deleted(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(30)])
    world.cloud("east", fail_builds=1)

    async def script(stage: Stage) -> None:
        most = 0
        for _ in range(60):
            await stage.turn()
            most = max(most, *(watch.failures for watch in stage.engine._watches))
        assert most == 1 and stage.at_rest()

    play(tmp_path, world, script, "east", max_vms=1)
