"""Say whether a token file of HTCondor is good: ends with 0, or with 3 when it must be replaced.

usage: check_token.py FILE IDENTITY AUTHORIZATIONS KEY_TIME. Good is a token of that identity with just those authorizations (comma
separated), made after the signing key (KEY_TIME, in seconds since the epoch, 0 when there is no key), with more than half of its life
left, for its owner alone.
"""

import base64
import json
import os
import stat
import sys
import time


def claims(path):
    """What the token says; it is signed, and the signature is not looked at here."""
    with open(path, encoding="utf-8") as source:
        part = source.read().strip().split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def good(path, identity, authorizations, key_time, now, owner=0):
    try:
        status = os.stat(path)
        token = claims(path)
        begin, end = int(token["iat"]), int(token["exp"])
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return False
    private = status.st_uid == owner and stat.S_IMODE(status.st_mode) == 0o600
    allowed = set(str(token.get("scope", "")).split()) == {"condor:/" + name for name in authorizations}
    # Both times are the central manager's, which has made the key and the token.
    signed = key_time != 0 and begin >= key_time
    return private and token.get("sub") == identity and allowed and signed and end - now >= (end - begin) / 2


if __name__ == "__main__":
    file, wished, names, seconds = sys.argv[1:]
    sys.exit(0 if good(file, wished, names.split(","), int(float(seconds)), time.time()) else 3)
