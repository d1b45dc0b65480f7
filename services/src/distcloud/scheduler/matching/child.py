"""The child process that evaluates ClassAds: they are untrusted input, and some expressions crash the library or never finish.

Prints "ready", then reads tab-separated lines:

- `A`, number, text: define the ad with this number.
- `F`: forget all ads.
- `M`, job number, worker number: whether they match. Answered with one line of JSON.
- `W`, job number, worker number: why they do not match. Answered with one line of JSON.

A question that uses too much CPU time ends the process by a kernel timer; time spent waiting on a busy machine does not count.
"""

from __future__ import annotations

import json
import sys
from typing import BinaryIO, Final

from ...common.control.rlimits import cpu_timeout, limit_memory
from .ad_matcher import InProcessMatcher

CPU_SECONDS: Final = 1.0  # per question; thousands of times what ordinary requirements take


def serve(ad_matcher: InProcessMatcher, questions: BinaryIO, answers: BinaryIO) -> None:
    ads: dict[str, str] = {}
    for line in questions:
        kind, *fields = line.rstrip(b"\n").decode("ascii").split("\t")
        if kind == "F":
            ads.clear()
            continue
        first, second = fields
        if kind == "A":
            ads[first] = second
            continue
        answer: object
        with cpu_timeout(CPU_SECONDS):
            if kind == "M":
                answer = ad_matcher.matches("", ads[first], ads[second])
            else:
                reasons = ad_matcher.reasons("", ads[first], ads[second])
                answer = [reasons.error, [(each.clause, each.outcome, each.because) for each in reasons.failures]]
        answers.write(json.dumps(answer).encode("ascii") + b"\n")
        answers.flush()


def main() -> None:
    ad_matcher = InProcessMatcher()
    limit_memory()
    sys.stdout.buffer.write(b"ready\n")
    sys.stdout.buffer.flush()
    serve(ad_matcher, sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
