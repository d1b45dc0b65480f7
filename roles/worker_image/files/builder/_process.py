"""Runs programs of the builder and turns their failures into actionable errors."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path


class BuildError(Exception):
    """The image cannot be built; the message says what failed and what to do next."""


def run(command: Sequence[str | Path], *, what: str, epoch: int | None = None) -> str:
    """Run `command` and return its output; `what` names the step in the error.

    Locale, time zone, hash seed and SOURCE_DATE_EPOCH are fixed, so that no tool takes them from the caller.
    """
    environment = {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "DEBIAN_FRONTEND": "noninteractive",
        # The kernel package would make an initrd before the tree holds our settings for it.
        "INITRD": "No",
    }
    for name in ("http_proxy", "https_proxy", "no_proxy", "TMPDIR"):
        if name in os.environ:
            environment[name] = os.environ[name]
    if epoch is not None:
        environment["SOURCE_DATE_EPOCH"] = str(epoch)
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise BuildError(f"{what}: the program {words[0]} is not installed on the builder") from None
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-25:])
        raise BuildError(f"{what}: {words[0]} ended with {done.returncode}:\n{tail}")
    return done.stdout
