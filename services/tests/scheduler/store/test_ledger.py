"""The ledger on SQLite and PostgreSQL: rows before requests, an event for every change, pages without gaps or duplicates."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from distcloud.common.http.auth import Caller
from distcloud.common.http.problems import Problem
from distcloud.common.secretbox import SecretBox
from distcloud.common.storage.database import Database
from distcloud.scheduler.catalog.catalog import Catalog
from distcloud.scheduler.domain.ids import is_vm_id
from distcloud.scheduler.domain.model import Boot, Policy, Reason, Resources, Slot, VmState
from distcloud.scheduler.domain.states import Event, Observation, ServerStatus
from distcloud.scheduler.drivers.base import META_VM, Server
from distcloud.scheduler.store.ledger import Ledger, RequestRejected
from distcloud.scheduler.store.tables import CloudRow, GroupRow, VmRow

from ..support.stage import KEY

BOOT = Boot(
    "atlas", "east", "small", "worker", Resources(1, 2048, 10.0), "near", Reason.DEMAND, "one job waits", network="n1", keep_alive=77
)
POLICY = Policy(create_settle=60)


def on(url: str, script: Callable[[Ledger, Database], Awaitable[None]]) -> None:
    async def main() -> None:
        database = Database(url, "scheduler")
        await database.migrate("distcloud.scheduler")
        async with database.begin() as session:
            session.add(GroupRow(name="atlas", aliases={}))
            await session.flush()
            session.add(CloudRow(group_name="atlas", name="east", region="r1", enabled=True, auth={}))
        await script(Ledger(database, SecretBox([KEY])), database)
        await database.close()

    asyncio.run(main())


async def request(ledger: Ledger, now: float = 100.0) -> str:
    return (await ledger.request(BOOT, region="r1", now=now, token_expires_at=now + 1000, drain_key="the-key")).id


def test_request_stores_row_with_encrypted_key(database_url: str) -> None:
    async def script(ledger: Ledger, database: Database) -> None:
        vm_id = await request(ledger)
        assert is_vm_id(vm_id)
        (vm,) = await ledger.live()
        assert (vm.id, vm.group, vm.cloud, vm.flavor, vm.image, vm.alias) == (vm_id, "atlas", "east", "small", "worker", "near")
        assert (vm.resources, vm.network, vm.keep_alive, vm.token_expires_at) == (BOOT.resources, "n1", 77, 1100)
        assert vm.state is VmState.REQUESTED and vm.reason == "demand: one job waits"
        async with database.read() as session:
            row = (await session.scalars(select(VmRow))).one()
        assert row.drain_key is not None and "the-key" not in row.drain_key
        assert await ledger.drain_key(vm_id) == "the-key"
        detail = await ledger.detail(vm_id)
        assert detail is not None and detail.region == "r1"
        assert [(event.from_state, event.to_state) for event in detail.events] == [(None, VmState.REQUESTED)]
        assert await ledger.detail("vm-zzzzzzzzzzzzzzzz") is None

    on(database_url, script)


def test_events_and_observations_change_row_and_history(database_url: str) -> None:
    async def script(ledger: Ledger, database: Database) -> None:
        vm_id = await request(ledger)
        before, after = await ledger.apply_event(vm_id, Event.CREATE_ANSWERED, 101, server_id="s1")
        assert (before.state, after.state, after.server_id) == (VmState.REQUESTED, VmState.STARTING, "s1")
        slot = Slot(f"{vm_id}.d", vm_id, Resources(1, 2000, 9), Resources(0, 1000, 8), 1, False, 140.0)
        seen = Observation(ServerStatus.ACTIVE, "s1", listing_began_at=139, slot=slot)
        ((_, after),) = await ledger.apply_observations({vm_id: seen}, 141, POLICY)
        assert (after.state, after.registered_at, after.ever_used) == (VmState.RUNNING, 141, True)
        assert await ledger.apply_observations({vm_id: seen}, 142, POLICY) == [], "repeating it changes nothing"
        assert (await ledger.apply_event(vm_id, Event.CREATE_ANSWERED, 143))[0] == (await ledger.live())[0]
        await ledger.record_requests(vm_id, drain_requested_at=150)
        await ledger.record_requests(vm_id, delete_requested_at=160)
        (vm,) = await ledger.live()
        assert (vm.drain_requested_at, vm.delete_requested_at) == (150, 160)
        detail = await ledger.detail(vm_id)
        assert detail is not None
        assert [event.to_state.value for event in detail.events] == ["requested", "starting", "running"]
        with pytest.raises(KeyError):
            await ledger.apply_event("vm-zzzzzzzzzzzzzzzz", Event.RETIRE_REQUESTED, 1)

    on(database_url, script)


def test_row_is_closed_only_if_deregistered(database_url: str) -> None:
    async def script(ledger: Ledger, database: Database) -> None:
        vm_id = await request(ledger)
        missing = {vm_id: Observation(ServerStatus.MISSING, listing_began_at=500)}
        ((_, after),) = await ledger.apply_observations(missing, 501, POLICY)
        assert after.state is VmState.GONE
        assert (await ledger.live())[0].state is VmState.REQUESTED
        await ledger.apply_observations(missing, 502, POLICY, closing=frozenset({vm_id}))
        assert await ledger.live() == []
        detail = await ledger.detail(vm_id)
        assert detail is not None and detail.gone_at == 502
        assert [vm.id for vm in await ledger.gone_among([vm_id, "vm-zzzzzzzzzzzzzzzz"])] == [vm_id]
        back = {vm_id: Observation(ServerStatus.ACTIVE, "s9", listing_began_at=600)}
        ((_, after),) = await ledger.apply_observations(back, 601, POLICY)
        assert after.state is VmState.RETIRING and after.server_id == "s9"
        detail = await ledger.detail(vm_id)
        assert detail is not None and detail.gone_at is None

    on(database_url, script)


def test_adopted_server_keeps_id_if_free(database_url: str) -> None:
    async def script(ledger: Ledger, database: Database) -> None:
        taken = await request(ledger)
        for given, kept in (("vm-bbbbbbbbbbbbbbbb", True), (taken, False), ("nonsense", False), ("", False)):
            server = Server(f"s-{given}", given, ServerStatus.ACTIVE, {META_VM: given}, Resources(1, 2, 3.0))
            (vm,), _ = await ledger.adopt([server], group="atlas", cloud="east", region="r1", now=5, token_expires_at=9)
            assert is_vm_id(vm.id) and (vm.id == given) is kept
            assert vm.state is VmState.RETIRING and vm.server_id == server.id and await ledger.drain_key(vm.id) is None
        assert len(await ledger.live()) == 5

    on(database_url, script)


def test_server_has_at_most_one_live_row(database_url: str) -> None:
    """Two clouds that share a project list the same server; and a server may reappear after its row was closed."""

    async def script(ledger: Ledger, database: Database) -> None:
        server = Server("s1", "", ServerStatus.ACTIVE, {META_VM: "vm-bbbbbbbbbbbbbbbb"}, Resources(1, 2, 3.0))

        async def adopt() -> list[str]:
            adopted, refusals = await ledger.adopt([server], group="atlas", cloud="east", region="r1", now=5, token_expires_at=9)
            return [vm.id for vm in adopted] + refusals

        (first,) = await adopt()
        assert await adopt() == [f"server s1 is not adopted: VM {first} of cloud atlas/east has it"]
        assert [vm.id for vm in await ledger.live()] == [first]
        await ledger.apply_observations(
            {first: Observation(ServerStatus.MISSING, listing_began_at=500)}, 501, POLICY, closing=frozenset({first})
        )
        (second,) = await adopt()
        assert second != first and [vm.id for vm in await ledger.live()] == [second]

    on(database_url, script)


def test_pages_contain_every_vm_once_newest_first(database_url: str) -> None:
    async def script(ledger: Ledger, database: Database) -> None:
        ids = [await request(ledger, now=100.0 + number // 3) for number in range(10)]
        seen: list[str] = []
        cursor = None
        while True:
            page = await ledger.page(states=None, groups=["atlas"], cloud="east", limit=3, cursor=cursor)
            seen += [detail.vm.id for detail in page.vms]
            cursor = page.cursor
            if cursor is None:
                break
        assert sorted(seen) == sorted(ids) and len(seen) == 10
        assert (await ledger.page(states=[VmState.GONE], groups=None, cloud=None, limit=5, cursor=None)).vms == ()
        assert (await ledger.page(states=None, groups=["other"], cloud=None, limit=5, cursor=None)).vms == ()
        with pytest.raises(ValueError, match="nonsense"):
            await ledger.page(states=None, groups=None, cloud=None, limit=5, cursor="nonsense")

    on(database_url, script)


def test_totals_include_gone_vms(database_url: str) -> None:
    async def script(ledger: Ledger, database: Database) -> None:
        assert await ledger.totals(None) == ()
        gone, _ = await request(ledger), await request(ledger)
        missing = Observation(ServerStatus.MISSING, listing_began_at=500)
        await ledger.apply_observations({gone: missing}, 501, POLICY, closing=frozenset({gone}))
        (found,) = await ledger.totals(["atlas"])
        assert (found.group, found.cloud, found.region, found.vms) == ("atlas", "east", "r1", {"gone": 1, "requested": 1})
        assert await ledger.totals(["other"]) == ()

    on(database_url, script)


def test_concurrent_events_make_one_change(database_url: str) -> None:
    async def script(ledger: Ledger, database: Database) -> None:
        vm_id = await request(ledger)
        answers = await asyncio.gather(*(ledger.apply_event(vm_id, Event.RETIRE_REQUESTED, 200.0 + number) for number in range(8)))
        assert sum(before.state is not after.state for before, after in answers) == 1
        detail = await ledger.detail(vm_id)
        assert detail is not None and len(detail.events) == 2

    on(database_url, script)


async def meets(first: Callable[[AsyncSession], Awaitable[None]], second: Awaitable[object], database: Database) -> object:
    """Run `first` in a transaction that ends only when `second` waits for its lock; returns the result of `second`."""
    async with database.begin() as session:
        await first(session)
        task = asyncio.ensure_future(second)
        async with asyncio.timeout(60):
            while not await blocked(database):  # noqa: ASYNC110 - the server sends no event
                await asyncio.sleep(0.01)
    return (await asyncio.gather(task, return_exceptions=True))[0]


async def blocked(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")) or 0


def test_observation_does_not_overwrite_concurrent_event(postgres_url: str) -> None:
    """PostgreSQL only: SQLite serializes writers anyway."""

    async def script(ledger: Ledger, database: Database) -> None:
        vm_id = await request(ledger)
        await ledger.apply_event(vm_id, Event.CREATE_ANSWERED, 101, server_id="s1")

        async def person_retires(session: AsyncSession) -> None:
            row = await session.get_one(VmRow, vm_id, with_for_update=True)
            row.state, row.reason, row.changed_at = VmState.RETIRING.value, "ordered: by admin", 150.0
            await session.flush()

        seen = {vm_id: Observation(ServerStatus.ACTIVE, "s1", listing_began_at=149.0)}
        assert await meets(person_retires, ledger.apply_observations(seen, 151, POLICY), database) == []
        detail = await ledger.detail(vm_id)
        assert detail is not None and (detail.vm.state, detail.vm.reason) == (VmState.RETIRING, "ordered: by admin")

    on(postgres_url, script)


def test_cloud_cannot_be_deleted_during_vm_request(postgres_url: str) -> None:
    """PostgreSQL only: SQLite serializes writers anyway."""
    orphan = Server("s1", "", ServerStatus.ACTIVE, {}, Resources(1, 2, 3.0))

    async def script(ledger: Ledger, database: Database) -> None:
        async def request_begins(session: AsyncSession) -> None:
            await session.get(CloudRow, ("atlas", "east"), with_for_update=True)
            values = {"region": "r", "flavor": "f", "image": "i", "cores": 1, "ram_mib": 1, "disk_gib": 1.0}
            session.add(VmRow(id="vm-x", group_name="atlas", cloud="east", state="requested", requested_at=1.0, changed_at=1.0, **values))
            await session.flush()

        async def vms_left(session: AsyncSession) -> None:
            await session.get(CloudRow, ("atlas", "east"), with_for_update=True)
            await session.execute(delete(VmRow))
            await session.execute(delete(CloudRow))

        catalog = Catalog(database, SecretBox([KEY]))
        removal = catalog.delete_cloud(Caller("admin", "cloud_admin"), "atlas", "east", dry_run=False)
        refused = await meets(request_begins, removal, database)
        assert isinstance(refused, Problem) and refused.status == 409
        assert isinstance(await meets(vms_left, request(ledger), database), RequestRejected)
        adopted, refusals = await ledger.adopt([orphan], group="atlas", cloud="east", region="r1", now=5, token_expires_at=9)
        assert not adopted and "no longer in the catalog" in refusals[0]
        async with database.read() as session:
            assert await session.scalar(select(func.count()).select_from(VmRow)) == 0

    on(postgres_url, script)
