"""The database of a service: SQLite by default, PostgreSQL by URL, migrated by Alembic from the service's own package data.

One writer at a time in SQLite (`BEGIN IMMEDIATE`), so that a transaction never fails half-way because another one wrote first.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from .locks import Exclusive, FileLock, PostgresLock

T = TypeVar("T")

_BUSY_SECONDS = 30.0
_BUSY_CODES = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock not available
_FULL_CODES = {"53100", "53200"}
_ATTEMPTS = 5
_MIGRATION_LOCK = 7_310_583_105_311_771


class DatabaseError(Exception):
    """The database cannot do what was asked; nothing was changed. The message names it and says what to do."""


class DatabaseBusy(DatabaseError):
    """Another process held the database for too long; the same transaction may be tried again."""


class DatabaseFull(DatabaseError):
    """No space left where the database lives."""


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached or opened."""


def translate(url: str) -> URL:
    """From the URL that admins write (`sqlite:///path`, `postgresql://...`) to the one with our asynchronous driver."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise DatabaseError(
            "database.url: is not a URL; write sqlite:////absolute/path.db or postgresql://user:password@host/name"
        ) from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise DatabaseError("database.url: SQLite needs a file, for example sqlite:////var/lib/distcloud/scheduler/scheduler.db")
        return parsed.set(drivername="sqlite+aiosqlite")
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise DatabaseError(f"database.url: {backend} is not supported; use sqlite or postgresql")


class Database:
    """Sessions, migrations and the one-at-a-time locks of one database."""

    def __init__(self, url: str, *, busy_seconds: float = _BUSY_SECONDS) -> None:
        self._url = translate(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._name = self._url.database if self.is_sqlite else f"{self._url.host or 'local socket'}/{self._url.database}"
        self._engine = self._make_engine(busy_seconds)
        self._write = async_sessionmaker(self._engine, expire_on_commit=False)
        self._read = async_sessionmaker(self._engine.execution_options(distcloud_read=True), expire_on_commit=False)

    def _make_engine(self, busy_seconds: float) -> AsyncEngine:
        if not self.is_sqlite:
            return create_async_engine(self._url, pool_size=5, max_overflow=5, pool_pre_ping=True, connect_args={"connect_timeout": 10})
        engine = create_async_engine(self._url, pool_size=5, max_overflow=5, connect_args={"timeout": busy_seconds})

        @event.listens_for(engine.sync_engine, "connect")
        def _connected(connection: Any, _record: ConnectionPoolEntry) -> None:
            # The driver's own implicit BEGIN is switched off: we say BEGIN ourselves, IMMEDIATE where we are going to write.
            connection.isolation_level = None
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {int(busy_seconds * 1000)}")
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA foreign_keys = ON")
            cursor.execute("PRAGMA synchronous = FULL")  # a row that was committed outlives a power cut: the ledger depends on it
            cursor.close()

        @event.listens_for(engine.sync_engine, "begin")
        def _begun(connection: Connection) -> None:
            reading = connection.get_execution_options().get("distcloud_read", False)
            connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

        return engine

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        """One write transaction: committed at the end, rolled back on any exception. Raises DatabaseError; integrity errors pass."""
        try:
            async with self._write() as session, session.begin():
                yield session
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as error:
            raise self._explained(error) from error

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """One consistent read; nothing may be written."""
        try:
            async with self._read() as session, session.begin():
                if not self.is_sqlite:
                    await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
                yield session
        except (SQLAlchemyError, OSError) as error:
            raise self._explained(error) from error

    async def run(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """`work` in one write transaction, repeated with back-off while the database is busy. `work` must have no other effects."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with self.begin() as session:
                    return await work(session)
            except DatabaseBusy:
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(random.uniform(0.05, 0.1) * 2**attempt)  # noqa: S311 - spreads retries, guards nothing
        raise AssertionError("unreachable")

    async def migrate(self, package: str) -> None:
        """Brings the schema to the newest version in `package`'s `migrations`; when two processes start at once, one waits."""
        location = resources.files(package).joinpath("migrations")

        def upgrade(connection: Connection) -> None:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            config = Config()
            config.set_main_option("script_location", str(location).replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

        logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of each of its plug-ins
        self._check_folder()
        # Two processes that open a new SQLite file at once disturb each other already by switching it to WAL.
        lock = FileLock(Path(f"{self._url.database}.migrating"), wait=_BUSY_SECONDS) if self.is_sqlite else nullcontext()
        try:
            async with lock, self._engine.begin() as connection:
                await connection.run_sync(upgrade)
        except (SQLAlchemyError, OSError) as error:
            raise self._explained(error) from error

    @asynccontextmanager
    async def exclusive(self, name: str) -> AsyncIterator[Exclusive | None]:
        """The right to be the only one called `name` on this database, or None when another process has it.

        It ends with the process, however that dies. `held()` says whether it still holds (a PostgreSQL connection can break).
        """
        if self.is_sqlite:
            self._check_folder()
            async with FileLock(Path(f"{self._url.database}.{name}"), wait=0.0) as file_lock:
                yield file_lock if await file_lock.held() else None
            return
        try:
            async with self._engine.connect() as connection:
                postgres = PostgresLock(connection, name)
                yield postgres if await postgres.take() else None
                await postgres.give_back()
        except (SQLAlchemyError, OSError) as error:
            raise self._explained(error) from error

    async def close(self) -> None:
        await self._engine.dispose()

    def _check_folder(self) -> None:
        if self.is_sqlite and self._url.database and not Path(self._url.database).absolute().parent.is_dir():
            folder = Path(self._url.database).absolute().parent
            raise DatabaseUnavailable(f"database {self._name}: folder {folder} does not exist; create it for the service's user")

    def _explained(self, error: BaseException) -> Exception:
        """Our own error for a driver's one: what it means and what to do, without the URL (it may hold a password)."""
        if isinstance(error, DatabaseError):
            return error
        original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        words = re.sub(r"\s+", " ", str(original)).strip()[:300]
        if self._url.password:
            words = words.replace(str(self._url.password), "********")
        code = str(getattr(original, "sqlstate", None) or "")
        low = words.lower()
        where = f"database {self._name}"
        if code in _BUSY_CODES or "is locked" in low or "database is busy" in low:
            return DatabaseBusy(f"{where}: held by another process for too long ({words}); tried again by itself")
        if code in _FULL_CODES or "disk is full" in low or "no space left" in low:
            return DatabaseFull(f"{where}: no space left ({words}); free some, nothing was changed")
        if code.startswith(("08", "57P", "28", "3D")) or any(
            sign in low
            for sign in ("unable to open", "i/o error", "readonly", "connection", "could not connect", "timeout", "permission denied")
        ):
            return DatabaseUnavailable(f"{where}: cannot be used ({words}); check that it runs, its rights and its space")
        return DatabaseError(f"{where}: {type(original).__name__}: {words}")
