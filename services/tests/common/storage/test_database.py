"""The database layer on real SQLite and real PostgreSQL: migrations, transactions, locks, errors."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from distcloud.common.storage.database import Database, DatabaseBusy, DatabaseError, DatabaseFull, DatabaseUnavailable, translate
from distcloud.scheduler.store.tables import GroupRow, SiteRow

PACKAGE = "distcloud.scheduler"


def test_concurrent_migrations_create_one_identity(database_url: str) -> None:
    async def main() -> list[str]:
        databases = [Database(database_url, "scheduler") for _ in range(4)]
        await asyncio.gather(*(database.migrate(PACKAGE) for database in databases))
        seen = []
        for database in databases:
            async with database.read() as session:
                seen.append((await session.scalars(select(SiteRow.scheduler_uuid))).one())
            await database.close()
        return seen

    assert len(set(asyncio.run(main()))) == 1


def test_failed_transaction_changes_nothing(database_url: str) -> None:
    async def main() -> int | None:
        database = Database(database_url, "scheduler")
        await database.migrate(PACKAGE)
        with pytest.raises(RuntimeError):
            async with database.begin() as session:
                session.add(GroupRow(name="atlas", aliases={}))
                await session.flush()
                raise RuntimeError
        async with database.read() as session:
            count = await session.scalar(select(func.count()).select_from(GroupRow))
        await database.close()
        return count

    assert asyncio.run(main()) == 0


def test_concurrent_writers_all_succeed(database_url: str) -> None:
    async def main() -> int | None:
        database = Database(database_url, "scheduler")
        await database.migrate(PACKAGE)

        async def work(number: int) -> None:
            async def insert(session: object) -> None:
                count = await session.scalar(select(func.count()).select_from(GroupRow))  # type: ignore[attr-defined]
                session.add(GroupRow(name=f"g{number}-{count}", aliases={}))  # type: ignore[attr-defined]

            await database.run(insert)

        await asyncio.gather(*(work(number) for number in range(20)))
        async with database.read() as session:
            count = await session.scalar(select(func.count()).select_from(GroupRow))
        await database.close()
        return count

    assert asyncio.run(main()) == 20


def test_only_one_process_holds_the_lock(database_url: str) -> None:
    async def main() -> None:
        first, second = Database(database_url, "scheduler"), Database(database_url, "scheduler")
        await first.migrate(PACKAGE)
        async with first.exclusive("engine") as mine:
            assert mine is not None and await mine.held()
            async with second.exclusive("engine") as theirs:
                assert theirs is None
        async with second.exclusive("engine") as theirs:
            assert theirs is not None
        await first.close()
        await second.close()

    asyncio.run(main())


def test_broken_connection_loses_the_lock(postgres_url: str) -> None:
    async def main() -> None:
        database = Database(postgres_url, "scheduler")
        async with database.exclusive("engine") as mine:
            assert mine is not None and await mine.held()
            async with database.begin() as session:
                await session.execute(text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"))
            assert not await mine.held()
        await database.close()

    asyncio.run(main())


def test_error_names_locked_sqlite_file(tmp_path: Path) -> None:
    async def main() -> None:
        database = Database(f"sqlite:///{tmp_path}/x.db", "scheduler", busy_seconds=0.1)
        await database.migrate(PACKAGE)
        other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusy, match=r"x\.db.*another process"):
            async with database.begin() as session:
                session.add(GroupRow(name="a", aliases={}))

        async def later() -> None:
            await asyncio.sleep(0.3)
            other.execute("COMMIT")

        async def insert(session: object) -> None:
            session.add(GroupRow(name="a", aliases={}))  # type: ignore[attr-defined]

        await asyncio.gather(later(), database.run(insert))
        other.close()
        await database.close()

    asyncio.run(main())


def test_full_disk_keeps_the_file_intact(tmp_path: Path) -> None:
    async def main() -> None:
        database = Database(f"sqlite:///{tmp_path}/x.db", "scheduler")
        await database.migrate(PACKAGE)
        async with database.begin() as session:
            session.add(GroupRow(name="before", aliases={}))
        with pytest.raises(DatabaseFull, match="no space left"):
            async with database.begin() as session:
                pages = await session.scalar(text("PRAGMA page_count"))
                await session.execute(text(f"PRAGMA max_page_count = {pages}"))
                for number in range(2000):
                    session.add(GroupRow(name=f"g{number}", aliases={"filler": "x" * 500}))
                await session.flush()
        await database.close()
        again = Database(f"sqlite:///{tmp_path}/x.db", "scheduler")
        async with again.read() as session:
            assert (await session.scalars(select(GroupRow.name))).all() == ["before"]
            assert await session.scalar(text("PRAGMA integrity_check")) == "ok"
        await again.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "words"),
    [("mysql://u:hidden@h/d", "not supported"), ("sqlite://", "needs a file"), ("nonsense", "invalid URL")],
)
def test_url_errors_hide_the_password(url: str, words: str) -> None:
    with pytest.raises(DatabaseError, match=words) as caught:
        translate(url)
    assert "hidden" not in str(caught.value)


def test_error_names_unreachable_database(tmp_path: Path) -> None:
    async def main() -> None:
        for url in ("postgresql://u:hidden@127.0.0.1:1/d", f"sqlite:///{tmp_path}/missing/x.db"):
            database = Database(url, "scheduler")
            with pytest.raises(DatabaseUnavailable) as caught:
                await database.migrate(PACKAGE)
            assert "hidden" not in str(caught.value)
            await database.close()

    asyncio.run(main())
