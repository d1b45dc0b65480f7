"""The ledger of VMs: every VM has a row before its cloud is asked, and every change of state is one transaction with its event.

A change is always computed from the row as it is in the database in that moment, never from a copy that may be old.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from ...common.database import Database
from ...common.secretbox import SecretBox
from ..domain.ids import is_vm_id, new_vm_id
from ..domain.model import Boot, Policy, Reason, Resources, Vm, VmState
from ..domain.records import VmDetail, VmEvent, VmPage, VmTotals
from ..domain.states import Event, Observation, advance, apply_event
from ..drivers.base import META_VM, Server
from .tables import CloudRow, SiteRow, VmEventRow, VmRow

_COPIED = (
    *("server_id", "registered_at", "last_seen_in_pool", "ever_used", "idle_since", "token_expires_at", "drain_requested_at"),
    *("delete_requested_at", "reason", "changed_at", "requested_at", "manual"),
)

OnChange = Callable[[Vm | None, Vm], None]


class NotWanted(Exception):
    """The cloud takes no new VM at this moment; the message says why."""


class Ledger:
    """Reads and changes rows; raises DatabaseError, and KeyError for an unknown id."""

    def __init__(self, database: Database, box: SecretBox, on_change: OnChange | None = None) -> None:
        """`on_change(before, after)` hears of every change of state once it is committed; before is None for a new row."""
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
            return [vm_of(row) for row in rows]

    async def gone_among(self, ids: Iterable[str]) -> list[Vm]:
        """Those of `ids` whose rows are closed: a server of theirs has come back."""
        wanted = sorted(set(ids))
        if not wanted:
            return []
        async with self._database.read() as session:
            rows = await session.scalars(select(VmRow).where(VmRow.id.in_(wanted), VmRow.state == VmState.GONE))
            return [vm_of(row) for row in rows]

    async def request(self, boot: Boot, *, region: str, now: float, token_expires_at: float, drain_key: str) -> Vm:
        """The row of a new VM. Once this returns, whatever the cloud does can be found again.

        Raises NotWanted when the cloud is not enabled in this very transaction: it may have been disabled since the plan began.
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
        sealed = self._box.seal(drain_key)

        async def write(session: AsyncSession) -> None:
            cloud = await session.get(CloudRow, (vm.group, vm.cloud), with_for_update=True)
            if cloud is None or not cloud.enabled or cloud.frozen:
                why = "not there any more" if cloud is None else "frozen" if cloud.enabled else "disabled"
                raise NotWanted(f"no boot on {vm.group}/{vm.cloud}: it is {why}")
            _insert(session, vm, region, sealed)

        await self._database.run(write)
        self._on_change(None, vm)
        return vm

    async def adopt(self, server: Server, *, group: str, cloud: str, region: str, now: float, token_expires_at: float) -> Vm:
        """A row for a server of ours that has none. Its drain key is unknown, so it cannot be told to drain.

        Raises NotWanted when the cloud was deleted in the meantime: nobody could delete the server any more. And when a row that is
        not gone has the server already: clouds that share a project each tell of it, and a second row would delete it under the first.
        """

        async def write(session: AsyncSession) -> Vm:
            if await session.get(CloudRow, (group, cloud), with_for_update=True) is None:
                raise NotWanted(f"server {server.id} is not adopted: cloud {group}/{cloud} is not there any more")
            # By its id alone, whatever the cloud: clouds give UUIDs, and two that tell of one id share the server.
            keeper = await session.scalar(select(VmRow).where(VmRow.server_id == server.id, VmRow.state != VmState.GONE).limit(1))
            if keeper is not None:
                raise NotWanted(f"server {server.id} is not adopted: VM {keeper.id} of cloud {keeper.group_name}/{keeper.cloud} has it")
            vm_id = server.metadata.get(META_VM, "")
            if not is_vm_id(vm_id) or await session.get(VmRow, vm_id) is not None:
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
                reason=f"{Reason.ORPHAN.value}: server {server.id} carries our mark and had no row",
            )
            _insert(session, vm, region, None)
            return vm

        vm = await self._database.run(write)
        self._on_change(None, vm)
        return vm

    async def order(
        self, vm_id: str, event: Event, now: float, *, reason: str = "", detail: str = "", server_id: str | None = None
    ) -> tuple[Vm, Vm]:
        """One event from us or from a cloud's answer; gives the VM before and after."""

        async def write(session: AsyncSession) -> tuple[Vm, Vm]:
            row = await _row(session, vm_id)
            before = vm_of(row)
            after = apply_event(before, event, now, reason=reason, detail=detail, server_id=server_id)
            _store(session, row, before, after)
            return before, after

        before, after = await self._database.run(write)
        if after.state is not before.state:
            self._on_change(before, after)
        return before, after

    async def observe(
        self, seen: Mapping[str, Observation], now: float, policy: Policy, *, closing: frozenset[str] = frozenset()
    ) -> list[tuple[Vm, Vm]]:
        """What was seen of many VMs, in one transaction; gives before and after of those that changed.

        A row is closed (gone) only for the ids in `closing`; others that ought to be closed are given back unchanged in the
        ledger, with the state they ought to have: first their farewell has to be said (`act.Actor.farewell`).
        """

        def kept_open(before: Vm, after: Vm) -> bool:
            return after.state is VmState.GONE and before.state is not VmState.GONE and after.id not in closing

        async def write(session: AsyncSession) -> list[tuple[Vm, Vm]]:
            changed: list[tuple[Vm, Vm]] = []
            # Locked, so that no order is overwritten that comes between; in one order, so that nobody waits for each other.
            query = select(VmRow).where(VmRow.id.in_(sorted(seen))).order_by(VmRow.id).with_for_update()
            for row in await session.scalars(query):
                before = vm_of(row)
                after = advance(before, seen[row.id], now, policy)
                if after == before:
                    continue
                changed.append((before, after))
                if not kept_open(before, after):
                    _store(session, row, before, after)
            return changed

        changed = await self._database.run(write) if seen else []
        for before, after in changed:
            if after.state is not before.state and not kept_open(before, after):
                self._on_change(before, after)
        return changed

    async def stamp(self, vm_id: str, *, drain_requested_at: float | None = None, delete_requested_at: float | None = None) -> None:
        """When an order was carried out."""

        async def write(session: AsyncSession) -> None:
            row = await _row(session, vm_id)
            row.drain_requested_at = drain_requested_at or row.drain_requested_at
            row.delete_requested_at = delete_requested_at or row.delete_requested_at

        await self._database.run(write)

    async def drain_key(self, vm_id: str) -> str | None:
        """The VM's own key in the clear; None for an adopted server. Raises SecretError."""
        async with self._database.read() as session:
            sealed = (await session.get_one(VmRow, vm_id)).drain_key
        return None if sealed is None else self._box.open(sealed)

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
        """Newest first. Raises ValueError for a cursor that is none."""
        conditions: list[ColumnElement[bool]] = []
        conditions.append(VmRow.state != VmState.GONE if states is None else VmRow.state.in_([state.value for state in states]))
        if groups is not None:
            conditions.append(VmRow.group_name.in_(list(groups)))
        if cloud is not None:
            conditions.append(VmRow.cloud == cloud)
        if cursor is not None:
            at, _, vm_id = cursor.partition("_")
            moment = float(at)
            conditions.append(or_(VmRow.requested_at < moment, and_(VmRow.requested_at == moment, VmRow.id < vm_id)))
        query = select(VmRow).where(*conditions).order_by(VmRow.requested_at.desc(), VmRow.id.desc()).limit(limit + 1)
        async with self._database.read() as session:
            rows = (await session.scalars(query)).all()
        more = len(rows) > limit
        shown = rows[:limit]
        return VmPage(tuple(_detail(row, ()) for row in shown), f"{shown[-1].requested_at!r}_{shown[-1].id}" if more else None)

    async def totals(self, groups: Sequence[str] | None) -> tuple[VmTotals, ...]:
        """Of all VMs that ever were, by cloud and region."""
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


def _insert(session: AsyncSession, vm: Vm, region: str, sealed: str | None) -> None:
    session.add(
        VmRow(
            **{name: getattr(vm, name) for name in _COPIED},
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
            drain_key=sealed,
        )
    )
    session.add(VmEventRow(vm_id=vm.id, at=vm.changed_at, from_state=None, to_state=vm.state.value, reason=vm.reason))


def _store(session: AsyncSession, row: VmRow, before: Vm, after: Vm) -> None:
    for name in _COPIED:
        setattr(row, name, getattr(after, name))
    if after.state is before.state:
        return
    row.state = after.state.value
    row.gone_at = after.changed_at if after.state is VmState.GONE else None
    session.add(
        VmEventRow(vm_id=row.id, at=after.changed_at, from_state=before.state.value, to_state=after.state.value, reason=after.reason)
    )


def vm_of(row: VmRow) -> Vm:
    """A row as the planner knows it."""
    return Vm(
        **{name: getattr(row, name) for name in _COPIED},
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
    return VmDetail(vm_of(row), row.region, row.registered_at, row.gone_at, events)


def _event(row: VmEventRow) -> VmEvent:
    return VmEvent(row.at, VmState(row.from_state) if row.from_state else None, VmState(row.to_state), row.reason)
