"""Each error of SQLite, PostgreSQL and the operating system becomes the right class, and a failover is survived."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from distcloud.common.storage.database import (
    CommitUnknown,
    Database,
    DatabaseBusy,
    DatabaseError,
    DatabaseFull,
    DatabaseUnavailable,
    TableMissing,
)
from distcloud.common.storage.errors import classify, explain

CREATE = "CREATE TABLE things (number INTEGER)"
INSERT = "INSERT INTO things VALUES (1)"


def wrapped(error: Exception, *, invalidated: bool = False) -> DBAPIError:
    """As SQLAlchemy raises it."""
    return DBAPIError("INSERT", {}, error, connection_invalidated=invalidated)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *[(code, DatabaseUnavailable) for code in ("08000", "08001", "08003", "08004", "08006", "08P01")],
        *[(code, DatabaseUnavailable) for code in ("57P01", "57P02", "57P03", "57P04", "57P05", "58030", "58P01")],
        *[(code, DatabaseUnavailable) for code in ("53000", "53200", "53300", "53400", "25006", "25P03", "28P01", "3D000", "42501")],
        *[(code, DatabaseBusy) for code in ("40001", "40P01", "55P03", "57014")],
        *[(code, CommitUnknown) for code in ("08007", "40003")],
        ("53100", DatabaseFull),
        ("42P01", TableMissing),
        *[(code, DatabaseError) for code in ("42601", "22001", "40002", "25P02")],
    ],
)
def test_each_sqlstate_has_its_class(code: str, kind: type[DatabaseError]) -> None:
    assert classify(wrapped(psycopg.errors.lookup(code)("reason"))) is kind


@pytest.mark.parametrize(
    "error",
    [
        wrapped(psycopg.OperationalError("consuming input failed: SSL error: unexpected eof while reading")),
        wrapped(psycopg.OperationalError("FATAL:  sorry, too many clients already")),
        wrapped(psycopg.DatabaseError("the session ended"), invalidated=True),
        OSError(errno.EROFS, "Read-only file system"),
    ],
)
def test_broken_connection_is_unavailable(error: Exception) -> None:
    assert classify(error) is DatabaseUnavailable


def test_word_connection_means_nothing() -> None:
    error = wrapped(psycopg.errors.UndefinedColumn('column "connection" does not exist'))
    assert classify(error) is DatabaseError


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_at_a_lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuses(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    async def main() -> None:
        database = Database(f"sqlite:///{tmp_path}/x.db", "demo")
        with pytest.raises(DatabaseFull, match=r"x\.db: no space left"):
            async with database.exclusive("engine"):
                pass

    monkeypatch.setattr("distcloud.common.storage.locks.os.open", refuses)
    asyncio.run(main())


def test_error_of_the_lock_holder_passes(database_url: str) -> None:
    async def main() -> None:
        database = Database(database_url, "demo")
        with pytest.raises(ConnectionResetError):
            async with database.exclusive("engine"):
                raise ConnectionResetError("a cloud's")
        await database.close()

    asyncio.run(main())


def test_locked_file_is_busy_for_each_operation(tmp_path: Path) -> None:
    async def main() -> None:
        database = Database(f"sqlite:///{tmp_path}/x.db", "scheduler", busy_seconds=0.05)
        await database.migrate("distcloud.scheduler")
        other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusy, match="another process"):
            await database.migrate("distcloud.scheduler")
        with pytest.raises(DatabaseBusy, match="another process"):
            await database.run(lambda session: session.execute(text("SELECT 1")))
        async with database.read() as session:  # the write-ahead log lets readers pass
            assert await session.scalar(text("SELECT 1")) == 1
        other.close()
        await database.close()

    asyncio.run(main())


def test_failed_commit_of_a_file_is_unknown() -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    assert isinstance(explain(wrapped(error), "database x", committing=True), CommitUnknown)
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    assert type(explain(wrapped(error), "database x", committing=True)) is DatabaseFull


@contextmanager
def read_only(url: str, server: Path) -> Iterator[None]:
    """New sessions on the database are read-only, as on a standby; at the end new ones can write again."""
    name = url.partition("@/")[2].partition("?")[0]
    with psycopg.connect(f"host={server} user=tester dbname=postgres", autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        try:
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")


async def execute(database: Database, statement: str) -> None:
    async with database.begin() as session:
        await session.execute(text(statement))


def test_read_only_connections_leave_the_pool(postgres_url: str, postgres_server: Path) -> None:
    async def main() -> None:
        database = Database(postgres_url, "demo")
        await execute(database, CREATE)
        await database.close()
        with read_only(postgres_url, postgres_server):
            entered = [database.read() for _ in range(3)]  # three pooled connections
            for each in entered:
                await (await each.__aenter__()).execute(text("SELECT 1"))
            for each in entered:
                await each.__aexit__(None, None, None)
            with pytest.raises(DatabaseUnavailable, match="read-only transaction"):
                await execute(database, INSERT)
        for _ in range(3):
            await execute(database, INSERT)
        await database.close()

    asyncio.run(main())


def test_read_only_server_has_no_leader(postgres_url: str, postgres_server: Path) -> None:
    async def main() -> None:
        database = Database(postgres_url, "demo")
        with read_only(postgres_url, postgres_server), pytest.raises(DatabaseUnavailable, match="read-only"):
            async with database.exclusive("engine"):
                pass
        await database.close()
        async with database.exclusive("engine") as lock:
            assert lock is not None and await lock.held()
            await lock._connection.execute(text("SET default_transaction_read_only = on"))  # type: ignore[attr-defined]
            await lock._connection.commit()  # type: ignore[attr-defined]
            assert not await lock.held()
        await database.close()

    asyncio.run(main())


class CutAtCommit:
    """A relay in front of PostgreSQL that passes COMMIT on and then drops the connection instead of the response."""

    def __init__(self, server: Path) -> None:
        self._server = server
        self.armed = False

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(str(self._server / ".s.PGSQL.5432"))
        cut = asyncio.Event()

        async def forward() -> None:
            while data := await reader.read(65536):
                if self.armed and b"COMMIT" in data:
                    cut.set()
                back.write(data)

        async def answer() -> None:
            while data := await there.read(65536):
                if cut.is_set():
                    return
                writer.write(data)

        tasks = {asyncio.create_task(forward()), asyncio.create_task(answer())}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        writer.close()
        back.close()


def test_connection_cut_at_the_commit_is_unknown(postgres_url: str, postgres_server: Path, tmp_path: Path) -> None:
    async def main() -> None:
        relay = CutAtCommit(postgres_server)
        listening = await asyncio.start_unix_server(relay, str(tmp_path / ".s.PGSQL.5432"))
        database = Database(postgres_url.replace(str(postgres_server), str(tmp_path)), "demo")
        await execute(database, CREATE)
        relay.armed = True
        attempts = 0

        async def work(session: object) -> None:
            nonlocal attempts
            attempts += 1
            await session.execute(text(INSERT))  # type: ignore[attr-defined]

        with pytest.raises(CommitUnknown, match="saved completely or not at all"):
            await database.run(work)
        relay.armed = False
        async with database.read() as session:
            assert await session.scalar(text("SELECT count(*) FROM things")) == attempts == 1
        await database.close()
        listening.close()

    asyncio.run(main())


def test_backend_that_dies_changes_nothing(postgres_url: str) -> None:
    async def main() -> None:
        database = Database(postgres_url, "demo")
        await execute(database, CREATE)
        with pytest.raises(DatabaseUnavailable) as caught:
            async with database.begin() as session:
                await session.execute(text(INSERT))
                await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        assert not isinstance(caught.value, CommitUnknown)
        async with database.read() as session:
            assert await session.scalar(text("SELECT count(*) FROM things")) == 0
        await database.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("query", "setting", "value"),
    [
        ("options=-csearch_path%3Delsewhere", "search_path", "elsewhere"),
        ("options=-csearch_path%3Delsewhere", "lock_timeout", "30s"),
        ("options=-c%20statement_timeout%3D5s", "statement_timeout", "5s"),
        ("application_name=ours", "application_name", "ours"),
    ],
)
def test_url_sets_options_of_the_session(postgres_url: str, query: str, setting: str, value: str) -> None:
    async def main() -> str | None:
        database = Database(f"{postgres_url}&{query}", "demo")
        async with database.begin() as session:
            found: str | None = await session.scalar(text(f"SHOW {setting}"))
        await database.close()
        return found

    assert asyncio.run(main()) == value


def test_url_sets_limits_of_the_client(postgres_url: str) -> None:
    async def main() -> dict[str, str]:
        database = Database(f"{postgres_url}&connect_timeout=3&tcp_user_timeout=7000", "demo")
        async with database.begin() as session:
            driver = (await (await session.connection()).get_raw_connection()).driver_connection
            found: dict[str, str] = driver.info.get_parameters()  # type: ignore[union-attr]
        await database.close()
        return found

    assert {"connect_timeout": "3", "tcp_user_timeout": "7000", "keepalives_idle": "10"}.items() <= asyncio.run(main()).items()
