"""Tell which certificates of a host end soon, as a JSON list of {"host", "path", "ends": seconds since the epoch}.

usage: certificates.py HOST DAYS PATH...: those of the files that are there and end within so many days.
"""

import json
import os
import ssl
import subprocess
import sys
import time


def end(text):
    """Seconds since the epoch, from what `openssl x509 -enddate` prints."""
    return ssl.cert_time_to_seconds(text.strip().partition("=")[2])


def read(path):
    argv = ["openssl", "x509", "-noout", "-enddate", "-in", path]
    return end(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


def ending(host, ends, limit):
    """What ends before the limit, soonest first."""
    return [{"host": host, "path": path, "ends": when} for path, when in sorted(ends.items(), key=lambda one: one[1]) if when < limit]


if __name__ == "__main__":
    host, days, *paths = sys.argv[1:]
    print(json.dumps(ending(host, {path: read(path) for path in paths if os.path.exists(path)}, time.time() + int(days) * 86400)))
