"""Timestamps and durations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distcloud.common.times import duration, parse_timestamp, timestamp


def test_timestamp_to_the_millisecond_or_second() -> None:
    assert timestamp(None) is None
    assert timestamp(1_800_000_000.1239) == "2027-01-15T08:00:00.123Z"
    assert timestamp(1_800_000_000.9, milliseconds=False) == "2027-01-15T08:00:00Z"


@given(st.integers(0, 253_402_300_799))
def test_timestamp_round_trip(at: int) -> None:
    assert parse_timestamp(timestamp(at)) == at == parse_timestamp(timestamp(at, milliseconds=False))


@pytest.mark.parametrize(
    ("value", "at"),
    [(None, None), (12, 12.0), ("1970-01-01T00:00:12", 12.0), ("1970-01-01T01:00:12+01:00", 12.0), (" 1970-01-01T00:00:12Z ", 12.0)],
)
def test_times_without_zone_are_utc(value: Any, at: float | None) -> None:
    assert parse_timestamp(value) == at


@pytest.mark.parametrize("value", [True, "soon", [], -1, float("nan"), 10**400, "9999-12-31T23:59:59-23:00"])
def test_other_values_are_rejected(value: Any) -> None:
    with pytest.raises(ValueError, match="should be a time"):
        parse_timestamp(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (-3, "0 s"),
        (42.4, "42 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (7200, "2 h"),
        (7800, "2 h 10 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_duration_shows_two_units(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
