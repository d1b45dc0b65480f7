"""What the errors of SQLite, PostgreSQL and their drivers mean for a caller."""

from __future__ import annotations

import errno
import re
import sqlite3

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ..logs import MASK


class DatabaseError(Exception):
    """The database operation failed and nothing was changed. The message names the database and the remedy."""


class DatabaseBusy(DatabaseError):
    """Another process held the database for too long; the same transaction may be retried."""


class DatabaseFull(DatabaseError):
    """No space left where the database lives."""


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached, opened or written."""


class CommitUnknown(DatabaseUnavailable):
    """The connection broke during a commit: the transaction was either saved completely or not at all."""


class TableMissing(DatabaseUnavailable):
    """The database lacks a table of the schema that it was migrated to."""


class SchemaError(DatabaseError):
    """This release cannot migrate the schema; trying again is pointless until an operator acts."""


READ_ONLY = "25006"
# SQLSTATE or a prefix of it; the longest that matches counts. https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRES: dict[str, type[DatabaseError]] = {
    "08": DatabaseUnavailable,  # connection exception
    "08007": CommitUnknown,
    READ_ONLY: DatabaseUnavailable,  # read-only transaction: a standby, or a former primary after a failover
    "25P03": DatabaseUnavailable,  # idle-in-transaction timeout, which ends the session
    "25P04": DatabaseUnavailable,  # transaction timeout, which ends the session
    "28": DatabaseUnavailable,  # invalid authorization
    "3D": DatabaseUnavailable,  # no such database
    "40001": DatabaseBusy,  # serialization failure; on a standby also a conflict with recovery
    "40003": CommitUnknown,
    "40P01": DatabaseBusy,  # deadlock
    "42501": DatabaseUnavailable,  # insufficient privilege
    "42P01": TableMissing,
    "53": DatabaseUnavailable,  # insufficient resources: memory, connections, a configured limit
    "53100": DatabaseFull,
    "55P03": DatabaseBusy,  # lock timeout
    "57014": DatabaseBusy,  # statement timeout
    "57P": DatabaseUnavailable,  # shutdown, crash, starting up, database dropped, idle session timeout
    "58": DatabaseUnavailable,  # system error: input/output, missing file
}
# Primary result codes. https://www.sqlite.org/rescode.html
_SQLITE: dict[int, type[DatabaseError]] = {
    sqlite3.SQLITE_PERM: DatabaseUnavailable,
    sqlite3.SQLITE_BUSY: DatabaseBusy,
    sqlite3.SQLITE_LOCKED: DatabaseBusy,
    sqlite3.SQLITE_NOMEM: DatabaseUnavailable,
    sqlite3.SQLITE_READONLY: DatabaseUnavailable,
    sqlite3.SQLITE_IOERR: DatabaseUnavailable,
    sqlite3.SQLITE_CORRUPT: DatabaseUnavailable,
    sqlite3.SQLITE_FULL: DatabaseFull,
    sqlite3.SQLITE_CANTOPEN: DatabaseUnavailable,
    sqlite3.SQLITE_PROTOCOL: DatabaseBusy,  # too many attempts to lock the write-ahead log
    sqlite3.SQLITE_NOTADB: DatabaseUnavailable,
}

_MESSAGES: dict[type[DatabaseError], str] = {
    DatabaseBusy: "held by another process for too long ({}); it is retried automatically",
    DatabaseFull: "no space left ({}); free some space, nothing was changed",
    TableMissing: "lacks a table ({}); it was moved or replaced: restore it",
    CommitUnknown: "failed during a commit ({}), which was saved completely or not at all; check which before you repeat the change",
    DatabaseUnavailable: "unavailable ({}); check that it runs, its permissions and its free space",
}


def explain(error: BaseException, database: str, *, password: str | None = None, committing: bool = False) -> DatabaseError:
    """Our own error for a driver's: its meaning and the remedy, without the password. `committing`: it was raised by the commit."""
    if isinstance(error, DatabaseError):
        return error
    kind = classify(error)
    if committing and kind is DatabaseUnavailable:
        kind = CommitUnknown
    original = cause(error)
    message = re.sub(r"\s+", " ", str(original)).strip()[:300] or type(original).__name__
    if password:
        message = message.replace(password, MASK)
    text = _MESSAGES[kind].format(message) if kind in _MESSAGES else f"{type(original).__name__}: {message}"
    return kind(f"{database}: {text}")


def is_read_only(error: BaseException | None) -> bool:
    """Whether a PostgreSQL server refused to write, as a standby does."""
    return isinstance(error, psycopg.Error) and error.sqlstate == READ_ONLY


def classify(error: BaseException) -> type[DatabaseError]:
    """The class of an error of SQLAlchemy, of a driver, or of the operating system."""
    original = cause(error)
    if isinstance(original, sqlite3.Error):
        return _of_sqlite(original)
    if isinstance(original, psycopg.Error):
        return _of_postgres(original, isinstance(error, DBAPIError) and error.connection_invalidated)
    if isinstance(original, BlockingIOError):
        return DatabaseBusy
    if isinstance(original, OSError):
        return DatabaseFull if original.errno in (errno.ENOSPC, errno.EDQUOT) else DatabaseUnavailable
    return DatabaseUnavailable if isinstance(error, PoolTimeout) else DatabaseError


def cause(error: BaseException) -> BaseException:
    """The driver's error inside SQLAlchemy's."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _of_sqlite(error: sqlite3.Error) -> type[DatabaseError]:
    if "no such table" in str(error).lower():  # has no result code of its own
        return TableMissing
    return _SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, DatabaseError)  # the other bits are details


def _of_postgres(error: psycopg.Error, disconnected: bool) -> type[DatabaseError]:
    code = error.sqlstate or ""
    found = next((_POSTGRES[code[:length]] for length in (5, 3, 2) if code[:length] in _POSTGRES), DatabaseError)
    # The client library reports a broken or refused connection, TLS included, without an SQLSTATE.
    if found is DatabaseError and (disconnected or (not code and isinstance(error, psycopg.OperationalError))):
        return DatabaseUnavailable
    return found
