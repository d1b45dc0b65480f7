"""One-at-a-time rights that end with the process that holds them: a locked file, or a session lock of PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection


class Exclusive(Protocol):
    """A right that was granted."""

    async def held(self) -> bool:
        """Whether it is still ours: asked before anything is done that two must never do."""
        ...


class FileLock:
    """`flock` on a file, with a wait. The file stays: removing it would let two processes lock two files of one name."""

    def __init__(self, path: Path, *, wait: float) -> None:
        self._path = path
        self._wait = wait
        self._descriptor: int | None = None

    async def __aenter__(self) -> Self:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if await self._take(descriptor):
                self._descriptor = descriptor
        finally:  # also when the wait is cut off
            if self._descriptor is None:
                os.close(descriptor)
        return self

    async def _take(self, descriptor: int) -> bool:
        deadline = time.monotonic() + self._wait
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    if self._wait:
                        raise TimeoutError(f"{self._path} is locked by another process") from None
                    return False
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
    """A session-level advisory lock on a connection of its own; PostgreSQL drops it when that connection ends."""

    def __init__(self, connection: AsyncConnection, name: str) -> None:
        self._connection = connection
        self._key = int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8], "big", signed=True)

    async def take(self) -> bool:
        taken = await self._connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": self._key})
        await self._connection.commit()
        return bool(taken)

    async def held(self) -> bool:
        try:
            async with asyncio.timeout(10):
                count = await self._connection.scalar(
                    text(
                        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted"
                        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                    )
                )
                await self._connection.commit()
        except (SQLAlchemyError, OSError):
            return False
        return bool(count)

    async def give_back(self) -> None:
        with contextlib.suppress(SQLAlchemyError, OSError):
            await self._connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": self._key})
            await self._connection.commit()
