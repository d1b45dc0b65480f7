"""Background tasks by key: at most one task per key, and a failed operation backs off before it may start again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable

from ..logs import get_logger
from .breaker import Breaker, BreakerPolicy

log = get_logger(__name__)

# A minute at most: the obstacle may be gone, and what the operation would release may cost money.
_BACK_OFF = BreakerPolicy(threshold=1, min_delay=5.0, max_delay=60.0)
_SHUTDOWN_SECONDS = 10.0  # of the 30 that systemd gives a service to stop


class KeyedTasks:
    """Runs each operation as a task of its own. `on_done` is called after each success.

    Nothing here is persistent: the owner must find an interrupted operation again from its own state.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        on_done: Callable[[], None],
        policy: BreakerPolicy = _BACK_OFF,
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._on_done = on_done
        self._policy = policy
        self._running: dict[str, asyncio.Task[str]] = {}
        self._back_off: dict[tuple[str, str], Breaker] = {}

    def __contains__(self, key: str) -> bool:
        """Whether a task is running for the key."""
        return key in self._running

    def start(self, key: str, operation: str, work: Coroutine[None, None, str]) -> bool:
        """Start the work, which returns its error or an empty string, unless the key is busy or this operation is backing off."""
        back_off = self._back_off.get((key, operation))
        if key in self._running or (back_off is not None and not back_off.allows(self._clock())):
            work.close()
            return False
        task = asyncio.create_task(work, name=f"{operation} {key}")
        self._running[key] = task
        task.add_done_callback(lambda done: self._finished(key, operation, done))
        return True

    def _finished(self, key: str, operation: str, task: asyncio.Task[str]) -> None:
        self._running.pop(key, None)
        if task.cancelled():
            return
        failure = task.exception()
        if failure is not None:
            log.error("task_failed", key=key, operation=operation, error=f"{type(failure).__name__}: {failure}", exc_info=failure)
        if failure is None and not task.result():
            self._back_off.pop((key, operation), None)
            self._on_done()
            return
        # No wake-up after a failure: the operation would be started again at once, for as long as it fails.
        breaker = self._back_off.get((key, operation), Breaker(self._policy))
        self._back_off[key, operation] = breaker.failed(self._clock(), self._jitter())

    def forget(self, live: Iterable[str]) -> None:
        """Drop the back-off of all keys that no longer exist."""
        kept = set(live)
        self._back_off = {key: breaker for key, breaker in self._back_off.items() if key[0] in kept}

    async def wait_idle(self) -> None:
        """Wait until no task is running."""
        while self._running:
            await asyncio.wait(self._running.values())
            await asyncio.sleep(0)

    async def close(self, *, at_once: bool = False) -> None:
        """Give running tasks a moment to finish, unless `at_once`, then cancel them."""
        running = set(self._running.values())
        if not running:
            return
        _, pending = await asyncio.wait(running, timeout=0 if at_once else _SHUTDOWN_SECONDS)
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)
