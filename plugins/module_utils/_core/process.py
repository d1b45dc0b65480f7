# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A command that is ended with all that it started.

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
    output: t.Union[int, t.IO[bytes]],
    env: t.Optional[t.Mapping[str, str]] = None,
    cwd: t.Optional[str] = None,
    lock: t.Optional[int] = None,
) -> int:
    """Run a command without input, in a session and so a process group of its own; its code, or subprocess.TimeoutExpired.

    ``output`` takes what it says. ``lock`` is the descriptor of a lock that goes to the command too: if this process is killed, the next
    run waits for the command instead of working beside it.
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
        # With all that it started: the lock is let go, and what lives on (runuser's command, a shell's) would go on beside the next run.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
