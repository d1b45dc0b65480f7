"""A failed task is retried with growing delays and does not wake the engine; a successful one wakes it immediately."""

from __future__ import annotations

import asyncio

import pytest

from distcloud.scheduler.engine.tasks import Tasks


class Fixture:
    """Tasks with a fake clock, and a record of what was run."""

    def __init__(self) -> None:
        self.now = 0.0
        self.started: list[float] = []
        self.woken = 0
        self.tasks = Tasks(clock=lambda: self.now, jitter=lambda: 0.5, on_done=self._wake)

    def _wake(self) -> None:
        self.woken += 1

    async def run(self, result: str | Exception, kind: str = "retire", vm_id: str = "vm-1") -> None:
        async def work() -> str:
            self.started.append(self.now)
            if isinstance(result, Exception):
                raise result
            return result

        self.tasks.start(vm_id, kind, work())
        await self.tasks.wait_idle()


@pytest.mark.parametrize("failure", ["the pool does not result", RuntimeError("a bug")])
def test_failed_task_is_retried_with_growing_delay(failure: str | Exception) -> None:
    async def script() -> None:
        fixture = Fixture()
        for fixture.now in map(float, range(300)):
            await fixture.run(failure)
        assert fixture.started == [0, 5, 15, 35, 75, 135, 195, 255]
        assert fixture.woken == 0, "waking the engine on failure would retry without a delay"

    asyncio.run(script())


def test_delay_applies_only_to_same_kind_and_vm() -> None:
    async def script() -> None:
        fixture = Fixture()
        await fixture.run("failed")
        await fixture.run("", kind="delete")
        await fixture.run("", vm_id="vm-2")
        assert (len(fixture.started), fixture.woken) == (3, 2)

    asyncio.run(script())


def test_success_or_deletion_resets_delay() -> None:
    async def script() -> None:
        fixture = Fixture()
        await fixture.run("failed")
        fixture.now = 6
        await fixture.run("")
        await fixture.run("failed")
        fixture.now = 11
        await fixture.run("")
        assert fixture.started == [0, 6, 6, 11], "the first delay again, not the second"
        await fixture.run("failed", vm_id="vm-2")
        fixture.tasks.forget(["vm-1"])
        await fixture.run("", vm_id="vm-2")
        assert fixture.woken == 3

    asyncio.run(script())


def test_one_task_at_a_time_per_vm() -> None:
    async def script() -> None:
        fixture = Fixture()
        gate, ran = asyncio.Event(), []

        async def work(name: str) -> str:
            ran.append(name)
            await gate.wait()
            return ""

        fixture.tasks.start("vm-1", "retire", work("first"))
        fixture.tasks.start("vm-1", "delete", work("second"))
        assert "vm-1" in fixture.tasks
        gate.set()
        await fixture.tasks.wait_idle()
        assert ran == ["first"] and "vm-1" not in fixture.tasks

    asyncio.run(script())
