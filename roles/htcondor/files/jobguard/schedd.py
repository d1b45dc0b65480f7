"""The schedd seen from outside: its process, its tools, and its queue while it is down."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Iterable, Iterator, Sequence

from job_queue import Offender, replacement

# A healthy schedd answers within a second; a tool itself would wait 20 s.
TOOL_SECONDS = 10
# Jobs and attributes in one call of a tool, so that its arguments stay short.
BATCH = 200
ARGUMENT_BYTES = 65536


class Unanswered(Exception):
    """The schedd does not answer its tools."""


def tool(*command: str) -> str:
    """Run a tool of HTCondor; its output, also if it fails. Raises Unanswered if it takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise Unanswered("%s took more than %d s" % (command[0], TOOL_SECONDS)) from error
    except (OSError, ValueError) as error:  # arguments that are too long, or hold a zero byte
        return "%s: %s" % (command[0], error)
    if done.returncode != 0 and ("Failed to connect" in done.stderr or "CEDAR" in done.stderr or "Can't" in done.stderr):
        raise Unanswered(" ".join(done.stderr.split()))
    return done.stdout + done.stderr


def queue_log() -> Path:
    """The log of the schedd's queue, as HTCondor is configured. Raises ValueError."""
    done = subprocess.run(
        ["condor_config_val", "-subsystem", "schedd", "JOB_QUEUE_LOG"], capture_output=True, text=True, timeout=TOOL_SECONDS, check=False
    )
    path = Path(done.stdout.strip())
    if done.returncode != 0 or not path.is_absolute():
        raise ValueError("condor_config_val shows no path for JOB_QUEUE_LOG: %s" % " ".join((done.stdout + done.stderr).split()))
    return path


def hold_and_edit(offenders: Sequence[Offender], reason: str) -> str:
    """Hold the jobs and replace their attributes, through the schedd; the tools' output. Raises Unanswered."""
    output = ""
    for start in range(0, len(offenders), BATCH):
        batch = offenders[start : start + BATCH]
        output += tool("condor_hold", "-reason", reason, *(offender.job for offender in batch))
        groups: dict[frozenset[str], list[str]] = {}
        for offender in batch:
            groups.setdefault(offender.attributes, []).append(offender.job)
        for names, jobs in groups.items():
            for words in _edits(names):
                done = tool("condor_qedit", "-jobids", ",".join(jobs), *words)
                # One attribute that cannot be set undoes the call.
                if "not allowed" in done or "failed" in done.lower():
                    for name in words[::2][:BATCH]:
                        done += tool("condor_qedit", "-jobids", ",".join(jobs), name, replacement(name))
                output += done
    return output


def _edits(names: Iterable[str]) -> Iterator[list[str]]:
    """Arguments that replace the attributes, some at a time."""
    words: list[str] = []
    for name in sorted(names):
        if words and (len(words) >= BATCH or sum(map(len, words)) + len(name) > ARGUMENT_BYTES):
            yield words
            words = []
        words = [*words, name, replacement(name)]
    yield words


def children_of(parent: int, name: str) -> list[int]:
    """Processes of that name that the parent started."""
    try:
        pids = Path("/proc/%d/task/%d/children" % (parent, parent)).read_text().split()
    except OSError:
        return []
    return [int(pid) for pid in pids if command_of(int(pid)) == name]


def command_of(pid: int) -> str:
    try:
        return Path("/proc/%d/comm" % pid).read_text().strip()
    except OSError:
        return ""


def main_pid(unit: str) -> int:
    """The unit's main process, or 0."""
    return int(tool("systemctl", "show", "--property=MainPID", "--value", unit).strip() or 0)


def end(pids: Iterable[int], seconds: float = 10) -> bool:
    """End processes at once; whether they are gone."""
    waiting = set(pids)
    for pid in waiting:
        os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + seconds
    while waiting and time.monotonic() < until:
        waiting = {pid for pid in waiting if Path("/proc/%d" % pid).exists()}
        time.sleep(0.05)
    return not waiting


def append(path: Path, offset: int, text: str) -> None:
    """Append records to the queue's log. No schedd may run. An incomplete transaction after the offset is removed, as the schedd does."""
    with path.open("r+b", buffering=0) as log:
        log.truncate(offset)
        log.seek(offset)
        log.write(text.encode())
        os.fsync(log.fileno())
