"""Name the units that run with older files than there are: one line for each that began before the last of its files was laid.

Reads JSON from standard input: {unit: {path: part of the path that it leads to, "" where that does not matter}}. Units that do not run
are not named: they read the files when they start.
"""

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
PROPERTIES = "ActiveState,ActiveEnterTimestamp,MainPID,ExecMainStartTimestamp"


def parse_beginning(text):
    """When a unit began to read its files, in microseconds since the epoch, from what `systemctl show` says; None where it does not run.

    A service reads them as its process begins, a good while before it is called active; a socket has no process.
    """
    shown = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if "MainPID" in shown:
        runs, stamp = shown["MainPID"] != "0", shown.get("ExecMainStartTimestamp")
    else:
        runs, stamp = shown.get("ActiveState") == "active", shown.get("ActiveEnterTimestamp")
    if not runs:
        return None
    began = datetime.strptime(stamp, "%a %Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=timezone.utc)
    return (began - EPOCH) // timedelta(microseconds=1)


def beginning(unit):
    # Whole seconds would not do: a unit is started within the second in which its files are laid.
    argv = ["systemctl", "show", "--timestamp=us+utc", f"--property={PROPERTIES}", "--", unit]
    return parse_beginning(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


def laid(path, target):
    """When a file was laid, in microseconds since the epoch; of a link, the link itself. One that is missing or leads elsewhere has been
    laid by the time that it counts: only in a dry run is it not there yet."""
    if not os.path.lexists(path) or target not in os.path.realpath(path):
        return float("inf")
    return os.lstat(path).st_mtime_ns // 1000


def behind(wishes, beginning_of):
    """The units in the order of the wishes."""
    began = {unit: beginning_of(unit) for unit in wishes}
    return [unit for unit, files in wishes.items() if began[unit] is not None and any(laid(*file) > began[unit] for file in files.items())]


if __name__ == "__main__":
    print("\n".join(behind(json.load(sys.stdin), beginning)))
