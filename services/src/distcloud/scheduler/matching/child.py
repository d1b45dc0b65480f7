"""The process that asks HTCondor's ClassAd library: users write what it evaluates, and some of it ends the process or never ends.

Says "ready" in one line, then reads lines of fields with tabs between them. `A`, number, text: from now on this number stands for this
ad. `F`: no number stands for anything any more. `M`, the job's number, the worker's: answered with a line of JSON, whether they match. `W`
likewise: why they do not. A question that takes too long ends the process by the kernel's own timer, which
counts the time in which it really ran: a busy machine makes no question too long.
"""

from __future__ import annotations

import json
import sys
from typing import BinaryIO, Final

from ...common.rlimits import bound, within
from .ad_matcher import InProcessMatcher

CPU_SECONDS: Final = 1.0  # of a processor; thousands of times what requirements as people write them take


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
        with within(CPU_SECONDS):
            if kind == "M":
                answer = ad_matcher.matches("", ads[first], ads[second])
            else:
                reasons = ad_matcher.reasons("", ads[first], ads[second])
                answer = [reasons.error, [(each.clause, each.outcome, each.because) for each in reasons.failures]]
        answers.write(json.dumps(answer).encode("ascii") + b"\n")
        answers.flush()


def main() -> None:
    ad_matcher = InProcessMatcher()
    bound()
    sys.stdout.buffer.write(b"ready\n")
    sys.stdout.buffer.flush()
    serve(ad_matcher, sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
