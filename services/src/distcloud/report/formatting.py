"""Format amounts for people."""

from __future__ import annotations


def size(amount: int) -> str:
    """Format bytes as "161 MB"."""
    return f"{amount / 1e6:.0f} MB"


def count(amount: int | None) -> str:
    """Format a number; None (unknown) as "?"."""
    return "?" if amount is None else str(amount)
