"""The control loop of an engine: one leader per database, a cycle at an interval with jitter, and its health."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..logs import get_logger
from ..metrics import LoopMetrics
from ..storage.database import Database, DatabaseError
from ..storage.locks import Exclusive

log = get_logger(__name__)

_CYCLES_UNTIL_STUCK = 12
_MIN_SECONDS_UNTIL_STUCK = 60.0
_STOP_SECONDS = 10.0  # of the 30 that systemd gives a service to stop


class LockLost(Exception):
    """Another process may hold the engine's lock now; this one must end at once."""


@dataclass(slots=True)
class LoopStatus:
    """Cycles so far and what hinders them. `turned` and `succeeded` are times of the monotonic clock."""

    turned: float  # when the loop last came round, with or without success
    cycles: int = 0
    last_at: float | None = None  # seconds since the epoch
    succeeded: float | None = None
    last_seconds: float | None = None
    waits_for: str = ""  # the lock that another process holds
    database: str = ""  # why the last cycle could not use it
    failure: str = ""  # any other error of the last cycle

    def cycled(self, at: float, seconds: float, monotonic: float) -> None:
        self.cycles += 1
        self.last_at, self.last_seconds, self.database, self.failure = at, seconds, "", ""
        self.turned = self.succeeded = monotonic

    def failed(self, error: Exception, *, expected: bool) -> None:
        """The message of an expected error is for operators; any other is in the log."""
        message = str(error) if expected else f"the last cycle failed: {type(error).__name__}; see the log"
        self.database, self.failure = (message, "") if isinstance(error, DatabaseError) else ("", message)

    def stuck(self, monotonic: float, limit: float) -> str:
        """Why the loop counts as stuck; empty when it came round within `limit` seconds."""
        age = monotonic - self.turned
        return f"the engine's loop is stuck: no turn for {age:.0f} s" if age > limit else ""


async def _no_start() -> None:
    """An engine that keeps nothing but its database has nothing to start."""


async def _no_close(_lost: bool) -> None:
    """An engine that keeps nothing but its database has nothing to close."""


class ControlLoop:
    """Runs `cycle` again and again while this process holds the engine's lock.

    `start` is called when the lock is acquired, `close` before it is released; its argument is true when the lock is lost, so that
    another process may lead already and everything must end at once. Errors in `expected` (and DatabaseError) are
    normal failures of the outside world; any other is logged with a traceback. Both fail only the current cycle.
    """

    def __init__(
        self,
        database: Database,
        cycle: Callable[[], Awaitable[None]],
        *,
        start: Callable[[], Awaitable[None]] = _no_start,
        close: Callable[[bool], Awaitable[None]] = _no_close,
        seconds: float,
        expected: tuple[type[Exception], ...] = (),
        metrics: LoopMetrics | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._cycle = cycle
        self._start = start
        self._close = close
        self._seconds = seconds
        self._expected: tuple[type[Exception], ...] = (DatabaseError, *expected)
        self._metrics = metrics or LoopMetrics("loop")
        self._clock = clock
        self._monotonic = monotonic
        self._jitter = jitter
        self._wake = asyncio.Event()
        self.status = LoopStatus(monotonic())

    def wake(self) -> None:
        """Start the next cycle at once."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set, once no other process holds the engine's lock on this database. Raises LockLost."""
        while not stop.is_set():
            async with self._database.exclusive("engine") as lock:
                self.status.turned = self._monotonic()
                if lock is None:
                    self.status.waits_for = "another engine runs on this database; waiting for it to stop"
                    log.info("waiting_for_lock")
                    await wait_for_any(stop, seconds=self._seconds)
                    continue
                self.status.waits_for = ""
                await self._start()
                lost = False
                try:
                    await self._lead(lock, stop)
                except LockLost:
                    lost = True
                    raise
                finally:
                    await self._close(lost)

    async def _lead(self, lock: Exclusive, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if not await lock.held():
                raise LockLost(
                    "lost the engine's lock on the database (its connection broke or is read-only); restart the service to acquire it again"
                )
            self._wake.clear()
            try:
                await self._cycle_until(stop)
            except Exception as error:
                expected = isinstance(error, self._expected)
                self.status.failed(error, expected=expected)
                self._metrics.failed()
                log.error("cycle_failed", error=str(error), exc_info=not expected)
            self.status.turned = self._monotonic()
            await wait_for_any(stop, self._wake, seconds=self._seconds * (0.95 + 0.1 * self._jitter()))

    async def _cycle_until(self, stop: asyncio.Event) -> None:
        """One cycle; when `stop` is set meanwhile it gets a moment to finish. Interrupting it is as safe as killing the process."""
        cycle, stopping = asyncio.ensure_future(self.run_cycle()), asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({cycle, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not cycle.done():
                await asyncio.wait({cycle}, timeout=_STOP_SECONDS)
        finally:
            stopping.cancel()
            cycle.cancel()
            await asyncio.wait({cycle})
        if cycle.cancelled():
            log.warning("cycle_interrupted", seconds=_STOP_SECONDS)
        else:
            cycle.result()

    async def run_cycle(self) -> None:
        """One cycle. Raises whatever it raises."""
        began, at = time.monotonic(), self._clock()
        await self._cycle()
        seconds = time.monotonic() - began
        self._metrics.cycled(seconds)
        self.status.cycled(at, seconds, self._monotonic())

    def stuck(self) -> str:
        """Why the process should be restarted; empty when the loop turns."""
        return self.status.stuck(self._monotonic(), max(_MIN_SECONDS_UNTIL_STUCK, _CYCLES_UNTIL_STUCK * self._seconds))

    def problem(self) -> str:
        """Why the engine is unhealthy; empty when it is healthy."""
        status = self.status
        pending = "" if status.cycles else "the first cycle has not finished yet"
        return self.stuck() or status.waits_for or status.database or status.failure or pending

    def last_cycle_age(self) -> float | None:
        """Seconds since the last successful cycle."""
        return None if self.status.succeeded is None else self._monotonic() - self.status.succeeded


async def wait_for_any(*events: asyncio.Event, seconds: float) -> None:
    """Wait until one of the events is set, at most `seconds`."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
