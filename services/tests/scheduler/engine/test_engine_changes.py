"""The engine while the catalog changes: credentials that are refused, rotated or expired, clouds that are disabled."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from unittest.mock import patch

from distcloud.scheduler.domain.model import VmState
from distcloud.scheduler.planning import bulkhead
from distcloud.scheduler.planning.planner import plan_from

from ..support.fakes import FakeJob, FakeWorld
from ..support.scripted import call, play
from ..support.stage import Stage

PASSWORD = {"auth_url": "https://k/v3", "username": "u", "project_name": "p", "password": "right"}


def test_refused_credential_is_reported_and_replaced_without_restart(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(400) for _ in range(4)])
    for name in ("east", "west"):
        world.cloud(name)

    async def script(stage: Stage) -> None:
        for name in ("east", "west"):
            await call(stage, "PUT", f"/v1/groups/atlas/clouds/{name}", {"region": name, "auth": PASSWORD, "enabled": True, "max_vms": 2})
        await stage.turns(12)
        assert {name: len(cloud.servers) for name, cloud in world.clouds.items()} == {"east": 2, "west": 2}
        await call(stage, "PUT", "/v1/groups/atlas/clouds/east", {"auth": {"password": "wrong"}, "max_vms": 3})
        await call(stage, "PUT", "/v1/groups/atlas/clouds/west", {"max_vms": 3})
        world.jobs += [FakeJob(400) for _ in range(2)]
        await stage.turns(3)
        assert {name: len(cloud.servers) for name, cloud in world.clouds.items()} == {"east": 2, "west": 3}
        status = {cloud["cloud"]: cloud for cloud in (await call(stage, "GET", "/v1/status"))["clouds"]}
        assert not status["east"]["reachable"] and "Keystone at http://k refuses the credential" in status["east"]["error"]
        assert status["west"]["reachable"] and status["west"]["error"] == ""
        explanations = {cloud["cloud"]: cloud for cloud in (await call(stage, "GET", "/v1/explain?job=6.0"))["clouds"]}
        assert explanations["east"]["reason"] == "cloud_unreachable" and "refuses the credential" in explanations["east"]["sentence"]
        await stage.turns(30)  # the breaker is open, and its delays have grown
        assert sum(status["east"]["vms"].values()) == 2, "its VMs are kept"
        await call(stage, "PUT", "/v1/groups/atlas/clouds/east", {"auth": {"password": "right"}})
        await stage.turns(2)
        assert len(world.clouds["east"].servers) == 3, "without a restart or a wait for the breaker"
        await stage.turns(120)
        assert stage.at_rest()

    play(tmp_path, world, script)


def credential(name: str) -> dict[str, Any]:
    return {"auth": {"auth_url": "https://k/v3", "application_credential_id": name, "application_credential_secret": "right"}}


def test_credential_of_another_project_cannot_move_cloud(tmp_path: Path) -> None:
    """Rotation within the project works; in another project nothing is listed, booted or deleted until a cloud admin enables it again."""
    world = FakeWorld(jobs=[FakeJob(300)])
    east, foreign = world.cloud("east"), world.cloud("foreign")
    path, project = "/v1/groups/atlas/clouds/east", "project of east"

    async def error(stage: Stage) -> str:
        return str((await call(stage, "GET", "/v1/status"))["clouds"][0]["error"])

    async def script(stage: Stage) -> None:
        await call(stage, "PUT", path, {"region": "r", **credential("east"), "enabled": True})
        await stage.turns(8)
        assert len(east.servers) == 1 and await error(stage) == ""
        assert (await call(stage, "PUT", path, {"auth": {"application_credential_secret": "rotated"}}, "atlas"))["changed"]
        await call(stage, "PUT", path, credential("foreign"), "atlas")
        world.jobs.append(FakeJob(60))
        for _ in range(2):  # the second time after a restart
            await stage.turns(30)
            assert f"belongs to project project of foreign, but the cloud was enabled for {'project ' + project}" in await error(stage)
            assert not foreign.created and len(east.servers) == 1
            assert [vm.state for vm in await stage.vms() if vm.state is not VmState.GONE], "its VM is not considered gone"
            await stage.engine.close()
            await stage.database.close()
            await stage.begin()
        await call(stage, "PUT", path, credential("east"), "atlas")
        await stage.turns(150)
        assert stage.at_rest() and await error(stage) == "", "the correct credential repairs it"
        await call(stage, "PUT", path, credential("foreign"), "atlas")
        world.jobs.append(FakeJob(60))
        await stage.turns(10)
        await call(stage, "PUT", path, {"enabled": True})
        await stage.turns(30)
        assert not foreign.created, "nothing had changed"
        await call(stage, "PUT", path, {"enabled": False})
        await call(stage, "PUT", path, {"enabled": True})
        await stage.turns(30)
        assert len(foreign.created) == 1 and await error(stage) == ""

    play(tmp_path, world, script)


def test_boot_waiting_during_credential_rotation_is_repeated(tmp_path: Path) -> None:
    world = FakeWorld()
    east = world.cloud("east")
    path = "/v1/groups/atlas/clouds/east"

    async def script(stage: Stage) -> None:
        await call(stage, "PUT", path, {"region": "r", "auth": PASSWORD, "enabled": True})
        await stage.turns(2)
        world.jobs.append(FakeJob(30))
        (monitor,) = stage.engine._monitors
        for _ in range(stage.engine._timing.boots_at_once):  # other boots hold every permit
            await monitor.boots.acquire()
        await stage.engine.cycle()
        (first,) = await stage.vms()
        assert first.state is VmState.REQUESTED
        await call(stage, "PUT", path, {"auth": {"password": "rotated"}})
        await stage.engine.cycle()
        assert east.closed == 1
        monitor.boots.release()
        await stage.engine.wait_idle()
        (first,) = await stage.vms()
        assert first.state is VmState.GONE and "its account was changed" in first.reason and not east.created
        await stage.turns(2)
        assert len(east.created) == 1
        await stage.turns(40)
        assert stage.at_rest()

    play(tmp_path, world, script)


def test_expired_credential_is_reported(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(60)])
    world.cloud("east")

    async def script(stage: Stage) -> None:
        body = {"region": "r", "auth": PASSWORD, "enabled": True, "credential_expires_at": world.now - 10}
        await call(stage, "PUT", "/v1/groups/atlas/clouds/east", body)
        await stage.turns(3)
        (explanations,) = (await call(stage, "GET", "/v1/explain?job=1.0"))["clouds"]
        assert explanations["reason"] == "credential_expiring" and "has expired" in explanations["sentence"] and not world.servers()
        (cloud,) = (await call(stage, "GET", "/v1/status"))["clouds"]
        assert cloud["reachable"] and cloud["error"] == explanations["sentence"] == "the credential of east has expired; renew it"
        await call(stage, "PUT", "/v1/groups/atlas/clouds/east", {"credential_expires_at": None})
        await stage.turns(2)
        assert len(world.servers()) == 1
        assert (await call(stage, "GET", "/v1/status"))["clouds"][0]["error"] == ""

    play(tmp_path, world, script)


def test_disabled_flag_survives_restarts_and_redeployments(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(60)])
    world.cloud("east")
    path, spec = "/v1/groups/atlas/clouds/east", {"region": "r", "auth": PASSWORD}

    async def script(stage: Stage) -> None:
        await call(stage, "PUT", path, spec)
        for _ in range(3):
            await stage.turns(3)
            assert not (await call(stage, "GET", "/v1/status"))["clouds"][0]["enabled"]
            await stage.engine.close()
            await stage.database.close()
            await stage.begin()
            assert not (await call(stage, "PUT", path, spec))["changed"], "a redeployment does not set enabled"
        assert not world.clouds["east"].created and not world.minted and not await stage.vms()
        await call(stage, "PUT", path, {"enabled": True})
        await stage.turns(2)
        assert len(world.servers()) == 1
        await call(stage, "PUT", path, {"enabled": False})
        await stage.engine.close()
        await stage.begin()
        await call(stage, "PUT", path, spec)
        world.jobs.append(FakeJob(60))
        await stage.turns(60)
        assert len(world.clouds["east"].created) == 1 and not world.servers()

    play(tmp_path, world, script)


def test_cloud_disabled_during_planning_gets_no_boot(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(60)])
    world.cloud("east")

    async def script(stage: Stage) -> None:
        path = "/v1/groups/atlas/clouds/east"
        await call(stage, "PUT", path, {"region": "r", "auth": PASSWORD, "enabled": True})
        await stage.turn()
        loop = asyncio.get_running_loop()

        def disabled_meanwhile(of: Any, matcher: Any) -> Any:
            made = plan_from(of, matcher)
            assert made.actions
            asyncio.run_coroutine_threadsafe(call(stage, "PUT", path, {"enabled": False}), loop).result(60)
            return made

        with patch.object(bulkhead, "plan_from", disabled_meanwhile):
            await stage.turn()
        assert not world.clouds["east"].created and not await stage.vms()
        record = stage.engine.last_plan()
        assert record is not None and [why for _, why in record.failures] == ["no boot on atlas/east: it is disabled"]

    play(tmp_path, world, script)
