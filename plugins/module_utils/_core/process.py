# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a command in its own process group and kills the whole group on a timeout.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import typing as t


def run_in_group(
    argv: t.Sequence[str],
    timeout: float,
    output: int | t.IO[bytes],
    env: t.Mapping[str, str] | None = None,
    cwd: str | None = None,
    lock: int | None = None,
) -> int:
    """Run a command without input in its own session and process group; its exit code, or subprocess.TimeoutExpired.

    ``output`` receives its output. ``lock`` is the descriptor of a lock that the command inherits: if this process is killed, the next
    run waits for the command instead of working at the same time.
    """
    process = subprocess.Popen(  # pylint: disable=ansible-bad-function
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=env,
        cwd=cwd,
        pass_fds=() if lock is None else (lock,),
        start_new_session=True,
    )
    try:
        return process.wait(timeout)
    except BaseException:
        # The whole group: the lock is released, and surviving children (runuser's command, a shell's) would run beside the next run.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
