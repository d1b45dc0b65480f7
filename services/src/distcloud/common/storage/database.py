"""The database of an engine: SQLite by default, PostgreSQL by URL, migrated by Alembic from the engine's own package data.

Engines may share one PostgreSQL database: the version table and every lock carry the engine's name.

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

from ..logs import MASK
from .locks import Exclusive, FileLock, PostgresLock, lock_key

T = TypeVar("T")

_BUSY_SECONDS = 30.0
# Nothing waits for a server that hangs, or for a network that drops packets: seconds, milliseconds for the last one.
_POSTGRES: dict[str, int] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
# The same for the server's end: the lock of a host that lost its power is released after seconds, not hours.
_POSTGRES_SERVER = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3, "tcp_user_timeout": 20_000}
_BUSY_CODES = {"40001", "40P01", "55P03", "57014"}  # serialization failure, deadlock, lock not available, statement timeout
_FULL_CODES = {"53100", "53200"}
_ATTEMPTS = 5


class DatabaseError(Exception):
    """The database operation failed and nothing was changed. The message names the database and the remedy."""


class DatabaseBusy(DatabaseError):
    """Another process held the database for too long; the same transaction may be retried."""


class DatabaseFull(DatabaseError):
    """No space left where the database lives."""


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached or opened."""


