"""Who makes something fail again and again is left out for longer and longer, so that he holds up nobody else."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Set
from typing import Final

from .breaker import Breaker, BreakerPolicy

_PATIENCE: Final = BreakerPolicy(threshold=3, shortest=60.0, longest=3600.0)


class Probation:
    """A circuit breaker for each of those alone who made something fail. Not for several threads at once."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random) -> None:
        self._monotonic = monotonic
        self._chance = chance
        self._breakers: dict[str, Breaker] = {}

    def known(self) -> Set[str]:
        return set(self._breakers)

    def wait(self, who: str) -> float:
        """Seconds for which he is still left out; 0 when he is not."""
        breaker = self._breakers.get(who)
        return 0.0 if breaker is None else breaker.wait(self._monotonic())

    def error(self, who: str) -> str:
        """What he made fail last."""
        breaker = self._breakers.get(who)
        return "" if breaker is None else breaker.error

    def failed(self, who: str, error: str = "") -> None:
        self._breakers[who] = self._breakers.get(who, Breaker(_PATIENCE)).failed(self._monotonic(), self._chance(), error)

    def passed(self, who: str) -> None:
        """Forgives him who was left out, and was not in vain. Before he ever was, one success among failures says nothing."""
        breaker = self._breakers.get(who)
        if breaker is not None and breaker.opened_until is not None and not self.wait(who):
            del self._breakers[who]
