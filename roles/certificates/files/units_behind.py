"""Name the units that run with older certificates than there are: one line for each whose files are younger than its last start or reload.

Reads JSON from standard input: [{"files": [paths], "units": [names]}]. Units that do not run are not named: they read the files when
they start.
"""

import json
import os
import subprocess
import sys


def parse_state(text):
    """Whether a unit runs, and the second of its last start or reload, from what `systemctl show` says."""
    shown = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    stamp = shown.get("StateChangeTimestamp", "").lstrip("@")
    return shown.get("ActiveState") in ("active", "reloading"), int(stamp) if stamp.isdigit() else 0


def state(unit):
    argv = ["systemctl", "show", "--timestamp=unix", "--property=ActiveState,StateChangeTimestamp", "--", unit]
    return parse_state(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


def youngest(paths):
    """The second of the last change among the files that are there."""
    return max((int(os.stat(path).st_mtime) for path in paths if os.path.exists(path)), default=0)


def behind(wishes, state_of):
    """The units, each once, in the order of the wishes. A file of the same second as the reload is what was reloaded."""
    found = []
    for wish in wishes:
        changed = youngest(wish["files"])
        for unit in wish["units"]:
            active, since = state_of(unit)
            if active and changed > since and unit not in found:
                found.append(unit)
    return found


if __name__ == "__main__":
    print("\n".join(behind(json.load(sys.stdin), state)))
