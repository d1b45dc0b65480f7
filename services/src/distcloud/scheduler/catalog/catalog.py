"""The catalog: desired groups, clouds and metadata in the database. All writes of the API go through this module.

Every change returns the state before and after; a dry run computes the same result and stores nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from ...common.http.auth import Caller
from ...common.http.problems import FieldError, Problem
from ...common.http.resources import change_of, mask_secrets, merge_patch, reject, row_fields, row_state, store, write
from ...common.secretbox import SecretBox
from ...common.storage.database import Database
from ..authorization import is_cloud_admin, may_change_group, require_cloud_admin, require_group_admin
from ..domain.model import VmState
from ..store.tables import CloudRow, GroupRow, MetadataRow, VmRow
from ..worker.renderer import InProcessRenderer, PartRenderer, RenderingUnavailable
from . import merge
from .merge import CLOUD_DEFAULTS, GROUP_DEFAULTS, METADATA_DEFAULTS, redacted
from .schemas import CloudChange, CloudResponse, GroupChange, GroupResponse, MetadataChange, MetadataResponse

C = TypeVar("C", GroupChange, CloudChange, MetadataChange)
PartKey = tuple[str, str, str]  # group, cloud (empty for a part of the group), name

GROUP_FIELDS = tuple(GROUP_DEFAULTS)
CLOUD_FIELDS = ("region", *CLOUD_DEFAULTS)
METADATA_FIELDS = ("content", *METADATA_DEFAULTS)


class Catalog:
    """Reads and changes the catalog. `on_change` is called after each committed change."""

    def __init__(
        self,
        database: Database,
        box: SecretBox,
        on_change: Callable[[], None] = lambda: None,
        *,
        renderer: PartRenderer | None = None,
    ) -> None:
        """`renderer` checks metadata parts, by default in this process."""
        self._database = database
        self._box = box
        self._on_change = on_change
        self._renderer = renderer or InProcessRenderer()

    # Groups

    async def groups(self, caller: Caller) -> list[GroupResponse]:
        async with self._database.read() as session:
            rows = (await session.scalars(select(GroupRow).order_by(GroupRow.name))).all()
        return [_group(row.name, row_fields(row, GROUP_FIELDS)) for row in rows if caller.sees(row.name)]

    async def group(self, caller: Caller, name: str) -> GroupResponse:
        caller.require_group(name)
        async with self._database.read() as session:
            return _group(name, row_fields(await _existing_group(session, name), GROUP_FIELDS))

    async def put_group(self, caller: Caller, name: str, patch: dict[str, Any], *, dry_run: bool) -> GroupChange:
        require_group_admin(caller, name)

        async def work(session: AsyncSession) -> GroupChange:
            row = await session.get(GroupRow, name)
            if row is None:
                require_cloud_admin(caller, f"creating group {name}")
            before = row_state(row, GROUP_FIELDS)
            after = merge_patch(before, patch, GROUP_DEFAULTS)
            if before != after and not dry_run:
                store(session, row or GroupRow(name=name), after)
            return _group_change(name, before, after)

        return await self._write(work, dry_run)

    async def delete_group(self, caller: Caller, name: str, *, dry_run: bool) -> GroupChange:
        require_cloud_admin(caller, f"deleting group {name}")

        async def work(session: AsyncSession) -> GroupChange:
            row = await session.get(GroupRow, name)
            if row is None:
                return GroupChange(changed=False, before=None, after=None, changed_secrets=[])
            clouds = (await session.scalars(select(CloudRow.name).where(CloudRow.group_name == name).order_by(CloudRow.name))).all()
            if clouds:
                raise Problem(409, "group-in-use", f"group {name} still has clouds {', '.join(clouds)}; delete them first")
            await self._must_be_empty(session, name, None)
            response = _group_change(name, row_state(row, GROUP_FIELDS), None)
            if not dry_run:
                await _drop_metadata(session, name, None)
                await session.delete(row)
            return response

        return await self._write(work, dry_run)

    # Clouds

    async def clouds(self, caller: Caller, group: str) -> list[CloudResponse]:
        caller.require_group(group)
        async with self._database.read() as session:
            await _existing_group(session, group)
            rows = (await session.scalars(select(CloudRow).where(CloudRow.group_name == group).order_by(CloudRow.name))).all()
        return [self._shown_cloud(caller, row) for row in rows]

    async def cloud(self, caller: Caller, group: str, name: str) -> CloudResponse:
        caller.require_group(group)
        async with self._database.read() as session:
            return self._shown_cloud(caller, await _existing_cloud(session, group, name))

    async def put_cloud(self, caller: Caller, group: str, name: str, patch: dict[str, Any], *, dry_run: bool) -> CloudChange:
        require_group_admin(caller, group)
        if patch.get("enabled") is not None:
            require_cloud_admin(caller, f"setting enabled of cloud {group}/{name}")

        async def work(session: AsyncSession) -> CloudChange:
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
                require_cloud_admin(caller, f"changing {', '.join(location_fields)} of cloud {group}/{name}, which is enabled,")
            if credential_fields and enabled and row is not None and row.project is None:
                # Once the project is known, login refuses a credential of another one (`Credential.check_project`).
                unknown_project = "which is enabled and whose project is not known yet,"
                require_cloud_admin(caller, f"changing {', '.join(credential_fields)} of cloud {group}/{name}, {unknown_project}")
            changed = before != merged.state or bool(merged.changed_secrets) or set(stored) != set(merged.secrets)
            if changed and not dry_run:
                row = row or CloudRow(group_name=group, name=name)
                if merged.changed_secrets or set(stored) != set(merged.secrets):
                    row.auth_secrets = self._box.seal_mapping(merged.secrets)
                store(session, row, merged.state)
                if is_cloud_admin(caller) and (location_fields or credential_fields or (merged.state["enabled"] and not enabled)):
                    row.project = None  # the project of the new credential is the intended one
            return CloudChange(
                changed=changed,
                before=None if before is None else _cloud(group, name, before, stored),
                after=_cloud(group, name, merged.state, merged.secrets),
                changed_secrets=list(merged.changed_secrets),
            )

        return await self._write(work, dry_run)

    async def delete_cloud(self, caller: Caller, group: str, name: str, *, dry_run: bool) -> CloudChange:
        require_group_admin(caller, group)

        async def work(session: AsyncSession) -> CloudChange:
            # Locked against `Ledger.request` and `adopt`: a VM inserted after the count would be left without an account.
            row = await session.get(CloudRow, (group, name), with_for_update=not dry_run)
            if row is None:
                return CloudChange(changed=False, before=None, after=None, changed_secrets=[])
            await self._must_be_empty(session, group, name)
            before = self._cloud(row)
            if not dry_run:
                await _drop_metadata(session, group, name)
                await session.delete(row)
            return CloudChange(changed=True, before=before, after=None, changed_secrets=[])

        return await self._write(work, dry_run)

    # Metadata

    async def parts(self, caller: Caller, group: str, cloud: str) -> list[MetadataResponse]:
        """The metadata parts of a group (`cloud` empty) or of one of its clouds, in the order workers receive them."""
        caller.require_group(group)
        async with self._database.read() as session:
            await _existing_owner(session, group, cloud)
            chosen = select(MetadataRow).where(MetadataRow.group_name == group, MetadataRow.cloud == cloud)
            rows = (await session.scalars(chosen.order_by(MetadataRow.priority, MetadataRow.name))).all()
        return [_part(caller, (group, cloud, row.name), row_fields(row, METADATA_FIELDS)) for row in rows]

    async def part(self, caller: Caller, group: str, cloud: str, name: str) -> MetadataResponse:
        caller.require_group(group)
        async with self._database.read() as session:
            await _existing_owner(session, group, cloud)
            row = await session.get(MetadataRow, (group, cloud, name))
        if row is None:
            raise Problem(404, "no-such-metadata", f"{_owner(group, cloud)} has no metadata part {name}")
        return _part(caller, (group, cloud, name), row_fields(row, METADATA_FIELDS))

    async def put_part(self, caller: Caller, group: str, cloud: str, name: str, patch: dict[str, Any], *, dry_run: bool) -> MetadataChange:
        require_group_admin(caller, group)
        async with self._database.read() as session:
            await _existing_owner(session, group, cloud)
            stored = row_state(await session.get(MetadataRow, (group, cloud, name)), METADATA_FIELDS)
        checked = merge.merge_metadata(stored, patch)
        await self._check_content(group, stored, checked)

        async def work(session: AsyncSession) -> MetadataChange:
            await _existing_owner(session, group, cloud)
            row = await session.get(MetadataRow, (group, cloud, name))
            before = row_state(row, METADATA_FIELDS)
            after = merge.merge_metadata(before, patch)
            if _text(after) != _text(checked):
                raise Problem(409, "conflict", "the same resource was changed concurrently; try again")
            if before != after and not dry_run:
                store(session, row or MetadataRow(group_name=group, cloud=cloud, name=name), after)
            return _part_change(caller, (group, cloud, name), before, after)

        return await self._write(work, dry_run)

    async def delete_part(self, caller: Caller, group: str, cloud: str, name: str, *, dry_run: bool) -> MetadataChange:
        require_group_admin(caller, group)

        async def work(session: AsyncSession) -> MetadataChange:
            row = await session.get(MetadataRow, (group, cloud, name))
            if row is not None and not dry_run:
                await session.delete(row)
            return _part_change(caller, (group, cloud, name), row_state(row, METADATA_FIELDS), None)

        return await self._write(work, dry_run)

    async def _check_content(self, group: str, before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> None:
        """Raises Problem 422 if new content does not match its type. Call it outside a transaction: it may take a while."""
        if before is not None and _text(before) == _text(after):
            return  # so that a part that newer rules refuse can still be disabled
        try:
            wrong = await self._renderer.check(f"group {group}", after["content"], after["mime_type"])
        except RenderingUnavailable as error:
            raise Problem(503, "rendering", str(error), headers={"Retry-After": "10"}) from error
        if wrong:
            reject([FieldError("content", wrong)])

    # Helpers

    async def _write(self, work: Callable[[AsyncSession], Awaitable[C]], dry_run: bool) -> C:
        return await write(self._database, work, dry_run=dry_run, on_change=self._on_change)

    def _shown_cloud(self, caller: Caller, row: CloudRow) -> CloudResponse:
        """A cloud as the caller may see it: the account's names are of no use to those who only read."""
        found = self._cloud(row)
        if may_change_group(caller, row.group_name):
            return found
        return found.model_copy(update={"auth": merge.without_identity(found.auth)})

    def _cloud(self, row: CloudRow) -> CloudResponse:
        state = _cloud_state(row)
        assert state is not None
        return _cloud(row.group_name, row.name, state, self._stored(row))

    def _stored(self, row: CloudRow | None) -> dict[str, str]:
        return self._box.open_readable(row.auth_secrets if row is not None else None)

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


