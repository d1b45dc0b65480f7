"""Runs matching in a supervised child process, and remembers the jobs that the child did not survive.

Unlike `common.supervise.JsonChild` (asyncio, one JSON request per line) it is called from threads, thousands of times per plan, and
sends each ad only once.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from ...common.control.keyed_breaker import KeyedCircuitBreaker
from .ad_matcher import Reasons
from .bindings import MatchingUnavailable
from .clauses import Failure

_COMMAND: Final = (sys.executable, "-m", "distcloud.scheduler.matching.child")
# Wall-clock seconds, for a machine that hangs; the child's own timer limits its CPU time.
_ANSWER_TIMEOUT: Final = 60.0
_MAX_FATAL: Final = 1000
_MAX_NUMBERED_ADS: Final = 4096
# Sent from outside: by the administrator, or by the kernel when memory is short. The first one is not blamed on the job.
_EXTERNAL_SIGNALS: Final = frozenset(-number for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))


class _ChildExited(Exception):
    """The child exited before it answered; carries its return code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class SubprocessMatcher:
    """An `AdMatcher` that evaluates in a child process. Thread-safe; questions are answered one at a time.

    A job that ends the child is never evaluated again: it matches nothing, and `reasons` says why. Raises MatchingUnavailable if the
    child cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str] = _COMMAND,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        jitter_sample: Callable[[], float] = random.random,
    ) -> None:
        self._command = tuple(command)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers: dict[str, int] = {}  # ads that the child knows
        self._fatal: dict[str, str] = {}  # job ad -> why it is not evaluated
        self._owners = KeyedCircuitBreaker(monotonic, jitter_sample)
        self.starts = 0

    def matches(self, owner: str, job: str, worker: str) -> bool | None:
        with self._lock:
            if job in self._fatal:
                return False
            if self._backoff_reason(owner):
                return None
            answer = self._answer("M", owner, job, worker)
        return False if isinstance(answer, str) else bool(answer)

    def reasons(self, owner: str, job: str, worker: str) -> Reasons:
        with self._lock:
            answer = self._fatal.get(job) or self._backoff_reason(owner) or self._answer("W", owner, job, worker)
        if isinstance(answer, str):
            return Reasons(answer)
        error, failures = answer
        return Reasons(str(error), tuple(Failure(*map(str, each)) for each in failures))

    def close(self) -> None:
        """End the child; the next question starts a new one."""
        with self._lock:
            self._end()

    def _backoff_reason(self, owner: str) -> str:
        """Why no job of this owner is evaluated now; empty if they are."""
        wait = self._owners.wait(owner)
        return f"not evaluated for another {wait:.0f} s because of other jobs of {owner}: {self._owners.error(owner)}" if wait else ""

    def _answer(self, kind: str, owner: str, job: str, worker: str) -> Any:
        """The child's answer, or a sentence that says why there is none."""
        for last in (False, True):
            try:
                answer = json.loads(self._ask_child(kind, job, worker))
            except _ChildExited as exited:
                if exited.code in _EXTERNAL_SIGNALS and not last:
                    continue
                return self._record_fatal(owner, job, exited.code)
            self._owners.succeeded(owner)
            return answer
        raise AssertionError("unreachable")

    def _record_fatal(self, owner: str, job: str, code: int) -> str:
        outcome = "takes too long" if code == -signal.SIGPROF else f"crashes ({_exit_name(code)})"
        why = f"HTCondor's ClassAd library cannot evaluate the job's ad: evaluation {outcome}; rewrite its Requirements"
        while len(self._fatal) >= _MAX_FATAL:
            del self._fatal[next(iter(self._fatal))]
        self._fatal[job] = why
        self._owners.failed(owner, why)
        return why

    def _ask_child(self, kind: str, job: str, worker: str) -> bytes:
        process = self._running()
        assert process.stdin is not None
        lines = [] if len(self._numbers) + 2 <= _MAX_NUMBERED_ADS else ["F"]
        if lines:
            self._numbers.clear()
        for ad in (job, worker):
            if ad not in self._numbers:
                self._numbers[ad] = len(self._numbers)
                lines.append(f"A\t{self._numbers[ad]}\t{ad}")
        lines.append(f"{kind}\t{self._numbers[job]}\t{self._numbers[worker]}\n")
        try:
            process.stdin.write("\n".join(lines).encode("ascii"))
            process.stdin.flush()
        except OSError:
            raise _ChildExited(self._end()) from None
        answer = self._read_line(process)
        if answer is None:
            raise _ChildExited(self._end())
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        try:
            pipe = subprocess.PIPE
            process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, start_new_session=True)  # noqa: S603 - our own program
        except OSError as error:
            raise MatchingUnavailable(f"the matching process cannot be started: {error}") from error
        self.starts += 1
        self._process = process
        if self._read_line(process) != b"ready":
            raise MatchingUnavailable(f"the matching process exited at start ({_exit_name(self._end())}); see the log")
        return process

    @staticmethod
    def _read_line(process: subprocess.Popen[bytes]) -> bytes | None:
        """The next line from the child without its line end; None if the child exited, or sent nothing for too long."""
        assert process.stdout is not None
        end, received = time.monotonic() + _ANSWER_TIMEOUT, bytearray()
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        while not received.endswith(b"\n"):
            ready = poll.poll(max(0.0, end - time.monotonic()) * 1000)
            chunk = os.read(process.stdout.fileno(), 65536) if ready else b""
            if not chunk:
                return None
            received += chunk
        return bytes(received[:-1])

    def _end(self) -> int:
        """End the child if it still runs; returns its return code, negative for a signal."""
        process, self._process = self._process, None
        self._numbers.clear()
        if process is None:
            return 0
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # unsent data
                pipe.close() if pipe else None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(0.2)
        process.kill()
        return process.wait()


def _exit_name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"code {code}"
