"""Orders under way: one at a time for a VM, and one that failed rests for a while before it is given again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable

import structlog

from ...common.breaker import Breaker, BreakerPolicy

log = structlog.get_logger(__name__)

# A minute at most: what was in the way may be gone, and a worker that waits for its end costs money.
_REST = BreakerPolicy(threshold=1, shortest=5.0, longest=60.0)
_SHUTDOWN_SECONDS = 20.0


class Orders:
    """Runs each order as a task of its own. `on_done` is called when one has done something; the next cycle sees what became of it.

    Losing this costs nothing but a moment: an order that was cut off is found again by the ledger.
    """

    def __init__(self, *, clock: Callable[[], float], chance: Callable[[], float], on_done: Callable[[], None]) -> None:
        self._clock = clock
        self._chance = chance
        self._on_done = on_done
        self._busy: dict[str, asyncio.Task[str]] = {}
        self._rests: dict[tuple[str, str], Breaker] = {}

    def __contains__(self, vm_id: str) -> bool:
        return vm_id in self._busy

    def begin(self, vm_id: str, kind: str, work: Coroutine[None, None, str]) -> None:
        """Begins the work, which gives what went wrong or nothing, unless the VM has an order under way, or one of this kind rests."""
        rest = self._rests.get((vm_id, kind))
        if vm_id in self._busy or (rest is not None and not rest.allows(self._clock())):
            work.close()
            return
        task = asyncio.create_task(work, name=f"{kind} {vm_id}")
        self._busy[vm_id] = task
        task.add_done_callback(lambda done: self._finished(vm_id, kind, done))

    def _finished(self, vm_id: str, kind: str, task: asyncio.Task[str]) -> None:
        self._busy.pop(vm_id, None)
        if task.cancelled():
            return
        failure = task.exception()
        if failure is not None:
            log.error("order_failed", vm=vm_id, error=f"{type(failure).__name__}: {failure}")
        if failure is None and not task.result():
            self._rests.pop((vm_id, kind), None)
            self._on_done()
            return
        # Nobody is woken for a failure: the order would be given again at once, for as long as it fails.
        self._rests[vm_id, kind] = self._rests.get((vm_id, kind), Breaker(_REST)).failed(self._clock(), self._chance())

    def forget(self, living: Iterable[str]) -> None:
        """Drops what is remembered of VMs that are no more."""
        kept = set(living)
        self._rests = {key: rest for key, rest in self._rests.items() if key[0] in kept}

    async def settle(self) -> None:
        """Waits for all orders under way."""
        while self._busy:
            await asyncio.wait(self._busy.values())
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Gives orders under way a moment, then cuts them off: whatever they had begun is found again."""
        busy = set(self._busy.values())
        if not busy:
            return
        _, pending = await asyncio.wait(busy, timeout=_SHUTDOWN_SECONDS)
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)
