"""Time limits of PostgreSQL: nothing waits forever for a lock, a statement, a silent server or an idle transaction."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from distcloud.common.storage import database as module
from distcloud.common.storage.database import Database, DatabaseBusy, DatabaseUnavailable

from .test_engines_share_database import make_package, tables

BUSY = 0.4  # seconds; an idle transaction ends after twice as long
INSERT = text("INSERT INTO entries VALUES (1)")


def run(script: Coroutine[Any, Any, None]) -> None:
    async def main() -> None:
        async with asyncio.timeout(25):  # less than the limits of a service
            await script

    asyncio.run(main())


async def opened(url: str) -> Database:
    database = Database(url, "demo", busy_seconds=BUSY)
    async with database.begin() as session:
        await session.execute(text("CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY)"))
    return database


def test_long_statement_is_ended(postgres_url: str) -> None:
    async def script() -> None:
        database = await opened(postgres_url)
        with pytest.raises(DatabaseBusy, match="statement timeout"):
            async with database.begin() as session:
                await session.execute(INSERT)
                await session.execute(text("SELECT pg_sleep(20)"))
        async with database.begin() as session:
            assert await session.scalar(text("SELECT count(*) FROM entries")) == 0
        await database.close()

    run(script())


def test_wait_for_a_row_ends_and_is_repeated(postgres_url: str) -> None:
    async def script() -> None:
        database, other = await opened(postgres_url), Database(postgres_url, "demo")
        attempts = 0
        holding, release = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            async with other.begin() as session:
                await session.execute(INSERT)
                holding.set()
                await release.wait()
                await session.rollback()

        async def insert(session: AsyncSession) -> None:
            nonlocal attempts
            attempts += 1
            if attempts == 2:
                release.set()
            await session.execute(INSERT)

        holder = asyncio.create_task(hold())
        await holding.wait()
        await database.run(insert)
        assert attempts >= 2
        await holder
        await database.close()
        await other.close()

    run(script())


def test_migration_may_take_longer(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    package = make_package(tmp_path, "apples")
    slow = f"op.execute('SELECT pg_sleep({2 * BUSY})'); __import__('time').sleep({3 * BUSY}); op.create_table"
    (step,) = (tmp_path / package / "migrations" / "versions").glob("*.py")
    step.write_text(step.read_text().replace("op.create_table", slow))

    async def script() -> None:
        database = await opened(postgres_url)
        await database.migrate(package)
        assert "apples" in await tables(database)
        # The limit is back for what uses the same connection next.
        with pytest.raises(DatabaseBusy):
            async with database.begin() as session:
                await session.execute(text("SELECT pg_sleep(20)"))
        await database.close()

    run(script())


def test_idle_transaction_blocks_nobody_for_long(postgres_url: str) -> None:
    async def script() -> None:
        stalled, other = await opened(postgres_url), Database(postgres_url, "demo", busy_seconds=10)
        with pytest.raises(DatabaseUnavailable):
            async with stalled.begin() as session:
                await session.execute(INSERT)
                async with other.begin() as waiting:
                    await waiting.execute(INSERT)
                await session.execute(text("SELECT 1"))
        async with stalled.begin() as session:
            assert await session.scalar(text("SELECT count(*) FROM entries")) == 1, "the pool replaces the connection that was ended"
        await stalled.close()
        await other.close()

    run(script())


def test_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._POSTGRES, "connect_timeout", 2)

    async def script() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            database = Database(f"postgresql://u:hidden@127.0.0.1:{silent.getsockname()[1]}/d", "demo")
            with pytest.raises(DatabaseUnavailable) as caught:
                async with database.begin() as session:
                    await session.connection()
            assert "hidden" not in str(caught.value)
            await database.close()

    run(script())


def test_every_connection_has_the_limits(postgres_url: str) -> None:
    async def script() -> None:
        database = Database(postgres_url, "demo")
        for transaction in (database.begin, database.read):
            async with transaction() as session:
                names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
                assert [await session.scalar(text(f"SHOW {name}")) for name in names] == ["30s", "30s", "1min"]
                connection = (await (await session.connection()).get_raw_connection()).driver_connection
                assert connection is not None
                asked = connection.info.get_parameters()
                client = {"connect_timeout": "10", "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3"}
                assert client.items() <= asked.items() and asked["tcp_user_timeout"] == "20000"
                # The server can only show that it was asked: a Unix socket has none of these.
                server = {"tcp_keepalives_idle=10", "tcp_keepalives_interval=5", "tcp_keepalives_count=3", "tcp_user_timeout=20000"}
                assert server <= set(asked["options"].split())
        await database.close()

    run(script())
