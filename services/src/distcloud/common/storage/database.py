"""The database of an engine: SQLite by default, PostgreSQL by URL, migrated by Alembic from the engine's own package data.

Engines may share one PostgreSQL database: the version table and every lock carry the engine's name.

One writer at a time in SQLite (`BEGIN IMMEDIATE`), so that a transaction never fails half-way because another one wrote first.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from ..logs import get_logger
from .errors import (
    CommitUnknown,
    DatabaseBusy,
    DatabaseError,
    DatabaseFull,
    DatabaseUnavailable,
    SchemaError,
    TableMissing,
    explain,
    is_read_only,
)
from .locks import Exclusive, FileLock, PostgresLock, lock_key
from .schema import SchemaVersions, upgrade

__all__ = [
    "CommitUnknown",
    "Database",
    "DatabaseBusy",
    "DatabaseError",
    "DatabaseFull",
    "DatabaseUnavailable",
    "SchemaError",
    "TableMissing",
    "translate",
]

T = TypeVar("T")

log = get_logger(__name__)

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
_ATTEMPTS = 5


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


def _connect_arguments(url: URL, busy_seconds: float) -> dict[str, Any]:
    """psycopg's arguments for a PostgreSQL URL: our limits, except those that the URL itself sets."""
    query = url.normalized_query
    ours = {key: value for key, value in _POSTGRES.items() if key not in query}
    # Of two values for one setting the server takes the last.
    return {**ours, "options": " ".join([_server_settings(busy_seconds), *query.get("options", ())])}


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
            return self._make_postgres_engine(busy_seconds)
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

    def _make_postgres_engine(self, busy_seconds: float) -> AsyncEngine:
        engine = create_async_engine(
            self._url, pool_size=5, max_overflow=5, pool_pre_ping=True, connect_args=_connect_arguments(self._url, busy_seconds)
        )

        @event.listens_for(engine.sync_engine, "handle_error")
        def _failed(context: ExceptionContext) -> None:
            # After a failover new connections may reach the new primary; those of the pool stay on the old one, which answers.
            if is_read_only(context.original_exception):
                context.is_disconnect = True

        return engine

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        """One write transaction: committed at the end, rolled back on any exception. Raises DatabaseError; integrity errors pass."""
        committing = False
        try:
            async with self._write() as session, session.begin():
                yield session
                await session.flush()
                committing = True
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as error:
            raise self._explain(error, committing=committing) from error

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """One consistent read; nothing may be written."""
        try:
            async with self._read() as session, session.begin():
                if not self.is_sqlite:
                    await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
                yield session
        except (SQLAlchemyError, OSError) as error:
            raise self._explain(error) from error

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
        """Migrates the schema to the latest version in `package`'s `migrations`; concurrent calls wait for each other.

        A database that a newer release has migrated is used as it is. Raises DatabaseError; SchemaError if the migrations are faulty.
        """
        location = Path(str(resources.files(package).joinpath("migrations")))

        def migrate(connection: Connection) -> SchemaVersions:
            if not self.is_sqlite:
                self._lock_migrations(connection)
            return upgrade(connection, location, self._owner)

        self._check_folder()
        # Two processes that open a new SQLite file at once conflict already when they switch it to WAL.
        lock = FileLock(Path(f"{self._url.database}.migrating"), wait=math.inf, on_wait=self._log_wait) if self.is_sqlite else nullcontext()
        try:
            async with lock, self._engine.begin() as connection:
                versions = await connection.run_sync(migrate)
        except SchemaError as error:
            raise SchemaError(f"database {self._name}: {error}") from error
        except (SQLAlchemyError, OSError) as error:
            raise self._explain(error) from error
        if versions.after != versions.known:
            log.warning("schema_is_newer", database=self._name, version=versions.after, release_knows=versions.known)
        elif versions.after != versions.before:
            log.info("schema_migrated", database=self._name, version=versions.after, previous=versions.before)

    def _lock_migrations(self, connection: Connection) -> None:
        """Waits for another process's migration, however long that takes; the lock ends with the transaction."""
        key = {"key": lock_key(f"{self._owner}/migrations")}
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):  # a migration may take as long as it needs
            connection.execute(text(f"SET LOCAL {limit} = 0"))
        if connection.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), key):
            return
        self._log_wait()
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), key)
        connection.execute(text("SET LOCAL lock_timeout TO DEFAULT"))  # locks on tables keep their time limit

    def _log_wait(self) -> None:
        log.info("waiting_for_migration", database=self._name)

    @asynccontextmanager
    async def exclusive(self, name: str) -> AsyncIterator[Exclusive | None]:
        """The engine's exclusive lock `name` on this database, or None when another process holds it.

        It ends with the process, however that dies. `held()` checks it again (a PostgreSQL connection can break).
        """
        async with AsyncExitStack() as stack:
            try:
                lock = await self._take(name, stack)
            except (SQLAlchemyError, OSError) as error:
                raise self._explain(error) from error
            yield lock

    async def _take(self, name: str, stack: AsyncExitStack) -> Exclusive | None:
        """The lock if it could be taken; `stack` releases it."""
        if self.is_sqlite:
            self._check_folder()
            file_lock = await stack.enter_async_context(FileLock(Path(f"{self._url.database}.{self._owner}.{name}"), wait=0.0))
            return file_lock if await file_lock.held() else None
        lock = PostgresLock(await stack.enter_async_context(self._engine.connect()), f"{self._owner}/{name}")
        if not await lock.writable():
            raise DatabaseUnavailable(f"database {self._name}: its server is read-only, as a standby is; connect to the primary")
        if not await lock.take():
            return None
        stack.push_async_callback(lock.release)
        return lock

    async def close(self) -> None:
        await self._engine.dispose()

    def _check_folder(self) -> None:
        if self.is_sqlite and self._url.database and not Path(self._url.database).absolute().parent.is_dir():
            folder = Path(self._url.database).absolute().parent
            raise DatabaseUnavailable(f"database {self._name}: folder {folder} does not exist; create it for the service's user")

    def _explain(self, error: BaseException, *, committing: bool = False) -> DatabaseError:
        return explain(error, f"database {self._name}", password=self._url.password, committing=committing)
