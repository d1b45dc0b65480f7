"""Exclusive locks that end with the process that holds them: a locked file, or a session-level lock of PostgreSQL."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

_SECONDS = 10.0


class Exclusive(Protocol):
    """A lock that was acquired."""

    async def held(self) -> bool:
        """Whether we still hold it; checked before anything that two processes must never do at the same time."""
        ...


class FileLock:
    """`flock` on a file, with a timeout. The file stays: removing it would let two processes lock two files of one name.

    `on_wait` is called once if another process holds the lock.
    """

    def __init__(self, path: Path, *, wait: float, on_wait: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._wait = wait
        self._on_wait = on_wait
        self._descriptor: int | None = None

    async def __aenter__(self) -> Self:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if await self._take(descriptor):
                self._descriptor = descriptor
        finally:  # also when the wait is cancelled
            if self._descriptor is None:
                os.close(descriptor)
        return self

    async def _take(self, descriptor: int) -> bool:
        deadline = time.monotonic() + self._wait
        waiting = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    if self._wait:
                        raise TimeoutError(f"{self._path} is locked by another process") from None
                    return False
                if not waiting:
                    waiting = True
                    self._on_wait()
                await asyncio.sleep(0.05)
            else:
                return True

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    async def held(self) -> bool:
        return self._descriptor is not None


class PostgresLock:
    """A session-level advisory lock on a connection of its own; PostgreSQL releases it when that connection ends."""

    def __init__(self, connection: AsyncConnection, name: str) -> None:
        self._connection = connection
        self._key = lock_key(name)

    async def writable(self) -> bool:
        """Whether the server accepts writes; a standby grants advisory locks too, which nobody on the primary sees."""
        setting = await self._connection.scalar(text("SHOW transaction_read_only"))
        await self._connection.commit()
        return bool(setting == "off")

    async def take(self) -> bool:
        taken = await self._connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": self._key})
        await self._connection.commit()
        return bool(taken)

    async def held(self) -> bool:
        # pg_locks shows a 64-bit key as two unsigned halves, with objsubid 1.
        unsigned = self._key % 2**64
        query = text(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted AND objsubid = 1"
            " AND CAST(classid AS bigint) = :high AND CAST(objid AS bigint) = :low"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND current_setting('transaction_read_only') = 'off'"  # after a failover another process may hold it on the new primary
        )
        try:
            async with asyncio.timeout(_SECONDS):
                count = await self._connection.scalar(query, {"high": unsigned >> 32, "low": unsigned % 2**32})
                await self._connection.commit()
        except (SQLAlchemyError, OSError):
            return False
        return bool(count)

    async def release(self) -> None:
        """Call only after `take` returned True: PostgreSQL logs a warning for a lock that is not held."""
        try:
            async with asyncio.timeout(_SECONDS):
                await self._connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": self._key})
                await self._connection.commit()
        except BaseException as error:
            # A pooled connection would keep the lock until the process ends; closing the connection releases it.
            await self._connection.invalidate(error)
            if not isinstance(error, SQLAlchemyError | OSError):
                raise


def lock_key(name: str) -> int:
    """The signed 64-bit key of a named advisory lock."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8], "big", signed=True)
