"""The catalog: desired groups, clouds and metadata in the database. All writes of the API go through this module.

Every change returns the state before and after; a dry run computes the same result and stores nothing.
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
from . import merge
from .merge import CLOUD_DEFAULTS, GROUP_DEFAULTS, METADATA_DEFAULTS, redacted
from .schemas import ChangeResponse

Work = Callable[[AsyncSession], Awaitable[ChangeResponse]]

GROUP_FIELDS = tuple(GROUP_DEFAULTS)
CLOUD_FIELDS = ("region", *CLOUD_DEFAULTS)
METADATA_FIELDS = ("content", *METADATA_DEFAULTS)


def open_secrets(sealed: str | None, box: SecretBox) -> dict[str, str]:
    """Decrypt the secrets of a cloud's account. Raises SecretError if the key does not match."""
    if sealed is None:
        return {}
    opened: dict[str, str] = json.loads(box.open(sealed))
    return opened


class Catalog:
    """Reads and changes the catalog. `on_change` is called after each committed change."""

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

    async def put_group(self, caller: Caller, name: str, patch: dict[str, Any], *, dry_run: bool) -> ChangeResponse:
        caller.must_manage(name)

        async def work(session: AsyncSession) -> ChangeResponse:
            row = await session.get(GroupRow, name)
            if row is None:
                caller.must_be_cloud_admin(f"creating group {name}")
            before = _fields(row, GROUP_FIELDS)
            after = merge.merge_patch(before, patch, GROUP_DEFAULTS, ())
            if before != after and not dry_run:
                _write(session, row or GroupRow(name=name), after)
            return _response({"name": name}, before, after)

        return await self._run(work, dry_run)

    async def delete_group(self, caller: Caller, name: str, *, dry_run: bool) -> ChangeResponse:
        caller.must_be_cloud_admin(f"deleting group {name}")

        async def work(session: AsyncSession) -> ChangeResponse:
            row = await session.get(GroupRow, name)
            if row is None:
                return ChangeResponse(changed=False, before=None, after=None, changed_secrets=[])
            clouds = (await session.scalars(select(CloudRow.name).where(CloudRow.group_name == name).order_by(CloudRow.name))).all()
            if clouds:
                raise Problem(409, "group-in-use", f"group {name} still has clouds {', '.join(clouds)}; delete them first")
            await self._must_be_empty(session, name, None)
            response = _response({"name": name}, _fields(row, GROUP_FIELDS), None)
            if not dry_run:
                await _drop_metadata(session, name, None)
                await session.delete(row)
            return response

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

    async def put_cloud(self, caller: Caller, group: str, name: str, patch: dict[str, Any], *, dry_run: bool) -> ChangeResponse:
        caller.must_manage(group)
        if patch.get("enabled") is not None:
            caller.must_be_cloud_admin(f"setting enabled of cloud {group}/{name}")

        async def work(session: AsyncSession) -> ChangeResponse:
            await _existing_group(session, group)
            row = await session.get(CloudRow, (group, name), with_for_update=not dry_run)
            before = _cloud_state(row)
            stored = self._stored(row)
            merged = merge.merge_cloud(before, stored, patch)
            location_fields, credential_fields = (
                merge.changed_location(before, merged.state),
                merge.changed_credential(before, merged.state),
            )
            enabled = before is not None and before["enabled"]
            if location_fields and enabled:
                caller.must_be_cloud_admin(f"changing {', '.join(location_fields)} of cloud {group}/{name}, which is enabled,")
            if credential_fields and enabled and row is not None and row.project is None:
                # Once the project is known, login refuses a credential of another one (`Credential.check_project`).
                unknown_project = "which is enabled and whose project is not known yet,"
                caller.must_be_cloud_admin(f"changing {', '.join(credential_fields)} of cloud {group}/{name}, {unknown_project}")
            changed = before != merged.state or bool(merged.changed_secrets) or set(stored) != set(merged.secrets)
            if changed and not dry_run:
                row = row or CloudRow(group_name=group, name=name)
                if merged.changed_secrets or set(stored) != set(merged.secrets):
                    row.auth_secrets = self._box.seal(json.dumps(merged.secrets, sort_keys=True))
                _write(session, row, merged.state)
                if caller.is_cloud_admin and (location_fields or credential_fields or (merged.state["enabled"] and not enabled)):
                    row.project = None  # the project of the new credential is the intended one
            key = {"group": group, "name": name}
            return ChangeResponse(
                changed=changed,
                before=None if before is None else {**key, **redacted(before, stored)},
                after={**key, **redacted(merged.state, merged.secrets)},
                changed_secrets=list(merged.changed_secrets),
            )

        return await self._run(work, dry_run)

    async def delete_cloud(self, caller: Caller, group: str, name: str, *, dry_run: bool) -> ChangeResponse:
        caller.must_manage(group)

        async def work(session: AsyncSession) -> ChangeResponse:
            # Locked against `Ledger.request` and `adopt`: a VM inserted after the count would be left without an account.
            row = await session.get(CloudRow, (group, name), with_for_update=not dry_run)
            if row is None:
                return ChangeResponse(changed=False, before=None, after=None, changed_secrets=[])
            await self._must_be_empty(session, group, name)
            before = self._cloud(row)
            if not dry_run:
                await _drop_metadata(session, group, name)
                await session.delete(row)
            return ChangeResponse(changed=True, before=before, after=None, changed_secrets=[])

        return await self._run(work, dry_run)

    # Metadata

    async def parts(self, caller: Caller, group: str, cloud: str) -> list[dict[str, Any]]:
        """The metadata parts of a group (`cloud` empty) or of one of its clouds, in the order workers receive them."""
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

    async def put_part(self, caller: Caller, group: str, cloud: str, name: str, patch: dict[str, Any], *, dry_run: bool) -> ChangeResponse:
        caller.must_manage(group)

        async def work(session: AsyncSession) -> ChangeResponse:
            await _existing_owner(session, group, cloud)
            row = await session.get(MetadataRow, (group, cloud, name))
            before = _fields(row, METADATA_FIELDS)
            after = merge.merge_metadata(before, patch)
            if before != after and not dry_run:
                _write(session, row or MetadataRow(group_name=group, cloud=cloud, name=name), after)
            return _response(_part_key(group, cloud, name), before, after)

        return await self._run(work, dry_run)

    async def delete_part(self, caller: Caller, group: str, cloud: str, name: str, *, dry_run: bool) -> ChangeResponse:
        caller.must_manage(group)

        async def work(session: AsyncSession) -> ChangeResponse:
            row = await session.get(MetadataRow, (group, cloud, name))
            if row is not None and not dry_run:
                await session.delete(row)
            return _response(_part_key(group, cloud, name), _fields(row, METADATA_FIELDS), None)

        return await self._run(work, dry_run)

    # Helpers

    async def _run(self, work: Work, dry_run: bool) -> ChangeResponse:
        if dry_run:
            async with self._database.read() as session:
                return await work(session)
        try:
            response = await self._database.run(work)
        except IntegrityError as error:
            raise Problem(409, "conflict", "a concurrent request changed the same object; retry") from error
        if response.changed:
            self._on_change()
        return response

    def _cloud(self, row: CloudRow) -> dict[str, Any]:
        state = _cloud_state(row)
        assert state is not None
        return {"group": row.group_name, "name": row.name, **redacted(state, self._stored(row))}

    def _stored(self, row: CloudRow | None) -> dict[str, str]:
        """The stored secrets; empty if they can no longer be decrypted, so that they are required again and reported as changed."""
        try:
            return open_secrets(row.auth_secrets if row is not None else None, self._box)
        except SecretError:
            return {}

    async def _must_be_empty(self, session: AsyncSession, group: str, cloud: str | None) -> None:
        """Raises 409 while VMs exist: without the account they could not be deleted."""
        alive = select(func.count()).select_from(VmRow).where(VmRow.group_name == group, VmRow.state != VmState.GONE.value)
        if cloud is not None:
            alive = alive.where(VmRow.cloud == cloud)
        count = await session.scalar(alive) or 0
        if count:
            what = f"group {group}" if cloud is None else f"cloud {group}/{cloud}"
            raise Problem(
                409,
                "vms-alive",
                f"{what} still has {count} VM{'s' if count > 1 else ''}; freeze it (frozen: true), retire the VMs "
                "(POST .../clouds/CLOUD/retire, or drain: true in the module) and delete it once they are gone",
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


def _response(key: dict[str, Any], before: dict[str, Any] | None, after: dict[str, Any] | None) -> ChangeResponse:
    return ChangeResponse(
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
        raise Problem(404, "no-such-group", f"group {name} does not exist; create it first (PUT /v1/groups/{name})")
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
