"""Bounds on the structure of JSON text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distcloud.common.json_limits import JsonLimits, TooComplex

LIMITS = JsonLimits(depth=64, containers=10_000, values=100_000)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[" + b"[]," * LIMITS.containers + b"[]]", "objects and arrays"),
        (b"[" + b"{}," * LIMITS.containers + b"{}]", "objects and arrays"),
        (b"[" + b"1," * LIMITS.values + b"1]", "values"),
        (b"[" * (LIMITS.depth + 1) + b"]" * (LIMITS.depth + 1), "levels deep"),
        (b'{"a":' * (LIMITS.depth + 1) + b"1" + b"}" * (LIMITS.depth + 1), "levels deep"),
    ],
    ids=["arrays", "objects", "values", "nested arrays", "nested objects"],
)
def test_costly_structure_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(TooComplex, match=reason):
        LIMITS.check(body)


@given(JSON)
@settings(max_examples=200, deadline=None)
def test_ordinary_structure_is_accepted(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        if "\\ud" not in text.lower():
            LIMITS.check(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("text", ["[" * 20_000, "{{ a }}" * 20_000, "," * 200_000, '\\"[' * 50_000, "\\" * 1000 + "[" * 20_000])
def test_strings_do_not_count_as_structure(text: str) -> None:
    LIMITS.check(json.dumps({"content": text}).encode())


@given(st.binary(max_size=300) | st.text(alphabet='"\\[]{},: 1', max_size=300).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_checked_without_a_failure(raw: bytes) -> None:
    LIMITS.check(raw)
