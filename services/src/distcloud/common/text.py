"""Text of others, made safe to store and to print."""

from __future__ import annotations


def printable(text: str, limit: int | None = None) -> str:
    """In one line and without control characters or unpaired surrogates, cut to `limit` characters.

    Such characters move a terminal's cursor, forge lines of a log, and are refused by some databases.
    """
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split())[:limit])
