"""What tests on lab hosts share: patience, a region's account, and the processes of a host as the outer machine sees them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def wait(what: str, probe: Callable[[], T], seconds: float = 300, pause: float = 0.5) -> T:
    """Ask until the answer is true; fails with `what` after `seconds`. A probe that cannot ask has no answer yet."""
    end = time.monotonic() + seconds
    while True:
        answer, reason = None, ""
        try:
            answer = probe()
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            reason = f" ({error})"
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what}; last answer: {answer!r}{reason}")
        time.sleep(pause)


def connection(clouds: Path, entry: str) -> Any:
    """A connection of openstacksdk for an entry of a clouds.yaml."""
    import openstack

    return openstack.connection.Connection(config=openstack.config.OpenStackConfig(config_files=[str(clouds)]).get_one(entry))


def alive(process: Path) -> bool:
    """Whether a folder of /proc is of a process that lives: one that is dead and only not yet reaped does nothing any more.

    Raises OSError where it has gone meanwhile.
    """
    return (process / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"


def processes(lab: str, host: str) -> list[int]:
    """All living processes of a lab host."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if alive(folder) and f"distcloud-lab-{lab}-{host}" in (folder / "cgroup").read_text():
                    found.append(int(folder.name))
    return found


def power_cut(lab: str, host: str) -> None:
    """kill -9 to every process of a lab host."""
    for pid in processes(lab, host):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
