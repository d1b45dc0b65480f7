"""Limits that a process sets itself before it evaluates what strangers wrote: past them the kernel ends it, wherever it is."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

_MEMORY = 1024**3  # bytes of address space beyond what the process has when it begins


def bound() -> None:
    """No more memory than a little above what is there, no core files, and an end when `within` is exceeded."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, also in the middle of a library
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    most = pages * resource.getpagesize() + _MEMORY
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Ends the process when what is done in it takes longer: of a processor's time, so that a busy machine makes nothing too long."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
