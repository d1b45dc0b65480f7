"""Render a site's summary as one self-contained page: no JavaScript, light and dark, phone and desktop."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..common.http.pages import page_environment
from ..common.times import duration
from .formatting import cell, count, size


def render(summary: Mapping[str, Any]) -> str:
    """Return the page as HTML text."""
    environment = page_environment(__package__)
    # A source that did not answer has a problem of its own name; others are about a part of it.
    unreachable = {problem["kind"] for problem in summary["problems"] if problem["name"] == problem["kind"]}
    environment.filters |= {"cell": cell, "clock": _clock, "count": count, "duration": duration, "size": size}
    return environment.get_template("page.html.j2").render(**summary, unreachable=unreachable)


def _clock(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
