"""One circuit breaker per key: whatever fails again and again is left out for longer and longer and delays nothing else."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Set
from typing import Final

from .breaker import Breaker, BreakerPolicy

_POLICY: Final = BreakerPolicy(threshold=3, min_delay=60.0, max_delay=3600.0)


class KeyedCircuitBreaker:
    """A circuit breaker for each key that failed. Not thread-safe."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, jitter: Callable[[], float] = random.random) -> None:
        self._monotonic = monotonic
        self._jitter = jitter
        self._breakers: dict[str, Breaker] = {}

    def keys(self) -> Set[str]:
        """The keys with failures on record."""
        return set(self._breakers)

    def wait(self, key: str) -> float:
        """Seconds for which the key is still blocked; 0 when it is not."""
        breaker = self._breakers.get(key)
        return 0.0 if breaker is None else breaker.wait(self._monotonic())

    def error(self, key: str) -> str:
        """The last error recorded for the key."""
        breaker = self._breakers.get(key)
        return "" if breaker is None else breaker.error

    def failed(self, key: str, error: str = "") -> None:
        self._breakers[key] = self._breakers.get(key, Breaker(_POLICY)).failed(self._monotonic(), self._jitter(), error)

    def succeeded(self, key: str) -> None:
        """Closes the key's breaker if it had opened. Before that, one success among failures proves nothing."""
        breaker = self._breakers.get(key)
        if breaker is not None and breaker.opened_until is not None and not self.wait(key):
            del self._breakers[key]
