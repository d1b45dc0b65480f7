"""The scheduler against real services: its driver against Nova with the credential of the intake, its pool and its minter on
the central host, and an engine that is killed during a boot in a real region.

The servers created here have another scheduler's ownership tag, so the lab's scheduler treats them as foreign.
"""

from __future__ import annotations

import asyncio
import json
import textwrap
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_access import missing

from distcloud.common.secretbox import SecretBox
from distcloud.common.storage.database import Database
from distcloud.scheduler.domain.ids import new_vm_id
from distcloud.scheduler.domain.model import Demand, Policy, Resources, Slot, VmState
from distcloud.scheduler.drivers import make_driver
from distcloud.scheduler.drivers.base import Account, CloudDriver, CloudError, ErrorKind, Inventory, Listing, Server, ServerRequest
from distcloud.scheduler.engine.engine import Engine
from distcloud.scheduler.engine.operations import WorkerContext
from distcloud.scheduler.pool.base import PoolUnavailable, QueuedJob, Queues
from distcloud.scheduler.store.tables import CloudRow, GroupRow
from distcloud.scheduler.worker.configuration import WorkerSettings

REGIONS = ["region-a", "region-b"]


def account_of(lab: Any, region: str) -> Account:
    """The scheduler's own credential for a region, as the intake wrote it."""
    path = lab.state / "credentials" / f"{region}-scheduler.yml"
    if not path.exists():
        missing(f"{region} is not set up yet: playbooks/regions.yml writes {path.name}")
    found = yaml.safe_load(path.read_text("utf-8"))
    kept = ("auth_url", "auth_type", "interface", "application_credential_id")
    return Account(
        group="physics",
        name=region,
        driver="openstack",
        region=found["region_name"],
        auth={key: found[key] for key in kept if found.get(key)},
        secrets={"application_credential_secret": found["application_credential_secret"]},
        ca_certificate=Path(found["cacert"]).read_text("ascii") if found.get("cacert") else None,
        network="distcloud",
        security_groups=("distcloud",),
        keypair="distcloud",
    )


async def until(condition: Callable[[], Awaitable[Any]], what: str, seconds: float = 300) -> Any:
    end = time.monotonic() + seconds
    while not (found := await condition()):
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(1)
    return found


def image_and_flavor(inventory: Inventory) -> tuple[str, str]:
    if not inventory.images:
        missing("the region has no image yet: playbooks/images.yml uploads the worker's")
    flavor = min(inventory.flavors, key=lambda flavor: (flavor.resources.cores, flavor.resources.ram_mib))
    return sorted(inventory.images)[0], flavor.name


@pytest.mark.parametrize("region", REGIONS)
def test_driver_boots_lists_and_deletes_servers(lab: Any, region: str) -> None:
    async def main() -> None:
        driver = make_driver(account_of(lab, region))
        image, flavor = image_and_flavor(await driver.inventory())
        mark = {"distcloud_scheduler": str(uuid.uuid4()), "distcloud_vm": new_vm_id()}
        server_id = await driver.create(ServerRequest(mark["distcloud_vm"], flavor, image, b"#cloud-config\n{}\n", mark))

        async def mine() -> Server | None:
            return next((server for server in (await driver.servers()).servers if server.id == server_id), None)

        async def gone() -> bool:
            return await mine() is None

        async def ordered() -> bool:
            try:
                await driver.delete(server_id)
            except CloudError as error:
                # Nova responds with 500 if a delete interferes with the build of a new server; the engine repeats it (delete_repeat).
                if error.kind is not ErrorKind.UNREACHABLE:
                    raise
                return False
            return True

        try:
            found = await until(mine, "the server is listed")
            assert found.name == mark["distcloud_vm"] and found.metadata.items() >= mark.items()
            assert found.resources is not None and found.resources.cores >= 1 and found.flavor == flavor
        finally:
            await until(ordered, "its deletion is accepted")
            await until(gone, "the server is gone")
        await driver.delete(server_id)
        await driver.delete_leftovers(server_id)
        await driver.close()

    asyncio.run(main())
    cloud = lab.cloud(f"{region}-admin")
    assert [port.id for port in cloud.network.ports() if port.device_owner.startswith("compute:") and not port.device_id] == []


