"""Format amounts for people."""

from __future__ import annotations


def duration(seconds: float | None) -> str:
    """Format seconds as "42 s", "3 min 5 s" or "2 h 10 min"; None as empty text."""
    if seconds is None:
        return ""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    return f"{total // 3600} h {total % 3600 // 60} min"


def size(amount: int) -> str:
    """Format bytes as "161 MB"."""
    return f"{amount / 1e6:.0f} MB"


def count(amount: int | None) -> str:
    """Format a number; None (unknown) as "?"."""
    return "?" if amount is None else str(amount)
