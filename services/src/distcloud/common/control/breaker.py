"""A circuit breaker with back-off and jitter, as a value: every method returns the next breaker, none reads a clock.

Closed: calls pass. After `threshold` failures in a row it opens for a while; then one probe may pass (half open): if that
succeeds the breaker closes, if it fails the breaker opens for longer, up to `max_delay`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """Durations in seconds; `jitter` 0.2 spreads a delay over 80 % to 120 % of its length."""

    threshold: int = 3
    min_delay: float = 5.0
    max_delay: float = 300.0
    jitter: float = 0.2


@dataclass(frozen=True, slots=True)
class Breaker:
    """The recent failures of one kind of call."""

    policy: BreakerPolicy = BreakerPolicy()
    failures: int = 0  # in a row
    opened_until: float | None = None
    error: str = ""

    def state(self, now: float) -> BreakerState:
        if self.opened_until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self.wait(now) > 0 else BreakerState.HALF_OPEN

    def allows(self, now: float) -> bool:
        return self.state(now) is not BreakerState.OPEN

    def wait(self, now: float) -> float:
        """Seconds until the next call may pass. A longer wait than any that is ever set means that the clock was set back: it is over."""
        left = 0.0 if self.opened_until is None else max(0.0, self.opened_until - now)
        return left if left <= self.policy.max_delay * (1.0 + self.policy.jitter) + 1.0 else 0.0

    def succeeded(self) -> Breaker:
        return Breaker(self.policy)

    def failed(self, now: float, jitter_sample: float, error: str = "") -> Breaker:
        """`jitter_sample` is a random number in [0, 1), supplied by the caller so that this stays a pure function."""
        failures = self.failures + 1
        if failures < self.policy.threshold:
            return replace(self, failures=failures, error=error)
        # The exponent is bounded: thousands of failures in a row must not overflow a float.
        doublings = min(failures - self.policy.threshold, 32)
        wait = min(self.policy.max_delay, self.policy.min_delay * 2.0**doublings)
        spread = 1.0 + self.policy.jitter * (2.0 * jitter_sample - 1.0)
        return replace(self, failures=failures, opened_until=now + wait * spread, error=error)
