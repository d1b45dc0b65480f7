"""The ledger of VMs: every VM has a row before its cloud is asked, and every change of state is one transaction with its event.

A change is always computed from the current row in the database, never from a copy that may be stale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from ...common.secretbox import SecretBox
from ...common.storage.database import Database
from ..domain.ids import is_vm_id, new_vm_id
from ..domain.model import Boot, Policy, Reason, Resources, Vm, VmState
from ..domain.records import VmDetail, VmEvent, VmPage, VmTotals
from ..domain.states import Event, Observation, advance, apply_event
from ..drivers.base import META_VM, Server
from .tables import CloudRow, SiteRow, VmEventRow, VmRow

_SHARED_FIELDS = (
    *("server_id", "registered_at", "last_seen_in_pool", "ever_used", "idle_since", "token_expires_at", "drain_requested_at"),
    *("delete_requested_at", "reason", "changed_at", "requested_at", "manual"),
)

OnChange = Callable[[Vm | None, Vm], None]


class RequestRejected(Exception):
    """The cloud accepts no new VM now; the message says why."""


class Ledger:
    """Reads and changes rows; raises DatabaseError, and KeyError for an unknown id."""

    def __init__(self, database: Database, box: SecretBox, on_change: OnChange | None = None) -> None:
        """`on_change(before, after)` is called after each committed change of state; `before` is None for a new row."""
        self._database = database
        self._box = box
        self._on_change = on_change or (lambda before, after: None)

    async def scheduler_uuid(self) -> str:
        async with self._database.read() as session:
            return (await session.scalars(select(SiteRow.scheduler_uuid))).one()

    async def live(self) -> list[Vm]:
        """All VMs that are not gone, oldest first."""
        async with self._database.read() as session:
            rows = await session.scalars(select(VmRow).where(VmRow.state != VmState.GONE).order_by(VmRow.requested_at, VmRow.id))
            return [vm_from_row(row) for row in rows]

    async def gone_among(self, ids: Iterable[str]) -> list[Vm]:
        """The VMs among `ids` whose rows are closed; their servers have reappeared."""
        wanted = sorted(set(ids))
        if not wanted:
            return []
        async with self._database.read() as session:
            rows = await session.scalars(select(VmRow).where(VmRow.id.in_(wanted), VmRow.state == VmState.GONE))
            return [vm_from_row(row) for row in rows]

    async def request(self, boot: Boot, *, region: str, now: float, token_expires_at: float, drain_key: str) -> Vm:
        """Insert the row of a new VM. From then on, any server that the cloud creates for it can be recognized.

        Raises RequestRejected if the cloud is not enabled in this transaction: it may have been disabled since planning began.
        """
        vm = Vm(
            id=new_vm_id(),
            group=boot.group,
            cloud=boot.cloud,
            flavor=boot.flavor,
            image=boot.image,
            resources=boot.resources,
            state=VmState.REQUESTED,
            requested_at=now,
            changed_at=now,
            token_expires_at=token_expires_at,
            alias=boot.alias,
            network=boot.network,
            keep_alive=boot.keep_alive,
            reason=f"{boot.reason.value}: {boot.detail}" if boot.detail else boot.reason.value,
        )
        encrypted = self._box.seal(drain_key)

        async def write(session: AsyncSession) -> None:
            cloud = await session.get(CloudRow, (vm.group, vm.cloud), with_for_update=True)
            if cloud is None or not cloud.enabled or cloud.frozen:
                why = "no longer in the catalog" if cloud is None else "frozen" if cloud.enabled else "disabled"
                raise RequestRejected(f"no boot on {vm.group}/{vm.cloud}: it is {why}")
            _insert(session, vm, region, encrypted)

        await self._database.run(write)
        self._on_change(None, vm)
        return vm

    async def adopt(
        self, servers: Sequence[Server], *, group: str, cloud: str, region: str, now: float, token_expires_at: float
    ) -> tuple[list[Vm], list[str]]:
        """Insert rows for servers that carry our ownership tag but have no row, in one transaction; returns them and the refusals.

        Their drain keys are unknown, so they cannot be drained. None is adopted if the cloud was deleted in the meantime, because the
        servers could then not be deleted. Nor is one that a row that is not gone has: clouds that share a project all list it, and a
        second row would delete it under the first.
        """

        async def write(session: AsyncSession) -> tuple[list[Vm], list[str]]:
            if await session.get(CloudRow, (group, cloud), with_for_update=True) is None:
                why = f"cloud {group}/{cloud} is no longer in the catalog"
                return [], [f"server {server.id} is not adopted: {why}" for server in servers]
            # By id alone, across clouds: ids are UUIDs, so two clouds that list the same id share the server.
            query = select(VmRow).where(VmRow.server_id.in_([server.id for server in servers]), VmRow.state != VmState.GONE)
            owners = {row.server_id: f"VM {row.id} of cloud {row.group_name}/{row.cloud}" for row in await session.scalars(query)}
            named = [vm_id for server in servers if is_vm_id(vm_id := server.metadata.get(META_VM, ""))]
            taken = set(await session.scalars(select(VmRow.id).where(VmRow.id.in_(named))))
            adopted: list[Vm] = []
            refusals: list[str] = []
            for server in servers:
                if server.id in owners:
                    refusals.append(f"server {server.id} is not adopted: {owners[server.id]} has it")
                    continue
                vm_id = server.metadata.get(META_VM, "")
                if not is_vm_id(vm_id) or vm_id in taken:
                    vm_id = new_vm_id()  # a second server under a taken id, or no id of ours: it gets a row of its own all the same
                vm = Vm(
                    id=vm_id,
                    group=group,
                    cloud=cloud,
                    flavor=server.flavor,
                    image=server.image_id,
                    resources=server.resources or Resources(),
                    state=VmState.RETIRING,
                    requested_at=now,
                    changed_at=now,
                    server_id=server.id,
                    token_expires_at=token_expires_at,
                    reason=f"{Reason.ORPHAN.value}: server {server.id} carries our ownership tag and had no row",
                )
                owners[server.id] = f"VM {vm_id} of cloud {group}/{cloud}"
                taken.add(vm_id)
                adopted.append(vm)
                _insert(session, vm, region, None)
            return adopted, refusals

        adopted, refusals = await self._database.run(write)
        for vm in adopted:
            self._on_change(None, vm)
        return adopted, refusals

    async def apply_event(
        self, vm_id: str, event: Event, now: float, *, reason: str = "", detail: str = "", server_id: str | None = None
    ) -> tuple[Vm, Vm]:
        """Apply one event, ours or from a cloud's response; returns the VM before and after."""

        async def write(session: AsyncSession) -> tuple[Vm, Vm]:
            row = await _row(session, vm_id)
            before = vm_from_row(row)
            after = apply_event(before, event, now, reason=reason, detail=detail, server_id=server_id)
            _store(session, row, before, after)
            return before, after

        before, after = await self._database.run(write)
        if after.state is not before.state:
            self._on_change(before, after)
        return before, after

    async def apply_observations(
        self, observations: Mapping[str, Observation], now: float, policy: Policy, *, closing: frozenset[str] = frozenset()
    ) -> list[tuple[Vm, Vm]]:
        """Apply the observations of many VMs in one transaction; returns before and after of those that changed.

        Only rows in `closing` are closed (state gone). Others that should be closed stay unchanged in the ledger and are returned
        with the state they should have: they must be deregistered first (`operations.Operations.deregister`).
        """

        def kept_open(before: Vm, after: Vm) -> bool:
            return after.state is VmState.GONE and before.state is not VmState.GONE and after.id not in closing

        async def write(session: AsyncSession) -> list[tuple[Vm, Vm]]:
            changed: list[tuple[Vm, Vm]] = []
            # Locked, so that no concurrent event is overwritten; sorted, so that two transactions cannot deadlock.
            query = select(VmRow).where(VmRow.id.in_(sorted(observations))).order_by(VmRow.id).with_for_update()
            for row in await session.scalars(query):
                before = vm_from_row(row)
                after = advance(before, observations[row.id], now, policy)
                if after == before:
                    continue
                changed.append((before, after))
                if not kept_open(before, after):
                    _store(session, row, before, after)
            return changed

        changed = await self._database.run(write) if observations else []
        for before, after in changed:
            if after.state is not before.state and not kept_open(before, after):
                self._on_change(before, after)
        return changed

    async def record_requests(
        self, vm_id: str, *, drain_requested_at: float | None = None, delete_requested_at: float | None = None
    ) -> None:
        """Record when the VM was last asked to drain or the cloud to delete it."""

        async def write(session: AsyncSession) -> None:
            row = await _row(session, vm_id)
            row.drain_requested_at = drain_requested_at or row.drain_requested_at
            row.delete_requested_at = delete_requested_at or row.delete_requested_at

        await self._database.run(write)

    async def drain_key(self, vm_id: str) -> str | None:
        """The VM's own key in clear text; None for an adopted server. Raises SecretError."""
        async with self._database.read() as session:
            encrypted = (await session.get_one(VmRow, vm_id)).drain_key
        return None if encrypted is None else self._box.open(encrypted)

    async def detail(self, vm_id: str) -> VmDetail | None:
        async with self._database.read() as session:
            row = await session.get(VmRow, vm_id)
            if row is None:
                return None
            events = await session.scalars(select(VmEventRow).where(VmEventRow.vm_id == vm_id).order_by(VmEventRow.id))
            return _detail(row, tuple(_event(event) for event in events))

    async def page(
        self, *, states: Sequence[VmState] | None, groups: Sequence[str] | None, cloud: str | None, limit: int, cursor: str | None
    ) -> VmPage:
        """One page, newest first. Raises ValueError if the cursor is invalid."""
        conditions: list[ColumnElement[bool]] = []
        conditions.append(VmRow.state != VmState.GONE if states is None else VmRow.state.in_([state.value for state in states]))
        if groups is not None:
            conditions.append(VmRow.group_name.in_(list(groups)))
        if cloud is not None:
            conditions.append(VmRow.cloud == cloud)
        if cursor is not None:
            at, _, vm_id = cursor.partition("_")
            requested_at = float(at)
            conditions.append(or_(VmRow.requested_at < requested_at, and_(VmRow.requested_at == requested_at, VmRow.id < vm_id)))
        query = select(VmRow).where(*conditions).order_by(VmRow.requested_at.desc(), VmRow.id.desc()).limit(limit + 1)
        async with self._database.read() as session:
            rows = (await session.scalars(query)).all()
        more = len(rows) > limit
        shown = rows[:limit]
        return VmPage(tuple(_detail(row, ()) for row in shown), f"{shown[-1].requested_at!r}_{shown[-1].id}" if more else None)

    async def totals(self, groups: Sequence[str] | None) -> tuple[VmTotals, ...]:
        """The number of all VMs, including those that are gone, by cloud, region and state."""
        place = (VmRow.group_name, VmRow.cloud, VmRow.region)
        query = select(*place, VmRow.state, func.count()).group_by(*place, VmRow.state).order_by(*place, VmRow.state)
        if groups is not None:
            query = query.where(VmRow.group_name.in_(list(groups)))
        found: dict[tuple[str, str, str], dict[str, int]] = {}
        async with self._database.read() as session:
            for group, cloud, region, state, count in await session.execute(query):
                found.setdefault((group, cloud, region), {})[state] = count
        return tuple(VmTotals(*key, vms) for key, vms in found.items())


