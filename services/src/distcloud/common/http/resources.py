"""Resources behind `PUT` with a dry run: merge a partial update, write the row, and report the state before and after.

Ansible modules rely on this contract: a dry run computes the same `changed`, `before`, `after` and `changed_secrets` and writes nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Generic, Protocol, TypeVar

from fastapi import Query
from pydantic import Field
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from ..logs import MASK
from ..storage.database import Database
from .problems import FieldError, Problem
from .schemas import Response

T = TypeVar("T", bound=Response)
State = Mapping[str, Any]
DryRun = Annotated[bool, Query(description="return what would change without changing it")]


class Change(Response, Generic[T]):
    """What a PUT or DELETE did, or in a dry run would do. Secrets show as ********."""

    changed: bool
    before: T | None
    after: T | None
    changed_secrets: Annotated[list[str], Field(description="given secrets that differ from the stored ones, dotted")]


class _HasChanged(Protocol):
    @property
    def changed(self) -> bool: ...


C = TypeVar("C", bound=_HasChanged)
M = TypeVar("M", bound=Change[Any])


def merge_patch(before: State | None, patch: State, defaults: State, required: Sequence[str] = ()) -> dict[str, Any]:
    """The state after a partial update; null resets a field to its default. `before` is None for a new resource.

    Raises Problem 422 where a field without a default is missing or reset.
    """
    after = dict(defaults if before is None else before)
    errors = []
    for key, value in patch.items():
        if value is None and key in required:
            errors.append(FieldError(key, "has no default; give a value"))
        else:
            after[key] = defaults[key] if value is None else value
    errors += [FieldError(key, "is required for a new resource") for key in required if key not in after and key not in patch]
    reject(errors)
    return after


def reject(errors: Sequence[FieldError]) -> None:
    """Raise the errors as one Problem 422, if there are any."""
    if errors:
        raise Problem(422, "invalid", "; ".join(f"{error.field}: {error.message}" for error in errors), errors)


def changed_secrets(given: Mapping[str, str | None], stored: Mapping[str, str], prefix: str = "") -> list[str]:
    """The names of given secrets that differ from the stored ones; compared in constant time."""
    return [prefix + name for name, value in given.items() if value is not None and not _same(stored.get(name), value)]


def merge_secrets(stored: Mapping[str, str], given: Mapping[str, str | None]) -> tuple[dict[str, str], list[str]]:
    """The secrets after a partial update, and the names of those that differ; null removes one."""
    merged = {name: value for name, value in {**stored, **given}.items() if value is not None}
    return merged, sorted([*changed_secrets(given, stored), *(stored.keys() - merged.keys())])


def mask_secrets(state: State, secrets: Iterable[str]) -> dict[str, Any]:
    """The state with a mask for every secret that is set."""
    return {**state, **dict.fromkeys(secrets, MASK)}


def change_of(
    kind: type[M], before: State | None, after: State | None, show: Callable[[State], Response], secrets: Sequence[str] = ()
) -> M:
    """The change between two states, each shown to the caller by `show`; None stands for no resource, `secrets` are the changed ones."""
    return kind(
        changed=before != after or bool(secrets),
        before=None if before is None else show(before),
        after=None if after is None else show(after),
        changed_secrets=list(secrets),
    )


async def write(
    database: Database,
    work: Callable[[AsyncSession], Awaitable[C]],
    *,
    dry_run: bool,
    on_change: Callable[[], None] = lambda: None,
) -> C:
    """Run `work` in one transaction, in a read-only one for a dry run; `on_change` is called after a committed change."""
    if dry_run:
        async with database.read() as session:
            return await work(session)
    try:
        result = await database.run(work)
    except IntegrityError as error:
        raise Problem(409, "conflict", "the same resource was changed concurrently; try again") from error
    if result.changed:
        on_change()
    return result


def row_fields(row: Any, fields: Sequence[str]) -> dict[str, Any]:
    """The named columns of a row."""
    return {name: getattr(row, name) for name in fields}


def row_state(row: Any, fields: Sequence[str]) -> dict[str, Any] | None:
    """The named columns of a row; None for no row."""
    return None if row is None else row_fields(row, fields)


def store(session: AsyncSession, row: Any, state: State) -> None:
    """Write the state to a new or existing row."""
    for name, value in state.items():
        setattr(row, name, value)
    session.add(row)


def _same(old: str | None, new: str) -> bool:
    return old is not None and hmac.compare_digest(old.encode("utf-8"), new.encode("utf-8"))
