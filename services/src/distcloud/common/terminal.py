"""Text on a terminal."""

from __future__ import annotations


def harmless(text: str) -> str:
    """In one line and without control characters: some of it was written by users, and a terminal obeys such characters."""
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))