@pytest.mark.security
def test_wrong_secret_and_unknown_ca_differ(lab: Any) -> None:
    account = account_of(lab, "region-b")

    async def refusal(broken: Account) -> CloudError:
        driver = make_driver(broken)
        with pytest.raises(CloudError) as caught:
            await driver.servers()
        await driver.close()
        return caught.value

    wrong = asyncio.run(refusal(replace(account, secrets={"application_credential_secret": "wrong-wrong"})))
    assert wrong.kind is ErrorKind.AUTH and "wrong-wrong" not in str(wrong)
    stranger = asyncio.run(refusal(replace(account, ca_certificate=None)))
    assert stranger.kind is ErrorKind.UNREACHABLE and "ca_certificate" in str(stranger)


class OneJob:
    """A pool with one waiting job and never a worker: only the cloud's side is tested."""

    def __init__(self) -> None:
        self.waiting = True
        self.invalidated: list[str] = []

    async def demand(self) -> Queues:
        return Queues((Demand("physics", "alice", "true", Resources(1, 64, 0.1), idle=1),) if self.waiting else ())

    async def slots(self) -> list[Slot]:
        return []

    async def job(self, job_id: str) -> QueuedJob | None:
        return None

    async def drain(self, vm_id: str, key: str) -> None:
        raise PoolUnavailable(f"no worker {vm_id}")

    async def invalidate(self, vm_id: str) -> None:
        self.invalidated.append(vm_id)

    async def close(self) -> None:
        return None


class AnyMinter:
    """Issues invalid tokens, and records which workers were refused."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    async def mint(self, worker: WorkerSettings, lifetime: int) -> str:
        return "aaa.bbb.ccc"

    async def refuse(self, vm_id: str, until: float) -> None:
        self.refused.append(vm_id)


class Died(BaseException):
    """The engine was killed here."""


class DiesAfterCreate:
    """The real driver; a create succeeds, but its response is lost."""

    def __init__(self, driver: CloudDriver) -> None:
        self._driver = driver
        self.created: list[str] = []

    async def servers(self) -> Listing:
        return await self._driver.servers()

    async def inventory(self) -> Inventory:
        return await self._driver.inventory()

    async def create(self, request: ServerRequest) -> str:
        self.created.append(await self._driver.create(request))
        raise Died

    async def delete(self, server_id: str) -> None:
        await self._driver.delete(server_id)

    async def delete_leftovers(self, server_id: str) -> None:
        await self._driver.delete_leftovers(server_id)

    async def close(self) -> None:
        await self._driver.close()


@pytest.mark.fault
def test_killed_engine_adopts_its_new_server(lab: Any, tmp_path: Path) -> None:
    account = account_of(lab, "region-a")
    pool, minter, box = OneJob(), AnyMinter(), SecretBox(["c2VjcmV0LWtleS1vZi10aGUtdGVzdHMtMzItYnl0ZXM="])
    policy = Policy(create_settle=15, registration_timeout=600, max_new_per_cloud_and_cycle=1, max_starting_per_cloud=1)
    dying: list[DiesAfterCreate] = []

    def driver_that_dies(account: Account) -> CloudDriver:
        dying.append(DiesAfterCreate(make_driver(account)))
        return dying[-1]

    async def main() -> None:
        probe = make_driver(account)
        image, flavor = image_and_flavor(await probe.inventory())
        database = Database(f"sqlite:///{tmp_path}/x.db", "scheduler")
        await database.migrate("distcloud.scheduler")
        async with database.begin() as session:
            session.add(GroupRow(name="physics", default_image=image, default_flavor=flavor, aliases={}))
            await session.flush()
            session.add(
                CloudRow(
                    **{"group_name": "physics", "name": "region-a", "region": account.region, "enabled": True, "max_vms": 1},
                    **{"auth": dict(account.auth), "auth_secrets": box.seal(json.dumps(dict(account.secrets)))},
                    **{"network": "distcloud", "security_groups": ["distcloud"], "attributes": {}},
                )
            )

        def engine(factory: Callable[[Account], CloudDriver]) -> Engine:
            return Engine(
                database, box, pool, minter, factory, worker=WorkerContext("distcloud.lab", "central.distcloud.lab"), policy=policy
            )

        async def turn(one: Engine) -> None:
            for monitor in one._monitors:
                await monitor.refresh()
            await one.cycle()
            await one.wait_idle()

        first = engine(driver_that_dies)
        await first.start()
        for _attempt in range(3):
            if not (dying and dying[-1].created):
                await turn(first)
        assert dying[-1].created, "the first engine never asked for a server"
        page = await first.vms(states=[VmState.REQUESTED])
        (lost,) = page.vms
        assert lost.vm.server_id is None, "no response was recorded"

        second = engine(make_driver)
        await second.start()

        async def found() -> bool:
            await turn(second)
            detail = await second.vm(lost.vm.id)
            return detail is not None and detail.vm.server_id == dying[-1].created[0]

        await until(found, "the server is found by its mark")
        ours = [
            server
            for server in (await probe.servers()).servers
            if server.metadata.get("distcloud_scheduler") == second.status().scheduler_uuid
        ]
        assert [server.name for server in ours] == [lost.vm.id], "exactly one server, named by its ledger id"
        pool.waiting = False
        await second.retire(lost.vm.id, "test")

        async def closed() -> bool:
            await turn(second)
            detail = await second.vm(lost.vm.id)
            return detail is not None and detail.vm.state is VmState.GONE

        await until(closed, "the VM is gone")
        assert minter.refused == [lost.vm.id] and pool.invalidated == [lost.vm.id]
        left = [server for server in (await probe.servers()).servers if server.name == lost.vm.id]
        assert left == []
        await second.close()
        await probe.close()
        await database.close()

    asyncio.run(main())


SCRIPT = """
import asyncio, json, socket, threading
from pathlib import Path
from distcloud.scheduler.engine.minter_client import MinterSocket, MinterUnavailable
from distcloud.scheduler.pool.base import PoolUnavailable
from distcloud.scheduler.pool.htcondor import HtcondorPool, PoolAddress
from distcloud.scheduler.worker.configuration import WorkerSettings