def _group(name: str, state: Mapping[str, Any]) -> GroupResponse:
    return GroupResponse(name=name, **state)


def _group_change(name: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> GroupChange:
    return change_of(GroupChange, before, after, lambda state: _group(name, state))


def _cloud(group: str, name: str, state: Mapping[str, Any], secrets: Mapping[str, str]) -> CloudResponse:
    return CloudResponse(group=group, name=name, **redacted(state, secrets))


def _cloud_state(row: CloudRow | None) -> dict[str, Any] | None:
    state = row_state(row, CLOUD_FIELDS)
    return None if state is None or row is None else {**state, "auth": dict(row.auth)}


def _text(state: Mapping[str, Any]) -> tuple[str, str]:
    return state["content"], state["mime_type"]


def _part(caller: Caller, key: PartKey, state: Mapping[str, Any]) -> MetadataResponse:
    """A part as the caller may see it: its content may hold credentials."""
    group, cloud, name = key
    shown = state if may_change_group(caller, group) else mask_secrets(state, ("content",))
    return MetadataResponse(group=group, cloud=cloud or None, name=name, content_bytes=len(state["content"].encode()), **shown)


def _part_change(caller: Caller, key: PartKey, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> MetadataChange:
    return change_of(MetadataChange, before, after, lambda state: _part(caller, key, state))


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
