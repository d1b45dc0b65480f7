"""An order that fails is given again later and later, and wakes nobody; one that succeeds tells so at once."""

from __future__ import annotations

import asyncio

import pytest

from distcloud.scheduler.engine.tasks import Tasks


class Desk:
    """Orders with a clock of their own, and what was done."""

    def __init__(self) -> None:
        self.now = 0.0
        self.given: list[float] = []
        self.woken = 0
        self.tasks = Tasks(clock=lambda: self.now, jitter=lambda: 0.5, on_done=self._wake)

    def _wake(self) -> None:
        self.woken += 1

    async def give(self, answer: str | Exception, kind: str = "retire", vm_id: str = "vm-1") -> None:
        async def work() -> str:
            self.given.append(self.now)
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.tasks.start(vm_id, kind, work())
        await self.tasks.wait_idle()


@pytest.mark.parametrize("failure", ["the pool does not answer", RuntimeError("a bug")])
def test_what_fails_is_tried_again_after_5_10_20_and_at_most_60_seconds(failure: str | Exception) -> None:
    async def script() -> None:
        desk = Desk()
        for desk.now in map(float, range(300)):
            await desk.give(failure)
        assert desk.given == [0, 5, 15, 35, 75, 135, 195, 255]
        assert desk.woken == 0, "a failure that wakes the engine is repeated without a pause"

    asyncio.run(script())


def test_another_order_for_the_vm_and_another_vm_do_not_wait() -> None:
    async def script() -> None:
        desk = Desk()
        await desk.give("failed")
        await desk.give("", kind="delete")
        await desk.give("", vm_id="vm-2")
        assert (len(desk.given), desk.woken) == (3, 2)

    asyncio.run(script())


def test_success_and_the_end_of_a_vm_clear_the_slate() -> None:
    async def script() -> None:
        desk = Desk()
        await desk.give("failed")
        desk.now = 6
        await desk.give("")
        await desk.give("failed")
        desk.now = 11
        await desk.give("")
        assert desk.given == [0, 6, 6, 11], "the first pause again, and not the second"
        await desk.give("failed", vm_id="vm-2")
        desk.tasks.forget(["vm-1"])
        await desk.give("", vm_id="vm-2")
        assert desk.woken == 3

    asyncio.run(script())


def test_one_order_at_a_time_for_a_vm() -> None:
    async def script() -> None:
        desk = Desk()
        gate, ran = asyncio.Event(), []

        async def work(name: str) -> str:
            ran.append(name)
            await gate.wait()
            return ""

        desk.tasks.start("vm-1", "retire", work("first"))
        desk.tasks.start("vm-1", "delete", work("second"))
        assert "vm-1" in desk.tasks
        gate.set()
        await desk.tasks.wait_idle()
        assert ran == ["first"] and "vm-1" not in desk.tasks

    asyncio.run(script())
