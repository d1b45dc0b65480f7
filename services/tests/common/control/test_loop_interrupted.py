"""A cycle that is interrupted: by the deadline after a stop, or by cancellation. Nothing is half done, and another engine can lead."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from distcloud.common.control import loop as module
from distcloud.common.storage.database import Database

from .test_loop import eventually, make

Interrupt = Callable[["asyncio.Task[None]", asyncio.Event], None]


def by_stop(_: asyncio.Task[None], stop: asyncio.Event) -> None:
    stop.set()


def by_cancellation(running: asyncio.Task[None], _: asyncio.Event) -> None:
    running.cancel()


async def entries(database: Database) -> list[str]:
    async with database.read() as session:
        return list((await session.scalars(text("SELECT name FROM entries ORDER BY name"))).all())


class Stage:
    """A loop whose cycle writes a row and then does something before it commits; `events` has what happened."""

    def __init__(self, url: str, pause: Callable[[], Awaitable[object]], statement: str = "") -> None:
        self.events: list[str] = []
        self.database = Database(url, "demo")
        self.in_cycle = asyncio.Event()
        self.pause = pause
        self.statement = statement
        self.loop = make(self.database, self.cycle, close=self.close)

    async def cycle(self) -> None:
        try:
            async with self.database.begin() as session:
                await session.execute(text("INSERT INTO entries VALUES ('row')"))
                self.in_cycle.set()
                if self.statement:
                    await session.execute(text(self.statement))
                await self.pause()
        finally:
            self.events.append("cycle ended")

    async def close(self, lost: bool) -> None:
        self.events.append("closed, lock lost" if lost else "closed")

    async def interrupted(self, interrupt: Interrupt) -> None:
        stop = asyncio.Event()
        async with self.database.begin() as session:
            await session.execute(text("CREATE TABLE entries (name VARCHAR(9))"))
        running = asyncio.create_task(self.loop.run(stop))
        await self.in_cycle.wait()
        await asyncio.sleep(0.1)
        interrupt(running, stop)
        await asyncio.wait({running}, timeout=30)
        assert running.done(), "the loop waits for its interrupted cycle"
        assert running.cancelled() or running.exception() is None
        await self.database.close()


async def lead_one_cycle(url: str) -> list[str]:
    """The entries after another engine on the same database has finished a cycle."""
    database, stop = Database(url, "demo"), asyncio.Event()

    async def cycle() -> None:
        async with database.begin() as session:
            await session.execute(text("INSERT INTO entries VALUES ('next')"))
        stop.set()

    loop = make(database, cycle)
    async with asyncio.timeout(30):
        await loop.run(stop)
    assert loop.status.cycles == 1 and loop.problem() == ""
    found = await entries(database)
    await database.close()
    return found


@pytest.mark.parametrize("interrupt", [by_stop, by_cancellation])
def test_interrupted_cycle_leaves_nothing_half_done(database_url: str, interrupt: Interrupt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STOP_SECONDS", 0.1)

    async def main() -> None:
        stage = Stage(database_url, asyncio.Event().wait)
        await stage.interrupted(interrupt)
        assert stage.events == ["cycle ended", "closed"]
        assert stage.loop.status.cycles == 0
        assert await lead_one_cycle(database_url) == ["next"]

    asyncio.run(main())


@pytest.mark.parametrize("interrupt", [by_stop, by_cancellation])
def test_cycle_is_interrupted_within_a_statement(postgres_url: str, interrupt: Interrupt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STOP_SECONDS", 0.1)

    async def main() -> None:
        stage = Stage(postgres_url, asyncio.Event().wait, "SELECT pg_sleep(25)")
        async with asyncio.timeout(20):
            await stage.interrupted(interrupt)
        assert stage.events == ["cycle ended", "closed"]
        assert await lead_one_cycle(postgres_url) == ["next"]

    asyncio.run(main())


def test_stopped_cycle_has_time_to_finish(database_url: str) -> None:
    async def main() -> None:
        stage = Stage(database_url, lambda: asyncio.sleep(0.5))
        await stage.interrupted(by_stop)
        assert stage.events == ["cycle ended", "closed"] and stage.loop.status.cycles == 1
        assert await lead_one_cycle(database_url) == ["next", "row"]

    asyncio.run(main())


def test_error_of_interrupted_cycle_is_recorded(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STOP_SECONDS", 0.1)

    async def fail_late() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("unmistakable") from None

    async def main() -> None:
        stage = Stage(database_url, fail_late)
        await stage.interrupted(by_stop)
        assert stage.events == ["cycle ended", "closed"]
        assert stage.loop.problem() == "the last cycle failed: RuntimeError; see the log"
        assert await lead_one_cycle(database_url) == ["next"]

    asyncio.run(main())


def test_next_cycle_runs_after_a_failed_one(database_url: str) -> None:
    async def main() -> None:
        database, stop = Database(database_url, "demo"), asyncio.Event()
        calls: list[int] = []

        async def cycle() -> None:
            calls.append(1)
            if len(calls) == 1:
                async with asyncio.timeout(0.05):  # a deadline of the cycle's own
                    await asyncio.Event().wait()

        loop = make(database, cycle)
        running = asyncio.create_task(loop.run(stop))
        await eventually(lambda: loop.status.cycles)
        assert len(calls) == 2 and loop.problem() == ""
        stop.set()
        await running
        await database.close()

    asyncio.run(main())
