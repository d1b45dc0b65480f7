"""Several engines on one database: migrations and locks of one are independent of those of another."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import textwrap
from pathlib import Path

import pytest
from sqlalchemy import text

from distcloud.common.storage.database import Database
from distcloud.common.storage.locks import PostgresLock

_names = itertools.count()


def make_package(folder: Path, table: str) -> str:
    """A Python package with a migration that creates one table."""
    name = f"engine_package_{next(_names)}"
    versions = folder / name / "migrations" / "versions"
    versions.mkdir(parents=True)
    (folder / name / "__init__.py").touch()
    (folder / name / "migrations" / "env.py").write_text("from distcloud.common.storage.migrations import run\n\nrun()\n")
    (versions / "0001_first.py").write_text(
        textwrap.dedent(
            f"""
            import sqlalchemy as sa
            from alembic import op

            revision = "0001"
            down_revision = None


            def upgrade():
                op.create_table("{table}", sa.Column("id", sa.Integer, primary_key=True))
            """
        )
    )
    return name


async def tables(database: Database) -> set[str]:
    names = "SELECT name FROM sqlite_master" if database.is_sqlite else "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    async with database.read() as session:
        return set((await session.scalars(text(names))).all())


async def advisory_locks(database: Database) -> int:
    async with database.read() as session:
        here = "(SELECT oid FROM pg_database WHERE datname = current_database())"
        return int(await session.scalar(text(f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = {here}")) or 0)


def test_each_engine_migrates_its_own_tables(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    packages = {"alpha": make_package(tmp_path, "apples"), "beta": make_package(tmp_path, "bananas")}

    async def main() -> set[str]:
        for engine, package in packages.items():
            database = Database(database_url, engine)
            await database.migrate(package)
            await database.migrate(package)
            found = await tables(database)
            await database.close()
        return found

    assert {"apples", "bananas", "alembic_version_alpha", "alembic_version_beta"} <= asyncio.run(main())


def test_engines_hold_locks_of_one_name(database_url: str) -> None:
    async def main() -> None:
        alpha, beta, second_alpha = (Database(database_url, name) for name in ("alpha", "beta", "alpha"))
        async with alpha.exclusive("engine") as first, beta.exclusive("engine") as second:
            assert first is not None and second is not None
            assert await first.held() and await second.held()
            async with second_alpha.exclusive("engine") as third:
                assert third is None
        for database in (alpha, beta, second_alpha):
            await database.close()

    asyncio.run(main())


def test_exception_releases_the_lock(database_url: str) -> None:
    async def main() -> None:
        first, second = Database(database_url, "alpha"), Database(database_url, "alpha")
        with pytest.raises(RuntimeError):
            async with first.exclusive("engine"):
                raise RuntimeError
        async with second.exclusive("engine") as lock:
            assert lock is not None
        await first.close()
        await second.close()

    asyncio.run(main())


def test_cancellation_releases_the_lock(database_url: str) -> None:
    async def main() -> None:
        first, second = Database(database_url, "alpha"), Database(database_url, "alpha")
        taken = asyncio.Event()

        async def hold() -> None:
            async with first.exclusive("engine"):
                taken.set()
                await asyncio.Event().wait()

        holder = asyncio.create_task(hold())
        await taken.wait()
        holder.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await holder
        async with second.exclusive("engine") as lock:
            assert lock is not None
        await first.close()
        await second.close()

    asyncio.run(main())


def test_standby_releases_nothing(postgres_url: str, postgres_server: Path) -> None:
    log = postgres_server / "log"
    warning = "you don't own a lock"
    before = log.read_text("utf-8").count(warning)

    async def main() -> None:
        first, second = Database(postgres_url, "alpha"), Database(postgres_url, "alpha")
        async with first.exclusive("engine"):
            async with second.exclusive("engine") as lock:
                assert lock is None
            assert await advisory_locks(first) == 1
        await first.close()
        await second.close()

    asyncio.run(main())
    assert log.read_text("utf-8").count(warning) == before


def test_another_lock_of_the_session_does_not_count(postgres_url: str) -> None:
    async def main() -> None:
        database = Database(postgres_url, "alpha")
        async with database._engine.connect() as connection:
            engine, other = PostgresLock(connection, "alpha/engine"), PostgresLock(connection, "alpha/other")
            assert await engine.take() and await engine.held()
            assert not await other.held()
        await database.close()

    asyncio.run(main())
