"""Holds jobs whose expressions would keep the schedd and the negotiator busy: `python3 FOLDER --limit SIZE`, as user condor.

Follows the log of the queue. A job over the limit is held, and its attributes over the limit are replaced, because HTCondor evaluates
attributes of held jobs too. If the schedd evaluates already and does not answer, it is ended, and the edits are written to the log before
condor_master starts it again (MASTER_SCHEDD_BACKOFF_CONSTANT). The user of such a job is disabled, so that nobody does this twice.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from pathlib import Path

from job_queue import JobQueue, Offender, records
from schedd import Unanswered, append, children_of, end, hold_and_edit, main_pid, queue_log

POLL_SECONDS = 0.05
RETRY_SECONDS = 3
# Edits through the schedd that had no effect, after which its log is edited.
ATTEMPTS = 3
# Less than WatchdogSec of the unit.
WATCHDOG_SECONDS = 30
CHUNK = 1 << 20


class LogReader:
    """Follows the log; a replaced or truncated file is read from its beginning."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.queue = JobQueue(limit)
        self._limit = limit
        self._inode = 0
        self._position = 0

    def read(self) -> None:
        """Read what is new."""
        try:
            now = self.path.stat()
            if (now.st_ino, now.st_size) == (self._inode, self._position):
                return
            with self.path.open("rb", buffering=0) as log:
                found = os.fstat(log.fileno())
                if found.st_ino != self._inode or found.st_size < self._position:
                    self.queue = JobQueue(self._limit)
                    self._inode, self._position = found.st_ino, 0
                log.seek(self._position)
                while data := log.read(CHUNK):
                    self._position += len(data)
                    self.queue.feed(data)
        except FileNotFoundError:
            return


class Guard:
    """Acts on what the log shows."""

    def __init__(self, reader: LogReader, unit: str) -> None:
        self.reader = reader
        self.unit = unit
        self.pending: dict[str, Offender] = {}
        self._next = 0.0
        self._attempts = 0

    def step(self) -> None:
        """Read the log once and act on the jobs over the limit."""
        self.reader.read()
        self.pending.update((offender.job, offender) for offender in self.reader.queue.offenders())
        if not self.pending or time.monotonic() < self._next:
            return
        offenders = list(self.pending.values())
        for offender in offenders:
            log("job %s: %s" % (offender.job, why(offender, self.reader.queue.limit)))
        started, output = time.monotonic(), ""
        try:
            output = hold_and_edit(offenders, reason(self.reader.queue.limit))
        except Unanswered as error:
            log("the schedd does not answer: %s" % error)
            if time.monotonic() - started > RETRY_SECONDS:
                self.repair()
        else:
            self._attempts += 1
            self._look_again()
            if self._attempts >= ATTEMPTS and self.pending:
                log("the schedd does not take the edits: %s" % " ".join(output.split())[:1000])
                self.repair()
        self._look_again()
        if self.pending:
            log("%d jobs are still over the limit: %s" % (len(self.pending), " ".join(output.split())[:1000]))
        else:
            self._attempts = 0
        self._next = time.monotonic() + RETRY_SECONDS if self.pending else 0.0

    def _look_again(self) -> None:
        """Keep as pending what the edits have not reached, and the jobs that came over the limit since."""
        self.reader.queue.check_again(self.pending.values())
        self.reader.read()
        self.pending = {offender.job: offender for offender in self.reader.queue.offenders()}

    def repair(self) -> None:
        """End the schedd and edit its log while it is down."""
        master = main_pid(self.unit)
        if not master:
            return
        if not end(children_of(master, "condor_schedd")):
            log("the schedd cannot be ended")
            return
        self._look_again()
        queue, offenders = self.reader.queue, list(self.pending.values())
        if offenders and not children_of(master, "condor_schedd"):
            append(self.reader.path, queue.offset, records(offenders, queue.users, reason(queue.limit), int(time.time())))
            users = ", ".join(sorted({offender.user for offender in offenders}))
            log(
                "ended the schedd, edited %d jobs in %s after byte %d, disabled %s"
                % (len(offenders), self.reader.path, queue.offset, users)
            )


def why(offender: Offender, limit: int) -> str:
    names = [name[:64] for name in sorted(offender.attributes)]
    shown = ", ".join(names[:5]) + (" and %d more" % (len(names) - 5) if len(names) > 5 else "")
    return "expressions of size %d, limit %d: %s" % (offender.largest, limit, shown)


def reason(limit: int) -> str:
    """The hold reason; no character of it may need an escape in the log."""
    return (
        "Expressions of this job refer to each other so often that their evaluation would block the queue (limit: size %d). "
        "The attributes were replaced; submit the job again with simpler expressions." % limit
    )


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def notify(state: str) -> None:
    """Send a state to systemd."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--unit", default="condor.service")
    options = parser.parse_args()
    path = queue_log()
    if not path.exists():
        log("%s does not exist yet; waiting for it" % path)
    guard = Guard(LogReader(path, options.limit), options.unit)
    guard.reader.read()
    notify("READY=1\nSTATUS=Following %s" % path)
    alive = 0.0
    while True:
        guard.step()
        if time.monotonic() > alive:
            notify("WATCHDOG=1")
            alive = time.monotonic() + WATCHDOG_SECONDS
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
