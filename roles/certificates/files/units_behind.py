"""Name the units that run with older files than there are: one line for each that read its files before the last of them was laid.

Reads JSON from standard input: {unit: {"files": {path: part of the path that it leads to, "" where that does not matter}, "reload":
whether a reload reads them too}}. Units that do not run are not named: they read the files when they start. Role scheduler asks by this
program too.
"""

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
PROPERTIES = "ActiveState,ActiveEnterTimestamp,CanReload,ExecMainStartTimestamp,MainPID,StateChangeTimestamp"


def parse_reading(text, reload):
    """When a unit last read its files, in microseconds since the epoch, from what `systemctl show` says; None where it does not run.

    A service reads them as its process begins, a good while before it is called active; what has no process (a socket) when it became
    active. A state that changed after that is a reload.
    """
    shown = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    process, active = shown.get("MainPID", "0") != "0", shown.get("ActiveEnterTimestamp")
    if not process and shown.get("ActiveState") not in ("active", "reloading"):
        return None
    changed = shown.get("StateChangeTimestamp")
    if reload and shown.get("CanReload") == "yes" and active and changed != active and shown.get("ActiveState") == "active":
        return microseconds(changed)
    return microseconds(shown["ExecMainStartTimestamp"] if process else active)


def microseconds(stamp):
    read = datetime.strptime(stamp, "%a %Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=timezone.utc)
    return (read - EPOCH) // timedelta(microseconds=1)


def reading(unit, reload):
    # Whole seconds would not do: a unit is started within the second in which its files are laid.
    argv = ["systemctl", "show", "--timestamp=us+utc", f"--property={PROPERTIES}", "--", unit]
    return parse_reading(subprocess.run(argv, capture_output=True, text=True, check=True).stdout, reload)


def laid(path, target):
    """When a file was laid, in microseconds since the epoch; of a link, the link itself. One that is missing or leads elsewhere has been
    laid by the time that it counts: only in a dry run is it not there yet."""
    if not os.path.lexists(path) or target not in os.path.realpath(path):
        return float("inf")
    return os.lstat(path).st_mtime_ns // 1000


def behind(wishes, reading_of):
    """The units in the order of the wishes."""
    read = {unit: reading_of(unit, wish["reload"]) for unit, wish in wishes.items()}
    return [
        unit for unit, wish in wishes.items() if read[unit] is not None and any(laid(*file) > read[unit] for file in wish["files"].items())
    ]


if __name__ == "__main__":
    print("\n".join(behind(json.load(sys.stdin), reading)))
