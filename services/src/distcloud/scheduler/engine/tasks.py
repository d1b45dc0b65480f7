"""Orders under way: one at a time for a VM, and one that failed rests for a while before it is given again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable

import structlog

from ...common.breaker import Breaker, BreakerPolicy

log = structlog.get_logger(__name__)

# A minute at most: what was in the way may be gone, and a worker that waits for its end costs money.
_RETRY = BreakerPolicy(threshold=1, shortest=5.0, longest=60.0)
_SHUTDOWN_SECONDS = 20.0


class Tasks:
    """Runs each order as a task of its own. `on_done` is called when one has done something; the next cycle sees what became of it.

    Losing this costs nothing but a moment: an order that was cut off is found again by the ledger.
    """

    def __init__(self, *, clock: Callable[[], float], jitter: Callable[[], float], on_done: Callable[[], None]) -> None:
        self._clock = clock
        self._jitter = jitter
        self._on_done = on_done
        self._running: dict[str, asyncio.Task[str]] = {}
        self._breakers: dict[tuple[str, str], Breaker] = {}

    def __contains__(self, vm_id: str) -> bool:
        return vm_id in self._running

    def start(self, vm_id: str, kind: str, work: Coroutine[None, None, str]) -> None:
        """Begins the work, which gives what went wrong or nothing, unless the VM has an order under way, or one of this kind rests."""
        breaker = self._breakers.get((vm_id, kind))
        if vm_id in self._running or (breaker is not None and not breaker.allows(self._clock())):
            work.close()
            return
        task = asyncio.create_task(work, name=f"{kind} {vm_id}")
        self._running[vm_id] = task
        task.add_done_callback(lambda done: self._finished(vm_id, kind, done))

    def _finished(self, vm_id: str, kind: str, task: asyncio.Task[str]) -> None:
        self._running.pop(vm_id, None)
        if task.cancelled():
            return
        failure = task.exception()
        if failure is not None:
            log.error("order_failed", vm=vm_id, error=f"{type(failure).__name__}: {failure}")
        if failure is None and not task.result():
            self._breakers.pop((vm_id, kind), None)
            self._on_done()
            return
        # Nobody is woken for a failure: the order would be given again at once, for as long as it fails.
        self._breakers[vm_id, kind] = self._breakers.get((vm_id, kind), Breaker(_RETRY)).failed(self._clock(), self._jitter())

    def forget(self, live_ids: Iterable[str]) -> None:
        """Drops what is remembered of VMs that are no more."""
        kept = set(live_ids)
        self._breakers = {key: breaker for key, breaker in self._breakers.items() if key[0] in kept}

    async def wait_idle(self) -> None:
        """Waits for all orders under way."""
        while self._running:
            await asyncio.wait(self._running.values())
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Gives orders under way a moment, then cuts them off: whatever they had begun is found again."""
        running = set(self._running.values())
        if not running:
            return
        _, pending = await asyncio.wait(running, timeout=_SHUTDOWN_SECONDS)
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)