TOKENS = Path("/var/lib/distcloud/scheduler/condor/tokens.d")
VM = "vm-aaaaaaaaaaaaaaaa"

def worker(name):
    return WorkerSettings(name, "%(domain)s", "central", "physics", cloud="east", region="RegionOne")

def silent():
    listener = socket.create_server(("127.0.0.1", 0))
    kept = []
    def accept():
        while True:
            kept.append(listener.accept())
    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]

async def failure(awaitable):
    try:
        await awaitable
    except (PoolUnavailable, MinterUnavailable) as error:
        return str(error)
    return ""

async def main():
    name = "central.%(domain)s"
    pool = HtcondorPool(PoolAddress(name, (name,), "%(domain)s", TOKENS), seconds=60)
    results = {"demand": len((await pool.demand()).demand), "slots": len(await pool.slots()), "no job": await pool.job("999999.0") is None}
    results["drain of nobody"] = await failure(pool.drain(VM, "x" * 64))
    await pool.invalidate(VM)
    hung = HtcondorPool(PoolAddress(f"127.0.0.1:{silent()}", (name,), "%(domain)s", TOKENS), seconds=3)
    began = asyncio.get_running_loop().time()
    results["hung"] = await failure(hung.slots())
    results["hung seconds"] = asyncio.get_running_loop().time() - began
    await hung.close()
    minter = MinterSocket(Path("/run/distcloud/minter.sock"))
    results["token parts"] = (await minter.mint(worker(VM), 60)).count(".")
    results["too long"] = await failure(minter.mint(worker(VM), 10**9))
    results["not a worker"] = await failure(minter.mint(worker("scheduler"), 60))
    import time
    await minter.refuse(VM, time.time() + 60)
    await pool.close()
    print(json.dumps(results))

asyncio.run(main())
"""


@pytest.mark.security
def test_service_user_reaches_pool_and_minter(lab: Any) -> None:
    domain = lab.run("central", "condor_config_val UID_DOMAIN").strip()
    script = textwrap.dedent(SCRIPT) % {"domain": domain}
    results = json.loads(
        lab.run("central", "cd / && runuser -u distcloud-scheduler -- /opt/distcloud/scheduler/bin/python -", stdin=script, timeout=300)
    )
    assert results["demand"] >= 0 and results["slots"] >= 0 and results["no job"]
    assert "condor_drain failed" in results["drain of nobody"]
    assert "no answer within 3 s" in results["hung"] and results["hung seconds"] < 60
    assert results["token parts"] == 2
    assert "lifetime" in results["too long"] and "worker" in results["not a worker"]
    assert "worker-vm-aaaaaaaaaaaaaaaa@" in lab.run("central", "condor_config_val REVOKED_WORKERS")
    assert lab.run("central", "stat -c %a /etc/condor/config.d/60-refused-workers.conf").strip() == "644"
