"""Format amounts for people."""

from __future__ import annotations


def size(amount: int | None) -> str:
    """Format bytes as "161 MB"; None (unknown) as "?"."""
    return "?" if amount is None else f"{amount / 1e6:.0f} MB"


def count(amount: int | None) -> str:
    """Format a number; None (unknown) as "?"."""
    return "?" if amount is None else str(amount)


def cell(value: object) -> str:
    """Format a cell of an engine's table."""
    if value is None:
        return ""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
