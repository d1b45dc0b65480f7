"""The ad_matcher that outlasts what users write: questions without end, a library that crashes, a child that is killed from outside."""

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

# Each doubles the one before: two lines in a submit file for every factor of two.
ENDLESS = {"A0": "1", **{f"A{n}": f"A{n - 1} + A{n - 1}" for n in range(1, 60)}}
HUGE = {"A0": '"' + "x" * 1000 + '"', **{f"A{n}": f"strcat(A{n - 1}, A{n - 1})" for n in range(1, 60)}}
# In place of HTCondor's library: a job that says so ends the process, as a null pointer in the library does.
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


def test_it_judges_as_the_library_does_in_this_process(ad_matcher: SubprocessMatcher) -> None:
    subprocess_matcher, here = Matcher(ad_matcher=ad_matcher), Matcher()
    for wanted in (job(), job("TARGET.Memory > 100000"), job("(("), job("MyNeed", attributes={"MyNeed": 'substr("é", 0, 1)'})):
        assert subprocess_matcher.match(wanted, HOME, W512) == here.match(wanted, HOME, W512)
    assert ad_matcher.starts == 1


@pytest.mark.parametrize("attributes", [ENDLESS, HUGE], ids=["endless", "huge"])
def test_a_question_without_end_is_answered_once_and_the_others_go_on(ad_matcher: SubprocessMatcher, attributes: dict[str, str]) -> None:
    matcher = Matcher(ad_matcher=ad_matcher)
    endless = job("size(A59) > 0 || A59 > 0", attributes=attributes)
    for _ in range(3):
        match = matcher.match(endless, HOME, W512)
        assert not match.ok and "does not survive the job's ad" in match.detail
        assert matcher.match(job(), HOME, W512).ok
    assert ad_matcher.starts == 2, "one that was lost, and one for all that came after"


def test_a_child_that_is_killed_from_outside_is_replaced_and_no_job_is_blamed(ad_matcher: SubprocessMatcher) -> None:
    matcher = Matcher(ad_matcher=ad_matcher)
    assert matcher.match(job(), HOME, W512).ok
    assert ad_matcher._process is not None
    os.kill(ad_matcher._process.pid, signal.SIGKILL)
    assert matcher.match(job("TARGET.Memory > 1"), HOME, W512).ok
    assert ad_matcher.starts == 2


def test_threads_share_it(ad_matcher: SubprocessMatcher) -> None:
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


def test_an_owner_of_fatal_jobs_waits_longer_and_longer_and_nobody_else_does() -> None:
    now = [1000.0]
    ad_matcher = SubprocessMatcher([sys.executable, "-c", CRASHING], monotonic=lambda: now[0], jitter_sample=lambda: 0.5)
    try:
        for number in range(3):
            assert ad_matcher.matches("mallory", f"crash {number}", "w") is False
            assert "ends it (SIGSEGV)" in ad_matcher.reasons("mallory", f"crash {number}", "w").error
        lost = ad_matcher.starts
        assert ad_matcher.matches("mallory", "good", "w") is None, "not now"
        assert "not judged for another 60 s, because of other jobs of mallory" in ad_matcher.reasons("mallory", "good", "w").error
        assert ad_matcher.matches("alice", "good", "w") is True
        assert ad_matcher.matches("mallory", "crash 0", "w") is False, "that one is known"
        now[0] += 61
        assert ad_matcher.matches("mallory", "crash 3", "w") is False
        now[0] += 61
        assert ad_matcher.matches("mallory", "good", "w") is None, "twice as long as before"
        now[0] += 60
        assert ad_matcher.matches("mallory", "good", "w") is True
        assert ad_matcher.matches("mallory", "crash 4", "w") is False, "forgiven: asked at once"
        assert ad_matcher.starts <= lost + 3
    finally:
        ad_matcher.close()


def test_an_answer_for_the_moment_is_not_kept() -> None:
    now = [1000.0]
    ad_matcher = SubprocessMatcher([sys.executable, "-c", CRASHING], monotonic=lambda: now[0], jitter_sample=lambda: 0.5)
    matcher = Matcher(ad_matcher=ad_matcher)
    try:
        for number in range(3):
            assert not matcher.match(job(f"crash{number}"), HOME, W512).ok
        waiting = matcher.match(job("good"), HOME, W512)
        assert not waiting.ok and "not judged for another" in waiting.detail
        now[0] += 100
        assert matcher.match(job("good"), HOME, W512).ok
    finally:
        ad_matcher.close()


def test_a_child_that_cannot_be_started_is_said_to_be(tmp_path: Path) -> None:
    for command in ([str(tmp_path / "nothing")], [sys.executable, "-c", "raise SystemExit(3)"]):
        ad_matcher = SubprocessMatcher(command)
        with pytest.raises(MatchingUnavailable, match=r"cannot be started|ended at its start \(code 3\)"):
            ad_matcher.matches("alice", "{}", "{}")
        ad_matcher.close()
