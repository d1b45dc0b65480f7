"""Helpers of tests on lab hosts: polling, commands as root, accounts of regions, and processes of lab hosts."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

T = TypeVar("T")
SUDO = [] if os.geteuid() == 0 else ["sudo", "-n"]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing(what: str) -> NoReturn:
    """Skip the test; fail it instead if tests/run.py has set up its requirements."""
    if os.environ.get("DISTCLOUD_LAB_REQUIRED"):
        pytest.fail(what)
    pytest.skip(what)


def root(*command: str, check: bool = True) -> str:
    """Run a command as root; returns its output."""
    environment = os.environ | {"PATH": PATH}
    done = subprocess.run([*SUDO, *command], env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def wait(what: str, probe: Callable[[], T], seconds: float = 300, pause: float = 0.5) -> T:
    """Poll until the probe returns a true value; fails with `what` after `seconds`. An exception counts as false."""
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
    """Whether a directory of /proc belongs to a living process; a zombie counts as dead.

    Raises OSError if it disappears meanwhile.
    """
    return (process / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"


def is_gone(pid: int | str) -> bool:
    """Whether a process is dead or dies within a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if not alive(Path("/proc", str(pid))):
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


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
    """Kill every process of a lab host (kill -9)."""

    def cut() -> bool:
        found = [str(pid) for pid in processes(lab, host)]
        if found:
            root("kill", "-9", *found, check=False)  # some go with their parents before it is their turn
        return not found

    wait(f"no process of {host} lives", cut, 60, 0.1)
