"""Tell which certificates of a host end soon, as a JSON list of {"host", "path", "ends": seconds since the epoch}.

usage: certificates.py HOST DAYS PATH...: those of the files that are there and end within so many days. A file ends when the first of its
certificates does, the intermediate ones among them; one that holds none that can be read is told too, with null for `ends`.
"""

import json
import os
import ssl
import subprocess
import sys
import time

BEGIN = "-----BEGIN CERTIFICATE-----"


def end(text):
    """Seconds since the epoch, from what `openssl x509 -enddate` prints."""
    return ssl.cert_time_to_seconds(text.strip().partition("=")[2])


def read(path):
    """When a file ends, or None."""
    argv = ["openssl", "x509", "-noout", "-enddate"]
    try:
        with open(path, encoding="utf-8", errors="replace") as source:
            blocks = source.read().split(BEGIN)[1:]
        told = [subprocess.run(argv, input=BEGIN + block, capture_output=True, text=True, check=True).stdout for block in blocks]
        return min(end(text) for text in told)
    except (ValueError, subprocess.CalledProcessError):
        return None


def ending(host, ends, limit):
    """What cannot be read, and what ends before the limit, soonest first."""
    told = sorted((when or 0, path, when) for path, when in ends.items() if when is None or when < limit)
    return [{"host": host, "path": path, "ends": when} for _order, path, when in told]


if __name__ == "__main__":
    host, days, *paths = sys.argv[1:]
    print(json.dumps(ending(host, {path: read(path) for path in paths if os.path.exists(path)}, time.time() + int(days) * 86400)))
