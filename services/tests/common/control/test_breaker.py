"""The circuit breaker: opens after failures in a row, lets one probe through, waits longer each time, up to a maximum."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distcloud.common.control.breaker import Breaker, BreakerPolicy, BreakerState

POLICY = BreakerPolicy(threshold=3, min_delay=5, max_delay=300, jitter=0.2)


def test_opens_after_failures_closes_after_one_success() -> None:
    breaker = Breaker(POLICY)
    for _ in range(2):
        breaker = breaker.failed(0, 0.5)
        assert breaker.allows(0)
    breaker = breaker.failed(0, 0.5, "no answer")
    assert breaker.state(4.9) is BreakerState.OPEN and not breaker.allows(4.9)
    assert breaker.state(5.0) is BreakerState.HALF_OPEN and breaker.allows(5.0)
    assert breaker.error == "no answer"
    assert breaker.succeeded() == Breaker(POLICY)


def test_success_resets_the_failure_count() -> None:
    breaker = Breaker(POLICY).failed(0, 0.5).failed(0, 0.5).succeeded().failed(0, 0.5).failed(0, 0.5)
    assert breaker.state(0) is BreakerState.CLOSED


@given(st.lists(st.floats(0, 0.999), min_size=1, max_size=2000))
def test_delays_grow_within_bounds(samples: list[float]) -> None:
    breaker, now = Breaker(POLICY), 0.0
    for number, sample in enumerate(samples, 1):
        breaker = breaker.failed(now, sample)
        wait = breaker.wait(now)
        if number < POLICY.threshold:
            assert wait == 0
        else:
            ideal = min(300.0, 5.0 * 2.0 ** min(number - 3, 32))
            assert 0.8 * ideal - 1e-6 <= wait <= 1.2 * ideal + 1e-6
        now += wait
