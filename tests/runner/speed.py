"""How fast this machine is: a fixed loop on one core against a reference, so that the minutes of different machines compare."""

from __future__ import annotations

import time

# Seconds of the loop on the machine for which the budgets are meant (2 cores, `make test` in 28 minutes).
REFERENCE = 0.125
ROUNDS = 2_000_000


def loop() -> float:
    """Processor seconds of the fixed loop."""
    begin, value = time.process_time(), 0
    for number in range(ROUNDS):
        value = (value * 31 + number) & 0xFFFFFFFF
    return time.process_time() - begin


def factor() -> float:
    """Speed of this machine; 2 means twice as fast as the reference. The best of five, as other work only slows it."""
    return REFERENCE / min(loop() for _attempt in range(5))
