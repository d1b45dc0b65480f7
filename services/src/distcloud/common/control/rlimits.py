"""Resource limits that a process sets on itself before it evaluates untrusted input; the kernel kills it when it exceeds them."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

_MEMORY = 1024**3  # bytes


def limit_memory(extra: int = _MEMORY) -> None:
    """Cap the address space at its present size and `extra` bytes, disable core dumps, let an expired `cpu_timeout` kill the process."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # kills the process, also in the middle of a library
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    limit = pages * resource.getpagesize() + extra
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


@contextlib.contextmanager
def cpu_timeout(seconds: float) -> Iterator[None]:
    """Kill the process when the block takes longer in CPU time; wall time would punish it for a busy machine."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
