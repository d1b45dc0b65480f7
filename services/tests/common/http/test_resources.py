"""PUT with a dry run: merging, masked secrets, and the change that is reported."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Integer, String
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from distcloud.common.http.problems import Problem
from distcloud.common.http.resources import (
    Change,
    change_of,
    changed_secrets,
    mask_secrets,
    merge_patch,
    merge_secrets,
    row_state,
    store,
    write,
)
from distcloud.common.http.schemas import Response
from distcloud.common.storage.database import Database

DEFAULTS = {"size": 1, "note": None}


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "rows"
    name: Mapped[str] = mapped_column(String, primary_key=True)
    size: Mapped[int] = mapped_column(Integer)


class Shown(Response):
    name: str
    size: int


def test_merge_creates_updates_and_resets() -> None:
    created = merge_patch(None, {"region": "a", "size": 3}, DEFAULTS, ("region",))
    assert created == {"region": "a", "size": 3, "note": None}
    assert merge_patch(created, {"size": None, "note": "x"}, DEFAULTS, ("region",)) == {"region": "a", "size": 1, "note": "x"}


@pytest.mark.parametrize(("before", "patch"), [(None, {}), (None, {"region": None}), ({"region": "a"}, {"region": None})])
def test_required_field_cannot_be_missing_or_reset(before: dict[str, object] | None, patch: dict[str, object]) -> None:
    with pytest.raises(Problem) as caught:
        merge_patch(before, patch, DEFAULTS, ("region",))
    assert caught.value.status == 422 and caught.value.errors[0].field == "region"


values = st.dictionaries(st.sampled_from(sorted(DEFAULTS)), st.none() | st.integers(), max_size=2)


@given(values, values)
def test_merge_is_idempotent(first: dict[str, int | None], second: dict[str, int | None]) -> None:
    before = merge_patch(None, first, DEFAULTS)
    after = merge_patch(before, second, DEFAULTS)
    assert merge_patch(after, second, DEFAULTS) == after
    assert merge_patch(before, {}, DEFAULTS) == before


def test_secrets_are_masked_and_compared() -> None:
    assert mask_secrets({"user": "u"}, {"password": "p"}) == {"user": "u", "password": "********"}
    given = {"password": "new", "token": "same", "key": None}
    assert changed_secrets(given, {"password": "old", "token": "same"}, "auth.") == ["auth.password"]
    assert changed_secrets({"password": "new"}, {}) == ["password"]


def test_secret_is_kept_replaced_or_removed() -> None:
    stored = {"password": "old", "token": "t"}
    assert merge_secrets(stored, {}) == (stored, [])
    assert merge_secrets(stored, {"password": "old"}) == (stored, [])
    assert merge_secrets(stored, {"password": "new"}) == ({"password": "new", "token": "t"}, ["password"])
    assert merge_secrets(stored, {"password": None, "key": "k"}) == ({"token": "t", "key": "k"}, ["key", "password"])
    assert merge_secrets({}, {"password": None}) == ({}, [])


def test_change_shows_both_states() -> None:
    def show(state: Mapping[str, object]) -> Shown:
        return Shown.model_validate({**state, "name": "a"})

    small, large = Shown(name="a", size=1), Shown(name="a", size=2)
    assert change_of(Change[Shown], None, {"size": 1}, show) == Change[Shown](changed=True, before=None, after=small, changed_secrets=[])
    assert change_of(Change[Shown], {"size": 1}, {"size": 2}, show).after == large
    assert not change_of(Change[Shown], {"size": 1}, {"size": 1}, show).changed
    secret = change_of(Change[Shown], {"size": 1}, {"size": 1}, show, ["password"])
    assert (secret.changed, secret.before, secret.after, secret.changed_secrets) == (True, small, small, ["password"])
    assert change_of(Change[Shown], {"size": 1}, None, show).after is None


def test_dry_run_reports_the_same_and_writes_nothing(database_url: str) -> None:
    async def main() -> None:
        database, changes = Database(database_url, "demo"), 0
        async with database._engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

        def count() -> None:
            nonlocal changes
            changes += 1

        async def put(size: int, *, dry_run: bool) -> Change[Shown]:
            async def work(session: AsyncSession) -> Change[Shown]:
                row = await session.get(Row, "a")
                before = row_state(row, ("name", "size"))
                after = merge_patch(before, {"size": size, "name": "a"}, {}, ("name", "size"))
                if before != after and not dry_run:
                    store(session, row or Row(), after)
                shown = None if before is None else Shown(**before)
                return Change[Shown](changed=before != after, before=shown, after=Shown(**after), changed_secrets=[])

            return await write(database, work, dry_run=dry_run, on_change=count)

        planned = await put(1, dry_run=True)
        assert changes == 0
        assert await put(1, dry_run=False) == planned and planned.changed and changes == 1
        assert (await put(2, dry_run=True)).before == Shown(name="a", size=1)
        assert not (await put(1, dry_run=False)).changed and changes == 1
        await database.close()

    asyncio.run(main())


def test_concurrent_creation_is_a_conflict(tmp_path: object) -> None:
    async def main() -> None:
        database = Database(f"sqlite:///{tmp_path}/x.db", "demo")

        async def work(session: AsyncSession) -> Change[Shown]:
            raise IntegrityError("INSERT", {}, RuntimeError("duplicate key"))

        with pytest.raises(Problem) as caught:
            await write(database, work, dry_run=False)
        assert (caught.value.status, caught.value.kind) == (409, "conflict")
        await database.close()

    asyncio.run(main())
