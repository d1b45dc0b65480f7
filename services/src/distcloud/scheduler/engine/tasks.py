"""Background tasks: at most one per VM; a failed one is retried only after a delay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable

import structlog

from ...common.breaker import Breaker, BreakerPolicy

log = structlog.get_logger(__name__)

# At most a minute: the cause may be gone, and a worker that waits for its deletion costs money.
_RETRY = BreakerPolicy(threshold=1, shortest=5.0, longest=60.0)
_SHUTDOWN_SECONDS = 20.0


class Tasks:
    """Runs one task per key (the VM). `on_done` is called when a task succeeds, so that the next cycle sees the result.

    Nothing is lost if the process dies: the ledger shows which operations have to be repeated.
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
        """Start `work`, which returns its error or an empty string, unless the VM has a running task or must wait before a retry."""
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
            log.error("task_failed", vm=vm_id, error=f"{type(failure).__name__}: {failure}")
        if failure is None and not task.result():
            self._breakers.pop((vm_id, kind), None)
            self._on_done()
            return
        # A failure does not wake the engine, which would otherwise start the task again immediately.
        self._breakers[vm_id, kind] = self._breakers.get((vm_id, kind), Breaker(_RETRY)).failed(self._clock(), self._jitter())

    def forget(self, live_ids: Iterable[str]) -> None:
        """Drop the retry delays of all other VMs."""
        kept = set(live_ids)
        self._breakers = {key: breaker for key, breaker in self._breakers.items() if key[0] in kept}

    async def wait_idle(self) -> None:
        """Wait for all running tasks."""
        while self._running:
            await asyncio.wait(self._running.values())
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Give running tasks time to finish, then cancel them: the ledger shows what has to be repeated."""
        running = set(self._running.values())
        if not running:
            return
        _, pending = await asyncio.wait(running, timeout=_SHUTDOWN_SECONDS)
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)
