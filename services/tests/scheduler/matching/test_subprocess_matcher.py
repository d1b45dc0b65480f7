"""The subprocess matcher with hostile jobs: endless evaluations, a crashing library, a child that is killed from outside."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from distcloud.scheduler.matching.bindings import MatchingUnavailable
from distcloud.scheduler.matching.matcher import Matcher
from distcloud.scheduler.matching.subprocess_matcher import SubprocessMatcher

from .test_matching import HOME, W512, job

# Each attribute doubles the previous one: one more line in a submit file doubles the work.
ENDLESS = {"A0": "1", **{f"A{n}": f"A{n - 1} + A{n - 1}" for n in range(1, 60)}}
HUGE = {"A0": '"' + "x" * 1000 + '"', **{f"A{n}": f"strcat(A{n - 1}, A{n - 1})" for n in range(1, 60)}}
# Replaces HTCondor's library: a job with "crash" in its ad kills the process, as a null pointer in the library does.
CRASHING = """\
import os, signal, sys
print("ready", flush=True)
ads = {}
for line in sys.stdin:
    kind, first, second = line.rstrip().split(chr(9))
    if kind == "A":
        ads[first] = second
        continue
    if "crash" in ads[first]:
        os.kill(os.getpid(), signal.SIGSEGV)
    print("true" if kind == "M" else '["", []]', flush=True)
"""


@pytest.fixture
def ad_matcher() -> Iterator[SubprocessMatcher]:
    ad_matcher = SubprocessMatcher()
    yield ad_matcher
    ad_matcher.close()


def test_answers_equal_those_of_in_process_matcher(ad_matcher: SubprocessMatcher) -> None:
    subprocess_matcher, here = Matcher(ad_matcher=ad_matcher), Matcher()
    for wanted in (job(), job("TARGET.Memory > 100000"), job("(("), job("MyNeed", attributes={"MyNeed": 'substr("é", 0, 1)'})):
        assert subprocess_matcher.match(wanted, HOME, W512) == here.match(wanted, HOME, W512)
    assert ad_matcher.starts == 1


@pytest.mark.parametrize("attributes", [ENDLESS, HUGE], ids=["endless", "huge"])
def test_endless_evaluation_does_not_block_others(ad_matcher: SubprocessMatcher, attributes: dict[str, str]) -> None:
    matcher = Matcher(ad_matcher=ad_matcher)
    endless = job("size(A59) > 0 || A59 > 0", attributes=attributes)
    for _ in range(3):
        match = matcher.match(endless, HOME, W512)
        assert not match.ok and "cannot evaluate the job's ad" in match.detail
        assert matcher.match(job(), HOME, W512).ok
    assert ad_matcher.starts == 2, "one that was lost, and one for all later questions"


def test_killed_child_is_replaced_without_blaming_a_job(ad_matcher: SubprocessMatcher) -> None:
    matcher = Matcher(ad_matcher=ad_matcher)
    assert matcher.match(job(), HOME, W512).ok
    assert ad_matcher._process is not None
    os.kill(ad_matcher._process.pid, signal.SIGKILL)
    assert matcher.match(job("TARGET.Memory > 1"), HOME, W512).ok
    assert ad_matcher.starts == 2


def test_threads_share_one_child(ad_matcher: SubprocessMatcher) -> None:
    wrong: list[int] = []

    def ask(least: int) -> None:
        matcher = Matcher(ad_matcher=ad_matcher)
        wrong.extend(n for n in range(100) if not matcher.match(job(f"TARGET.Memory > {least + n}"), HOME, W512).ok)

    threads = [threading.Thread(target=ask, args=(least,)) for least in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and ad_matcher.starts == 1


def test_fatal_jobs_delay_only_their_owner() -> None:
    now = [1000.0]
    ad_matcher = SubprocessMatcher([sys.executable, "-c", CRASHING], monotonic=lambda: now[0], jitter_sample=lambda: 0.5)
    try:
        for number in range(3):
            assert ad_matcher.matches("mallory", f"crash {number}", "w") is False
            assert "evaluation crashes (SIGSEGV)" in ad_matcher.reasons("mallory", f"crash {number}", "w").error
        lost = ad_matcher.starts
        assert ad_matcher.matches("mallory", "good", "w") is None, "not now"
        assert "not evaluated for another 60 s because of other jobs of mallory" in ad_matcher.reasons("mallory", "good", "w").error
        assert ad_matcher.matches("alice", "good", "w") is True
        assert ad_matcher.matches("mallory", "crash 0", "w") is False, "known to be fatal"
        now[0] += 61
        assert ad_matcher.matches("mallory", "crash 3", "w") is False
        now[0] += 61
        assert ad_matcher.matches("mallory", "good", "w") is None, "twice as long as before"
        now[0] += 60
        assert ad_matcher.matches("mallory", "good", "w") is True
        assert ad_matcher.matches("mallory", "crash 4", "w") is False, "evaluated at once after a success"
        assert ad_matcher.starts <= lost + 3
    finally:
        ad_matcher.close()


def test_temporary_answer_is_not_cached() -> None:
    now = [1000.0]
    ad_matcher = SubprocessMatcher([sys.executable, "-c", CRASHING], monotonic=lambda: now[0], jitter_sample=lambda: 0.5)
    matcher = Matcher(ad_matcher=ad_matcher)
    try:
        for number in range(3):
            assert not matcher.match(job(f"crash{number}"), HOME, W512).ok
        waiting = matcher.match(job("good"), HOME, W512)
        assert not waiting.ok and "not evaluated for another" in waiting.detail
        now[0] += 100
        assert matcher.match(job("good"), HOME, W512).ok
    finally:
        ad_matcher.close()


def test_child_that_cannot_start_is_reported(tmp_path: Path) -> None:
    for command in ([str(tmp_path / "nothing")], [sys.executable, "-c", "raise SystemExit(3)"]):
        ad_matcher = SubprocessMatcher(command)
        with pytest.raises(MatchingUnavailable, match=r"cannot be started|exited at start \(code 3\)"):
            ad_matcher.matches("alice", "{}", "{}")
        ad_matcher.close()