def translate(url: str) -> URL:
    """From the URL that admins write (`sqlite:///path`, `postgresql://...`) to the one with our asynchronous driver."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise DatabaseError("database.url: invalid URL; use sqlite:////absolute/path.db or postgresql://user:password@host/name") from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise DatabaseError("database.url: SQLite needs a file, for example sqlite:////var/lib/distcloud/ENGINE/ENGINE.db")
        return parsed.set(drivername="sqlite+aiosqlite")
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise DatabaseError(f"database.url: {backend} is not supported; use sqlite or postgresql")


def _server_settings(busy_seconds: float) -> str:
    """Command line options of a PostgreSQL session. A process that stalls within a transaction blocks others twice as long at most."""
    milliseconds = round(busy_seconds * 1000)
    limits = {
        "statement_timeout": milliseconds,
        "lock_timeout": milliseconds,
        "idle_in_transaction_session_timeout": 2 * milliseconds,
    }
    return " ".join(f"-c {name}={value}" for name, value in (limits | _POSTGRES_SERVER).items())


class Database:
    """Sessions, migrations and exclusive locks of one engine on one database."""

    def __init__(self, url: str, engine: str, *, busy_seconds: float = _BUSY_SECONDS) -> None:
        self._url = translate(url)
        self._owner = engine
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._name = self._url.database if self.is_sqlite else f"{self._url.host or 'local socket'}/{self._url.database}"
        self._engine = self._make_engine(busy_seconds)
        self._write = async_sessionmaker(self._engine, expire_on_commit=False)
        self._read = async_sessionmaker(self._engine.execution_options(distcloud_read=True), expire_on_commit=False)

    def _make_engine(self, busy_seconds: float) -> AsyncEngine:
        if not self.is_sqlite:
            arguments = _POSTGRES | {"options": _server_settings(busy_seconds)}
            return create_async_engine(self._url, pool_size=5, max_overflow=5, pool_pre_ping=True, connect_args=arguments)
        engine = create_async_engine(self._url, pool_size=5, max_overflow=5, connect_args={"timeout": busy_seconds})

        @event.listens_for(engine.sync_engine, "connect")
        def _connected(connection: Any, _record: ConnectionPoolEntry) -> None:
            # The driver's own implicit BEGIN is switched off: we issue BEGIN ourselves, IMMEDIATE for a write.
            connection.isolation_level = None
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {int(busy_seconds * 1000)}")
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA foreign_keys = ON")
            cursor.execute("PRAGMA synchronous = FULL")  # a committed row survives a power failure: a ledger depends on it
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
            raise self._translate_error(error) from error

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """One consistent read; nothing may be written."""
        try:
            async with self._read() as session, session.begin():
                if not self.is_sqlite:
                    await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
                yield session
        except (SQLAlchemyError, OSError) as error:
            raise self._translate_error(error) from error

    async def run(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """`work` in one write transaction, retried with back-off while the database is busy. `work` must have no other effects."""
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
        """Migrates the schema to the latest version in `package`'s `migrations`; concurrent calls wait for each other."""
        location = resources.files(package).joinpath("migrations")

        def upgrade(connection: Connection) -> None:
            if not self.is_sqlite:
                for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):  # a migration may take as long as it needs
                    connection.execute(text(f"SET LOCAL {limit} = 0"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock_key(f"{self._owner}/migrations")})
            config = Config()
            config.set_main_option("script_location", str(location).replace("%", "%%"))
            config.attributes["connection"] = connection
            config.attributes["version_table"] = f"alembic_version_{self._owner}"
            command.upgrade(config, "head")

        logging.getLogger("alembic").setLevel(logging.WARNING)  # it logs each of its plug-ins
        self._check_folder()
        # Two processes that open a new SQLite file at once conflict already when they switch it to WAL.
        lock = FileLock(Path(f"{self._url.database}.migrating"), wait=_BUSY_SECONDS) if self.is_sqlite else nullcontext()
        try:
            async with lock, self._engine.begin() as connection:
                await connection.run_sync(upgrade)
        except (SQLAlchemyError, OSError) as error:
            raise self._translate_error(error) from error

    @asynccontextmanager
    async def exclusive(self, name: str) -> AsyncIterator[Exclusive | None]:
        """The engine's exclusive lock `name` on this database, or None when another process holds it.

        It ends with the process, however that dies. `held()` checks it again (a PostgreSQL connection can break).
        """
        if self.is_sqlite:
            self._check_folder()
            async with FileLock(Path(f"{self._url.database}.{self._owner}.{name}"), wait=0.0) as file_lock:
                yield file_lock if await file_lock.held() else None
            return
        try:
            async with self._engine.connect() as connection:
                lock = PostgresLock(connection, f"{self._owner}/{name}")
                if not await lock.take():
                    yield None
                    return
                try:
                    yield lock
                finally:
                    await lock.release()
        except (SQLAlchemyError, OSError) as error:
            raise self._translate_error(error) from error

    async def close(self) -> None:
        await self._engine.dispose()

    def _check_folder(self) -> None:
        if self.is_sqlite and self._url.database and not Path(self._url.database).absolute().parent.is_dir():
            folder = Path(self._url.database).absolute().parent
            raise DatabaseUnavailable(f"database {self._name}: folder {folder} does not exist; create it for the service's user")

    def _translate_error(self, error: BaseException) -> Exception:
        """Our own error for a driver's: its meaning and the remedy, without the URL (which may hold a password)."""
        if isinstance(error, DatabaseError):
            return error
        original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        message = re.sub(r"\s+", " ", str(original)).strip()[:300]
        if self._url.password:
            message = message.replace(str(self._url.password), MASK)
        code = str(getattr(original, "sqlstate", None) or "")
        low = message.lower()
        where = f"database {self._name}"
        if code in _BUSY_CODES or "is locked" in low or "database is busy" in low:
            return DatabaseBusy(f"{where}: held by another process for too long ({message}); it is retried automatically")
        if code in _FULL_CODES or "disk is full" in low or "no space left" in low:
            return DatabaseFull(f"{where}: no space left ({message}); free some space, nothing was changed")
        if code == "42P01" or "no such table" in low:
            return DatabaseUnavailable(f"{where}: lacks a table ({message}); it was moved or replaced: restore it")
        if code.startswith(("08", "57P", "28", "3D")) or any(
            sign in low
            for sign in ("unable to open", "i/o error", "readonly", "connection", "could not connect", "timeout", "permission denied")
        ):
            return DatabaseUnavailable(f"{where}: unavailable ({message}); check that it runs, its permissions and its free space")
        return DatabaseError(f"{where}: {type(original).__name__}: {message}")
