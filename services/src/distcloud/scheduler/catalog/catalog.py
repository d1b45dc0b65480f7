"""What people wished: groups, clouds and metadata in the database. The API's writes go through here and nowhere else.

Every change is told with the state before and after; in a dry run the same is computed and nothing is kept.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from ...common.auth import Caller
from ...common.database import Database
from ...common.problems import Problem
from ...common.secretbox import SecretBox, SecretError
from ..domain.model import VmState
from ..store.tables import CloudRow, GroupRow, MetadataRow, VmRow
from . import merge as laying
from .merge import CLOUD_DEFAULTS, GROUP_DEFAULTS, METADATA_DEFAULTS, shown
from .schemas import Answer

Work = Callable[[AsyncSession], Awaitable[Answer]]

GROUP_FIELDS = tuple(GROUP_DEFAULTS)
CLOUD_FIELDS = ("region", *CLOUD_DEFAULTS)
METADATA_FIELDS = ("content", *METADATA_DEFAULTS)


def open_secrets(sealed: str | None, box: SecretBox) -> dict[str, str]:
    """The secrets of a cloud's account. Raises SecretError where the key does not fit."""
    if sealed is None:
        return {}
    opened: dict[str, str] = json.loads(box.open(sealed))
    return opened


class Catalogue:
    """Reads and changes the wishes. `on_change` is called after each change that was committed."""

    def __init__(self, database: Database, box: SecretBox, on_change: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._box = box
        self._on_change = on_change

    # Groups

    async def groups(self, caller: Caller) -> list[dict[str, Any]]:
        async with self._database.read() as session:
            rows = (await session.scalars(select(GroupRow).order_by(GroupRow.name))).all()
        return [_group(row) for row in rows if caller.sees(row.name)]

    async def group(self, caller: Caller, name: str) -> dict[str, Any]:
        caller.must_see(name)
        async with self._database.read() as session:
            return _group(await _existing_group(session, name))

    async def put_group(self, caller: Caller, name: str, wish: dict[str, Any], *, dry_run: bool) -> Answer:
        caller.must_manage(name)

        async def work(session: AsyncSession) -> Answer:
            row = await session.get(GroupRow, name)
            if row is None:
                caller.must_be_cloud_admin(f"creating group {name}")
            before = _fields(row, GROUP_FIELDS)
            after = laying.lay(before, wish, GROUP_DEFAULTS, ())
            if before != after and not dry_run:
                _write(session, row or GroupRow(name=name), after)
            return _answer({"name": name}, before, after)

        return await self._run(work, dry_run)

    async def delete_group(self, caller: Caller, name: str, *, dry_run: bool) -> Answer:
        caller.must_be_cloud_admin(f"deleting group {name}")

        async def work(session: AsyncSession) -> Answer:
            row = await session.get(GroupRow, name)
            if row is None:
                return Answer(changed=False, before=None, after=None, changed_secrets=[])
            clouds = (await session.scalars(select(CloudRow.name).where(CloudRow.group_name == name).order_by(CloudRow.name))).all()
            if clouds:
                raise Problem(409, "group-in-use", f"group {name} still has clouds {', '.join(clouds)}; delete them first")
            await self._must_be_empty(session, name, None)
            answer = _answer({"name": name}, _fields(row, GROUP_FIELDS), None)
            if not dry_run:
                await _drop_metadata(session, name, None)
                await session.delete(row)
            return answer

        return await self._run(work, dry_run)

    # Clouds

    async def clouds(self, caller: Caller, group: str) -> list[dict[str, Any]]:
        caller.must_see(group)
        async with self._database.read() as session:
            await _existing_group(session, group)
            rows = (await session.scalars(select(CloudRow).where(CloudRow.group_name == group).order_by(CloudRow.name))).all()
        return [self._cloud(row) for row in rows]

    async def cloud(self, caller: Caller, group: str, name: str) -> dict[str, Any]:
        caller.must_see(group)
        async with self._database.read() as session:
            return self._cloud(await _existing_cloud(session, group, name))

    async def put_cloud(self, caller: Caller, group: str, name: str, wish: dict[str, Any], *, dry_run: bool) -> Answer:
        caller.must_manage(group)
        if wish.get("enabled") is not None:
            caller.must_be_cloud_admin(f"setting enabled of cloud {group}/{name}")

        async def work(session: AsyncSession) -> Answer:
            await _existing_group(session, group)
            row = await session.get(CloudRow, (group, name), with_for_update=not dry_run)
            before = _cloud_state(row)
            stored = self._stored(row)
            laid = laying.lay_cloud(before, stored, wish)
            moved, swapped = laying.moves(before, laid.state), laying.swaps(before, laid.state)
            enabled = before is not None and before["enabled"]
            if moved and enabled:
                caller.must_be_cloud_admin(f"changing {', '.join(moved)} of cloud {group}/{name}, which is enabled,")
            if swapped and enabled and row is not None and row.project is None:
                # Once the project is known, a credential of another one is refused at its log-in (`Credential.check_project`).
                unseen = "which is enabled and whose project was not seen yet,"
                caller.must_be_cloud_admin(f"changing {', '.join(swapped)} of cloud {group}/{name}, {unseen}")
            changed = before != laid.state or bool(laid.changed_secrets) or set(stored) != set(laid.secrets)
            if changed and not dry_run:
                row = row or CloudRow(group_name=group, name=name)
                if laid.changed_secrets or set(stored) != set(laid.secrets):
                    row.auth_secrets = self._box.seal(json.dumps(laid.secrets, sort_keys=True))
                _write(session, row, laid.state)
                if caller.is_cloud_admin and (moved or swapped or (laid.state["enabled"] and not enabled)):
                    row.project = None  # whichever its credential belongs to now is the one that is meant
            key = {"group": group, "name": name}
            return Answer(
                changed=changed,
                before=None if before is None else {**key, **shown(before, stored)},
                after={**key, **shown(laid.state, laid.secrets)},
                changed_secrets=list(laid.changed_secrets),
            )

        return await self._run(work, dry_run)

    async def delete_cloud(self, caller: Caller, group: str, name: str, *, dry_run: bool) -> Answer:
        caller.must_manage(group)

        async def work(session: AsyncSession) -> Answer:
            # Locked against `Ledger.request` and `adopt`: a VM that is counted too late would have lost its account.
            row = await session.get(CloudRow, (group, name), with_for_update=not dry_run)
            if row is None:
                return Answer(changed=False, before=None, after=None, changed_secrets=[])
            await self._must_be_empty(session, group, name)
            before = self._cloud(row)
            if not dry_run:
                await _drop_metadata(session, group, name)
                await session.delete(row)
            return Answer(changed=True, before=before, after=None, changed_secrets=[])

        return await self._run(work, dry_run)

    # Metadata

    async def parts(self, caller: Caller, group: str, cloud: str) -> list[dict[str, Any]]:
        """The parts of a group (cloud empty) or of one of its clouds, in the order in which workers get them."""
        caller.must_see(group)
        async with self._database.read() as session:
            await _existing_owner(session, group, cloud)
            chosen = select(MetadataRow).where(MetadataRow.group_name == group, MetadataRow.cloud == cloud)
            rows = (await session.scalars(chosen.order_by(MetadataRow.priority, MetadataRow.name))).all()
        return [_part(row) for row in rows]

    async def part(self, caller: Caller, group: str, cloud: str, name: str) -> dict[str, Any]:
        caller.must_see(group)
        async with self._database.read() as session:
            await _existing_owner(session, group, cloud)
            row = await session.get(MetadataRow, (group, cloud, name))
        if row is None:
            raise Problem(404, "no-such-metadata", f"{_owner(group, cloud)} has no metadata part {name}")
        return _part(row)

    async def put_part(self, caller: Caller, group: str, cloud: str, name: str, wish: dict[str, Any], *, dry_run: bool) -> Answer:
        caller.must_manage(group)

        async def work(session: AsyncSession) -> Answer:
            await _existing_owner(session, group, cloud)
            row = await session.get(MetadataRow, (group, cloud, name))
            before = _fields(row, METADATA_FIELDS)
            after = laying.lay_metadata(before, wish)
            if before != after and not dry_run:
                _write(session, row or MetadataRow(group_name=group, cloud=cloud, name=name), after)
            return _answer(_part_key(group, cloud, name), before, after)

        return await self._run(work, dry_run)

    async def delete_part(self, caller: Caller, group: str, cloud: str, name: str, *, dry_run: bool) -> Answer:
        caller.must_manage(group)

        async def work(session: AsyncSession) -> Answer:
            row = await session.get(MetadataRow, (group, cloud, name))
            if row is not None and not dry_run:
                await session.delete(row)
            return _answer(_part_key(group, cloud, name), _fields(row, METADATA_FIELDS), None)

        return await self._run(work, dry_run)

    # Inner

    async def _run(self, work: Work, dry_run: bool) -> Answer:
        if dry_run:
            async with self._database.read() as session:
                return await work(session)
        try:
            answer = await self._database.run(work)
        except IntegrityError as error:
            raise Problem(409, "conflict", "somebody else changed the same thing at this moment; ask again") from error
        if answer.changed:
            self._on_change()
        return answer

    def _cloud(self, row: CloudRow) -> dict[str, Any]:
        state = _cloud_state(row)
        assert state is not None
        return {"group": row.group_name, "name": row.name, **shown(state, self._stored(row))}

    def _stored(self, row: CloudRow | None) -> dict[str, str]:
        """The stored secrets; none where they no longer open: they then have to be given again, and are told as changed."""
        try:
            return open_secrets(row.auth_secrets if row is not None else None, self._box)
        except SecretError:
            return {}

    async def _must_be_empty(self, session: AsyncSession, group: str, cloud: str | None) -> None:
        """Raises 409 while VMs live there: without the account nobody could delete them."""
        living = select(func.count()).select_from(VmRow).where(VmRow.group_name == group, VmRow.state != VmState.GONE.value)
        if cloud is not None:
            living = living.where(VmRow.cloud == cloud)
        count = await session.scalar(living) or 0
        if count:
            what = f"group {group}" if cloud is None else f"cloud {group}/{cloud}"
            raise Problem(
                409,
                "vms-alive",
                f"{what} still has {count} VM{'s' if count > 1 else ''}; freeze it (frozen: true), let them go "
                "(POST .../clouds/CLOUD/retire, or drain: true in the module) and delete it when they are gone",
            )


def _fields(row: Any, names: tuple[str, ...]) -> dict[str, Any] | None:
    return None if row is None else {name: getattr(row, name) for name in names}


def _group(row: GroupRow) -> dict[str, Any]:
    return {"name": row.name, **(_fields(row, GROUP_FIELDS) or {})}


def _cloud_state(row: CloudRow | None) -> dict[str, Any] | None:
    state = _fields(row, CLOUD_FIELDS)
    return None if state is None or row is None else {**state, "auth": dict(row.auth)}


def _part_key(group: str, cloud: str, name: str) -> dict[str, Any]:
    return {"group": group, "cloud": cloud or None, "name": name}


def _part(row: MetadataRow) -> dict[str, Any]:
    return {**_part_key(row.group_name, row.cloud, row.name), **(_fields(row, METADATA_FIELDS) or {})}


def _answer(key: dict[str, Any], before: dict[str, Any] | None, after: dict[str, Any] | None) -> Answer:
    return Answer(
        changed=before != after,
        before=None if before is None else {**key, **before},
        after=None if after is None else {**key, **after},
        changed_secrets=[],
    )


def _write(session: AsyncSession, row: GroupRow | CloudRow | MetadataRow, state: dict[str, Any]) -> None:
    for name, value in state.items():
        setattr(row, name, value)
    session.add(row)


async def _existing_group(session: AsyncSession, name: str) -> GroupRow:
    row = await session.get(GroupRow, name)
    if row is None:
        raise Problem(404, "no-such-group", f"there is no group {name}; create it first (PUT /v1/groups/{name})")
    return row


async def _existing_cloud(session: AsyncSession, group: str, name: str) -> CloudRow:
    await _existing_group(session, group)
    row = await session.get(CloudRow, (group, name))
    if row is None:
        raise Problem(404, "no-such-cloud", f"group {group} has no cloud {name}")
    return row


async def _existing_owner(session: AsyncSession, group: str, cloud: str) -> None:
    await (_existing_cloud(session, group, cloud) if cloud else _existing_group(session, group))


async def _drop_metadata(session: AsyncSession, group: str, cloud: str | None) -> None:
    chosen = select(MetadataRow).where(MetadataRow.group_name == group)
    if cloud is not None:
        chosen = chosen.where(MetadataRow.cloud == cloud)
    for row in (await session.scalars(chosen)).all():
        await session.delete(row)


def _owner(group: str, cloud: str) -> str:
    return f"cloud {group}/{cloud}" if cloud else f"group {group}"
