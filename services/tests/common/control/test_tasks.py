"""Background tasks by key: one at a time, back-off after failures, and a bounded shutdown."""

from __future__ import annotations

import asyncio

import pytest

from distcloud.common.control import tasks as module
from distcloud.common.control.tasks import KeyedTasks


class Fixture:
    def __init__(self) -> None:
        self.now = 0.0
        self.done = 0
        self.tasks = KeyedTasks(clock=lambda: self.now, jitter=lambda: 0.5, on_done=self._count)

    def _count(self) -> None:
        self.done += 1


async def result(error: str = "") -> str:
    return error


async def broken() -> str:
    raise RuntimeError("unexpected")


def test_one_task_runs_per_key() -> None:
    async def main() -> None:
        fixture, gate = Fixture(), asyncio.Event()

        async def waits() -> str:
            await gate.wait()
            return ""

        assert fixture.tasks.start("a", "delete", waits())
        assert "a" in fixture.tasks and "b" not in fixture.tasks
        assert not fixture.tasks.start("a", "boot", result())
        assert fixture.tasks.start("b", "boot", result())
        gate.set()
        await fixture.tasks.wait_idle()
        assert fixture.done == 2 and "a" not in fixture.tasks

    asyncio.run(main())


@pytest.mark.parametrize("raises", [True, False])
def test_failed_operation_backs_off(raises: bool) -> None:
    async def main() -> None:
        fixture = Fixture()
        for delay in (5.0, 10.0, 20.0, 40.0, 60.0, 60.0):
            assert fixture.tasks.start("a", "delete", broken() if raises else result("cloud unreachable"))
            await fixture.tasks.wait_idle()
            fixture.now += delay - 0.1
            assert not fixture.tasks.start("a", "delete", result())
            fixture.now += 0.2
        assert fixture.done == 0  # no wake-up after a failure
        assert fixture.tasks.start("a", "delete", result())
        await fixture.tasks.wait_idle()
        assert fixture.tasks.start("a", "delete", result())
        await fixture.tasks.wait_idle()
        assert fixture.done == 2
        # A success clears the back-off: the next failure has the first delay again.
        assert fixture.tasks.start("a", "delete", result("cloud unreachable"))
        await fixture.tasks.wait_idle()
        fixture.now += 5.1
        assert fixture.tasks.start("a", "delete", result())
        await fixture.tasks.wait_idle()

    asyncio.run(main())


def test_close_at_once_cancels_running_tasks() -> None:
    async def main() -> None:
        fixture = Fixture()
        ended: list[str] = []

        async def slow() -> str:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")
            return ""

        assert fixture.tasks.start("a", "delete", slow())
        await asyncio.sleep(0)
        await asyncio.wait_for(fixture.tasks.close(at_once=True), 5)
        assert ended == ["cancelled"]

    asyncio.run(main())


def test_back_off_is_per_operation_and_key() -> None:
    async def main() -> None:
        fixture = Fixture()
        fixture.tasks.start("a", "delete", result("failed"))
        await fixture.tasks.wait_idle()
        assert fixture.tasks.start("a", "drain", result())
        await fixture.tasks.wait_idle()
        fixture.tasks.forget(["a"])
        assert not fixture.tasks.start("a", "delete", result())
        fixture.tasks.forget([])
        assert fixture.tasks.start("a", "delete", result())
        await fixture.tasks.wait_idle()

    asyncio.run(main())


def test_shutdown_cancels_a_hanging_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHUTDOWN_SECONDS", 0.05)

    async def main() -> None:
        fixture, cancelled = Fixture(), False

        async def hangs() -> str:
            nonlocal cancelled
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled = True
                raise
            return ""

        fixture.tasks.start("a", "boot", hangs())
        await asyncio.sleep(0)
        await fixture.tasks.close()
        assert cancelled and "a" not in fixture.tasks

    asyncio.run(main())
