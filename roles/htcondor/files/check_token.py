"""Say whether a token file of HTCondor is good: ends with 0, or with 3 when it must be replaced.

usage: check_token.py FILE IDENTITY. Good is a token of that identity with more than half of its life left, for its owner alone.
"""

import base64
import json
import os
import stat
import sys
import time


def good(path, identity, now):
    try:
        status = os.stat(path)
        with open(path, encoding="utf-8") as source:
            part = source.read().strip().split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        begin, end = int(claims["iat"]), int(claims["exp"])
    except (OSError, ValueError, IndexError, KeyError):
        return False
    private = status.st_uid == 0 and stat.S_IMODE(status.st_mode) == 0o600
    return private and claims.get("sub") == identity and end - now >= (end - begin) / 2


if __name__ == "__main__":
    sys.exit(0 if good(sys.argv[1], sys.argv[2], time.time()) else 3)
