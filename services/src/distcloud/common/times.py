"""Times and durations as text. Times are seconds since the epoch (UTC), durations are seconds."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

_END = 253_402_300_800  # the year 10000, which ISO 8601 and calendars cannot express
_EXPECTED = "should be a time such as 2027-01-31T12:00:00Z"


def timestamp(at: float | None, *, milliseconds: bool = True) -> str | None:
    """A time as ISO 8601 text in UTC, to the millisecond or the second."""
    if at is None:
        return None
    if milliseconds:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return datetime.fromtimestamp(math.floor(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(value: Any) -> float | None:
    """Seconds since the epoch from ISO 8601 text (UTC where it names no zone, as Keystone writes it) or a number. Raises ValueError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(_EXPECTED)
    if isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError(_EXPECTED) from None
        value = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    if not 0 <= value < _END:  # false for NaN and for integers beyond all floats as well
        raise ValueError("should be a time between 1970 and 9999")
    return float(value)


def duration(seconds: float | None) -> str:
    """The two leading units: "42 s", "3 min 5 s", "2 h 10 min", "3 d 4 h"; empty for None."""
    if seconds is None:
        return ""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    for limit, unit, length, smaller, part in (
        (3600, "min", 60, "s", 1),
        (86_400, "h", 3600, "min", 60),
        (math.inf, "d", 86_400, "h", 3600),
    ):
        if whole < limit:
            rest = whole % length // part
            return f"{whole // length} {unit}" + (f" {rest} {smaller}" if rest else "")
    raise AssertionError("unreachable")
