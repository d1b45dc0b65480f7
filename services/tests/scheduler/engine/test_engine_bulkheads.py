"""What fails unexpectedly for one cloud, VM or part leaves out only that one, and says so; all other clouds go on."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from rich.console import Console
from structlog.testing import capture_logs

from distcloud.common.storage.database import DatabaseUnavailable
from distcloud.scheduler import cli_tables
from distcloud.scheduler.api.schemas import StatusResponse
from distcloud.scheduler.catalog.snapshot import record_projects
from distcloud.scheduler.domain.model import Reason, VmState
from distcloud.scheduler.domain.states import ServerStatus, advance
from distcloud.scheduler.drivers.base import Server
from distcloud.scheduler.engine import engine, monitors
from distcloud.scheduler.engine.faults import Faults
from distcloud.scheduler.matching import matcher
from distcloud.scheduler.store import ledger
from distcloud.scheduler.store.tables import CloudRow, MetadataRow
from distcloud.scheduler.worker import synthetic

from ..support.fakes import FakeJob, FakeWorld
from ..support.scripted import add, call, play
from ..support.stage import Stage

ONLY_IN_ATLAS = "{% if cs_group_name == 'atlas' %}a: {{ cs_user < 1 }}{% endif %}"


def world_of_two() -> FakeWorld:
    world = FakeWorld(jobs=[FakeJob(3000, group="atlas"), FakeJob(3000, group="belle")])
    world.cloud("east")
    world.cloud("west")
    return world


def failing(usual: Callable[..., Any], matches: Callable[..., bool]) -> Callable[..., Any]:
    def fails(*arguments: Any, **named: Any) -> Any:
        if matches(*arguments, **named):
            raise RecursionError("maximum recursion depth exceeded")
        return usual(*arguments, **named)

    return fails


async def exclusions(stage: Stage) -> list[tuple[str, str | None, str]]:
    found = await call(stage, "GET", "/v1/status")
    shown = io.StringIO()
    cli_tables.status(StatusResponse.model_validate(found), Console(file=shown, width=500))
    report = await call(stage, "GET", "/v1/report")
    for each in found["exclusions"]:
        assert each["subject"] in shown.getvalue() and each["subject"] in str(report["problems"])
        assert each["reason"] == "RecursionError; see the log"
    return [(each["group"], each["cloud"], each["subject"]) for each in found["exclusions"]]


def test_attribute_of_dollar_signs_stops_nobody(tmp_path: Path) -> None:
    world = world_of_two()

    async def script(stage: Stage) -> None:
        await add(stage, ("atlas", "east"), ("belle", "west"))
        async with stage.database.begin() as session:
            (await session.get_one(CloudRow, ("atlas", "east"))).attributes = {"site": "$" * 1024}
        await stage.turns(3)
        assert len(world.clouds["west"].servers) == 1 and len(world.clouds["east"].servers) == 1
        assert not stage.engine.status().exclusions

    play(tmp_path, world, script)


def test_cloud_whose_workers_cannot_be_computed_is_excluded_from_planning(tmp_path: Path) -> None:
    world = world_of_two()

    async def script(stage: Stage) -> None:
        await add(stage, ("atlas", "east"), ("belle", "west"))
        fails = failing(synthetic.slot_ad, lambda settings, *_: settings.cloud == "east")
        with patch.object(matcher, "slot_ad", fails):
            await stage.turns(3)
            assert not world.clouds["east"].created and len(world.clouds["west"].servers) == 1
            assert await exclusions(stage) == [("atlas", "east", "planning for the cloud")]
            assert (await call(stage, "GET", "/v1/status", who="belle"))["exclusions"] == []
            explained = await call(stage, "GET", "/v1/explain?job=1.0")
            assert [(each["cloud"], each["reason"]) for each in explained["clouds"]] == [("east", "excluded")]
            assert "RecursionError" in explained["summary"]
        await stage.turns(15)  # it is tried again after a minute
        assert len(world.clouds["east"].servers) == 1 and await exclusions(stage) == []

    play(tmp_path, world, script)


@pytest.mark.parametrize(
    ("where", "name", "matches", "subject"),
    [
        (monitors, "reconcile_listing", lambda key, *_, **__: key == ("atlas", "east"), "reading its servers"),
        (monitors, "planner_cloud", lambda spec, *_: spec.cloud.name == "east", "evaluating its inventory"),
    ],
)
def test_cloud_that_cannot_be_evaluated_excludes_only_itself(
    tmp_path: Path, where: Any, name: str, matches: Callable[..., bool], subject: str
) -> None:
    world = world_of_two()

    async def script(stage: Stage) -> None:
        await add(stage, ("atlas", "east"), ("belle", "west"))
        with patch.object(where, name, failing(getattr(where, name), matches)):
            await stage.turns(3)
            assert len(world.clouds["west"].servers) == 1
            assert await exclusions(stage) == [("atlas", "east", subject)]
        await stage.turns(3)
        assert len(world.clouds["east"].servers) == 1 and await exclusions(stage) == []

    play(tmp_path, world, script)


def test_driver_that_cannot_be_made_excludes_only_its_cloud(tmp_path: Path) -> None:
    world = world_of_two()

    async def script(stage: Stage) -> None:
        await add(stage, ("atlas", "east"), ("belle", "west"))
        stage.engine._monitors._make_driver = failing(stage.engine._monitors._make_driver, lambda account: account.name == "east")
        await stage.turns(3)
        assert len(world.clouds["west"].servers) == 1
        assert await exclusions(stage) == [("atlas", "east", "making its driver")]
        (east,) = (cloud for cloud in stage.engine.status().clouds if cloud.cloud == "east")
        assert not east.reachable and "its driver cannot be made: RecursionError" in east.error

    play(tmp_path, world, script)


def test_cloud_whose_project_cannot_be_recorded_gets_no_worker(tmp_path: Path) -> None:
    """It would not be bound to its project, and a credential of another one would be accepted later."""
    world = world_of_two()

    async def script(stage: Stage) -> None:
        await add(stage, ("atlas", "east"), ("belle", "west"))
        fails = failing(record_projects, lambda _, projects: ("atlas", "east") in projects)
        with patch.object(engine, "record_projects", fails):
            await stage.turns(3)
            assert not world.clouds["east"].created and len(world.clouds["west"].servers) == 1
            assert await exclusions(stage) == [("atlas", "east", "recording its project")]
        await stage.turns(2)
        assert len(world.clouds["east"].servers) == 1

    play(tmp_path, world, script)


def test_server_that_cannot_be_adopted_leaves_the_others(tmp_path: Path) -> None:
    world = world_of_two()

    async def script(stage: Stage) -> None:
        await add(stage, ("atlas", "east"), ("belle", "west"))
        tags = {"distcloud_scheduler": stage.engine._uuid, "distcloud_group": "atlas", "distcloud_cloud": "east"}
        for name in ("evil", "good"):
            world.clouds["east"].foreign.append(Server(f"id-{name}", name, ServerStatus.ACTIVE, tags))
        fails = failing(ledger._insert, lambda _, vm, *__: vm.server_id == "id-evil")
        with patch.object(ledger, "_insert", fails):
            await stage.turns(3)
            assert "id-good" in {vm.server_id for vm in await stage.vms()}
            assert ("atlas", "east", "adopting server id-evil") in await exclusions(stage)
        assert len(world.clouds["west"].servers) == 1

    play(tmp_path, world, script)


def test_vm_that_cannot_be_updated_leaves_the_others(tmp_path: Path) -> None:
    world = world_of_two()

    async def script(stage: Stage) -> None:
        await add(stage, ("atlas", "east"), ("belle", "west"))
        await stage.turns(2)
        with patch.object(ledger, "advance", failing(advance, lambda vm, *_: vm.cloud == "east")):
            await stage.turns(12)
            states = {vm.cloud: vm.state for vm in await stage.vms()}
            assert states["west"] is VmState.RUNNING and states["east"] is not VmState.RUNNING
            (vm,) = (vm for vm in await stage.vms() if vm.cloud == "east")
            assert await exclusions(stage) == [("atlas", "east", f"updating {vm.id}")]
        await stage.turns(3)
        assert {vm.state for vm in await stage.vms()} == {VmState.RUNNING} and await exclusions(stage) == []

    play(tmp_path, world, script)


def test_action_that_cannot_be_started_leaves_the_others(tmp_path: Path) -> None:
    world = world_of_two()

    async def script(stage: Stage) -> None:
        await add(stage, ("atlas", "east"), ("belle", "west"))
        with patch.object(ledger, "_insert", failing(ledger._insert, lambda _, vm, *__: vm.cloud == "east")):
            await stage.turns(3)
            assert not world.clouds["east"].created and len(world.clouds["west"].servers) == 1
            assert await exclusions(stage) == [("atlas", "east", "starting a worker")]
            explained = await call(stage, "GET", "/v1/explain?job=1.0")
            assert "starting a worker on atlas/east failed: RecursionError" in explained["summary"]

    play(tmp_path, world, script)


def test_part_that_fails_at_boot_stops_only_boots_of_its_clouds(tmp_path: Path) -> None:
    world = world_of_two()

    async def script(stage: Stage) -> None:
        await add(stage, ("atlas", "east"), ("belle", "west"))
        await call(stage, "PUT", "/v1/groups/atlas/metadata/late", {"content": ONLY_IN_ATLAS})
        await stage.turns(30)
        assert not world.clouds["east"].created and len(world.clouds["west"].servers) == 1
        assert 2 <= len([vm for vm in await stage.vms() if vm.cloud == "east"]) <= 4, "retried with back-off"
        assert not world.minted[1:], "no token for a worker that cannot be configured"
        error = "metadata late of the group: its template fails for this worker (TypeError)"
        (east,) = (cloud for cloud in stage.engine.status().clouds if cloud.cloud == "east")
        assert error in east.error and east.error.startswith("no boots for another ")
        explained = await call(stage, "GET", "/v1/explain?job=1.0")
        assert explained["clouds"][0]["reason"] == Reason.EXCLUDED.value and error in explained["summary"]
        await call(stage, "PUT", "/v1/groups/atlas/metadata/late", {"content": "a: 1"})
        await stage.turns(3)
        assert len(world.clouds["east"].servers) == 1, "tried at once with the new content"
        (east,) = (cloud for cloud in stage.engine.status().clouds if cloud.cloud == "east")
        assert east.error == ""

    play(tmp_path, world, script)


def test_stored_part_that_new_rules_refuse_can_be_disabled(tmp_path: Path) -> None:
    world = world_of_two()

    async def script(stage: Stage) -> None:
        await add(stage, ("atlas", "east"))
        async with stage.database.begin() as session:
            content = "a: {{ " + "not " * 300 + "cs_user }}"
            session.add(MetadataRow(group_name="atlas", cloud="", name="old", content=content, excluded_clouds=[]))
        await stage.turns(2)
        assert not world.clouds["east"].created
        assert "in one tag" in stage.engine.status().clouds[0].error
        assert (await call(stage, "PUT", "/v1/groups/atlas/metadata/old", {"enabled": False}))["changed"]
        await stage.turns(2)
        assert len(world.clouds["east"].servers) == 1

    play(tmp_path, world, script)


def test_error_is_logged_once() -> None:
    faults = Faults()
    with capture_logs() as logs:
        for _ in range(3):
            faults.begin_cycle()
            with faults.contain("atlas", "east", "reading its servers"):
                raise ValueError("unexpected")
            assert [each.reason for each in faults.current()] == ["ValueError; see the log"]
            faults.end_cycle()
    assert [(entry["event"], entry["error"]) for entry in logs] == [("excluded", "ValueError: unexpected")]
    faults.begin_cycle()
    with pytest.raises(DatabaseUnavailable), faults.contain("atlas", "east", "reading its servers"):
        raise DatabaseUnavailable("no answer")
    faults.end_cycle()
    assert not faults.current()
