"""No secret reaches the log by its key or by a traceback, in either format."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distcloud.common.config import LogSettings
from distcloud.common.logs import MASK, SECRET_KEYS, configure, get_logger, hide_secrets

SECRET = "unmistakable"


@pytest.fixture(autouse=True)
def _quiet_again() -> Iterator[None]:
    yield
    configure(LogSettings(level="error"))


def fails(password: str) -> None:
    raise RuntimeError(f"unexpected error: it has {len(password)} letters")


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("ours", [True, False])
def test_traceback_has_lines_but_no_values(form: Literal["json", "console"], ours: bool) -> None:
    stream = io.StringIO()
    configure(LogSettings(format=form), stream)
    try:
        fails("".join(reversed("elbakatsimnu")))  # not in a line of code either
    except RuntimeError:
        get_logger("ours").exception("failed") if ours else logging.getLogger("theirs").exception("failed")
    assert "in fails" in stream.getvalue() and "it has 12 letters" in stream.getvalue()
    assert SECRET not in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_secret_in_a_list_is_masked(form: Literal["json", "console"]) -> None:
    stream = io.StringIO()
    configure(LogSettings(format=form), stream)
    get_logger("ours").info("made", clouds=[{"name": "east", "auth": ({"password": SECRET},)}])
    assert "east" in stream.getvalue() and MASK in stream.getvalue()
    assert SECRET not in stream.getvalue()


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)


@given(st.recursive(st.just("plain") | st.sampled_from(SECRET_KEYS).map(lambda word: {f"the_{word}": SECRET}), nested))
def test_secrets_are_masked_at_any_depth(value: Any) -> None:
    shown = hide_secrets(None, "info", {"event": "e", "value": value})["value"]
    assert repr(shown) == repr(value).replace(SECRET, MASK)
