"""The control loop: one leader, failures of a cycle, and a stuck loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from distcloud.common.control.loop import ControlLoop, LockLost, LoopStatus
from distcloud.common.storage.database import Database, DatabaseUnavailable


class Foreseen(Exception):
    pass


async def nothing(_lost: bool = False) -> None:
    return None


def make(database: Database, cycle: Callable[[], Awaitable[None]] = nothing, **options: Any) -> ControlLoop:
    given: dict[str, Any] = {"start": nothing, "close": nothing, "seconds": 0.01, "expected": (Foreseen,), **options}
    return ControlLoop(database, cycle, **given)


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - conditions of others
            await asyncio.sleep(0.01)


def test_second_engine_waits_for_the_first(database_url: str) -> None:
    async def main() -> None:
        databases = [Database(database_url, "demo") for _ in range(2)]
        stops = [asyncio.Event(), asyncio.Event()]
        calls: list[str] = []

        async def start() -> None:
            calls.append("start")

        async def close(_lost: bool) -> None:
            calls.append("close")

        first, second = (make(database, start=start, close=close) for database in databases)
        leading = asyncio.create_task(first.run(stops[0]))
        await eventually(lambda: first.status.cycles)
        waiting = asyncio.create_task(second.run(stops[1]))
        await eventually(lambda: second.status.waits_for)
        assert second.problem() == "another engine runs on this database; waiting for it to stop"
        assert not second.status.cycles and not second.stuck()
        stops[0].set()
        await leading
        await eventually(lambda: second.status.cycles)
        assert second.problem() == "" and first.last_cycle_age() is not None
        stops[1].set()
        await waiting
        assert calls == ["start", "close"] * 2
        for database in databases:
            await database.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("error", "field", "message"),
    [
        (DatabaseUnavailable("database x: unavailable"), "database", "database x: unavailable"),
        (Foreseen("matching failed"), "failure", "matching failed"),
        (RuntimeError("unmistakable"), "failure", "the last cycle failed: RuntimeError; see the log"),
    ],
)
def test_error_fails_only_the_current_cycle(database_url: str, error: Exception, field: str, message: str) -> None:
    async def main() -> None:
        database, stop = Database(database_url, "demo"), asyncio.Event()
        pending: list[Exception] = [error]
        seen: list[str] = []

        async def cycle() -> None:
            if pending:
                raise pending.pop()
            seen.append(getattr(loop.status, field))

        loop = make(database, cycle, seconds=0.05)
        running = asyncio.create_task(loop.run(stop))
        await eventually(lambda: loop.status.cycles)
        assert seen[0] == message
        assert loop.problem() == ""
        stop.set()
        await running
        await database.close()

    asyncio.run(main())


def test_lost_lock_ends_the_loop(postgres_url: str) -> None:
    from sqlalchemy import text

    async def main() -> None:
        database, closed = Database(postgres_url, "demo"), asyncio.Event()

        async def close(_lost: bool) -> None:
            closed.set()

        loop = make(database, close=close)
        running = asyncio.create_task(loop.run(asyncio.Event()))
        await eventually(lambda: loop.status.cycles)
        async with database.begin() as session:
            here = "(SELECT oid FROM pg_database WHERE datname = current_database())"
            query = f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = {here}"
            await session.execute(text(query))
        with pytest.raises(LockLost):
            await running
        assert closed.is_set()
        await database.close()

    asyncio.run(main())


def test_wake_starts_the_next_cycle_at_once(database_url: str) -> None:
    async def main() -> None:
        database, stop = Database(database_url, "demo"), asyncio.Event()
        loop = make(database, seconds=3600)
        running = asyncio.create_task(loop.run(stop))
        await eventually(lambda: loop.status.cycles == 1)
        await asyncio.sleep(0.05)
        loop.wake()
        await eventually(lambda: loop.status.cycles == 2)
        stop.set()
        await running
        await database.close()

    asyncio.run(main())


def test_loop_without_a_cycle_for_long_is_stuck() -> None:
    status = LoopStatus(turned=100.0)
    assert status.stuck(159.0, 60.0) == ""
    assert status.stuck(161.0, 60.0) == "the engine's loop is stuck: no turn for 61 s"
    status.failed(RuntimeError(), expected=False)
    status.cycled(5.0, 0.1, 161.0)
    assert status.stuck(200.0, 60.0) == "" and status.failure == "" and (status.cycles, status.last_at) == (1, 5.0)