async def _row(session: AsyncSession, vm_id: str) -> VmRow:
    row = await session.get(VmRow, vm_id, with_for_update=True)
    if row is None:
        raise KeyError(vm_id)
    return row


def _insert(session: AsyncSession, vm: Vm, region: str, encrypted: str | None) -> None:
    session.add(
        VmRow(
            **{name: getattr(vm, name) for name in _SHARED_FIELDS},
            id=vm.id,
            group_name=vm.group,
            cloud=vm.cloud,
            region=region,
            flavor=vm.flavor,
            image=vm.image,
            alias=vm.alias,
            network=vm.network,
            keep_alive=vm.keep_alive,
            cores=vm.resources.cores,
            ram_mib=vm.resources.ram_mib,
            disk_gib=vm.resources.disk_gib,
            state=vm.state.value,
            drain_key=encrypted,
        )
    )
    session.add(VmEventRow(vm_id=vm.id, at=vm.changed_at, from_state=None, to_state=vm.state.value, reason=vm.reason))


def _store(session: AsyncSession, row: VmRow, before: Vm, after: Vm) -> None:
    for name in _SHARED_FIELDS:
        setattr(row, name, getattr(after, name))
    if after.state is before.state:
        return
    row.state = after.state.value
    row.gone_at = after.changed_at if after.state is VmState.GONE else None
    session.add(
        VmEventRow(vm_id=row.id, at=after.changed_at, from_state=before.state.value, to_state=after.state.value, reason=after.reason)
    )


def vm_from_row(row: VmRow) -> Vm:
    """Convert a row to the planner's value."""
    return Vm(
        **{name: getattr(row, name) for name in _SHARED_FIELDS},
        id=row.id,
        group=row.group_name,
        cloud=row.cloud,
        flavor=row.flavor,
        image=row.image,
        resources=Resources(row.cores, row.ram_mib, row.disk_gib),
        state=VmState(row.state),
        alias=row.alias,
        network=row.network,
        keep_alive=row.keep_alive,
    )


def _detail(row: VmRow, events: tuple[VmEvent, ...]) -> VmDetail:
    return VmDetail(vm_from_row(row), row.region, row.registered_at, row.gone_at, events)


def _event(row: VmEventRow) -> VmEvent:
    return VmEvent(row.at, VmState(row.from_state) if row.from_state else None, VmState(row.to_state), row.reason)
