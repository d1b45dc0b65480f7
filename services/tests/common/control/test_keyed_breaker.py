"""One circuit breaker per key."""

from __future__ import annotations

from distcloud.common.control.keyed_breaker import KeyedCircuitBreaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_failing_key_does_not_block_others() -> None:
    clock = Clock()
    breaker = KeyedCircuitBreaker(clock, lambda: 0.5)
    for _ in range(2):
        breaker.failed("a", "timeout")
        assert breaker.wait("a") == 0
    breaker.failed("a", "timeout")
    assert breaker.wait("a") == 60 and breaker.error("a") == "timeout" and breaker.keys() == {"a"}
    assert breaker.wait("b") == 0 and breaker.error("b") == ""
    clock.now = 60
    assert breaker.wait("a") == 0
    breaker.failed("a", "timeout")
    assert breaker.wait("a") == 120
    breaker.succeeded("a")
    assert breaker.wait("a") == 120, "a success while the breaker is open proves nothing"
    clock.now = 180
    breaker.succeeded("a")
    assert breaker.keys() == set()


def test_success_before_the_breaker_opens_changes_nothing() -> None:
    breaker = KeyedCircuitBreaker(Clock(), lambda: 0.5)
    for _ in range(3):
        breaker.failed("a")
        breaker.succeeded("a")
    assert breaker.wait("a") > 0
