"""Evaluates ClassAds of users and workers in a forked process, because HTCondor's library may crash on untrusted expressions.

A fork evaluates ad after ad and writes one line per result. If it dies on an ad, only the literals of that ad are read, as text, and
another fork continues with the next one. If the ads of one owner kill the fork repeatedly, they are read without evaluation for a
while, so that they do not delay those of others.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final

from ...common.control.keyed_breaker import KeyedCircuitBreaker
from ...common.control.rlimits import cpu_timeout, limit_memory

Row = dict[str, Any]

CPU_SECONDS: Final = 0.5  # per ad; thousands of times what ordinary ads take
_LITERAL: Final = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+|-?\d+\.\d*(?:[eE][-+]?\d+)?|true|false', re.IGNORECASE)

_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r"}


def evaluate_attribute(ad: Any, name: str) -> Any:
    """The value of an attribute as a JSON type; None if it is missing, undefined or an error."""
    if name not in ad:
        return None
    try:
        value = ad.eval(name)
    except Exception:  # self-reference or deep nesting: one job or worker must not hide all others
        return None
    return [_json_value(entry) for entry in value] if isinstance(value, list) else _json_value(value)


def _json_value(value: Any) -> Any:
    """Undefined and Error are enumeration members, and therefore numbers to Python."""
    return value if isinstance(value, bool | int | float | str) and not isinstance(value, Enum) else None


def read_literal(ad: Any, name: str) -> Any:
    """The value of an attribute that is a literal (string, number or Boolean); None if it would have to be evaluated, or is unreadable."""
    try:
        return _literal(str(ad.lookup(name)) if name in ad else "")
    except Exception:  # a number of thousands of digits, or text in another encoding
        return None


def _literal(text: str) -> Any:
    if not _LITERAL.fullmatch(text):
        return None
    if text[0] == '"':
        return re.sub(r"\\(.)", lambda found: _ESCAPED.get(found[1], found[1]), text[1:-1])
    return text.lower() == "true" if text[0] in "tTfF" else float(text) if "." in text else int(text)


class Reader:
    """Reads ads, and remembers the owners whose ads could not be evaluated."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, jitter_sample: Callable[[], float] = random.random) -> None:
        self._failing = KeyedCircuitBreaker(monotonic, jitter_sample)

    def read(
        self, ads: Sequence[Any], evaluate: Callable[[Any], Row], without_evaluation: Callable[[Any], Row], owner_attribute: str
    ) -> list[Row]:
        """One row per ad: from `evaluate` or, if that fails, from `without_evaluation`, which must evaluate nothing.

        `owner_attribute` is the attribute that names the owner of an ad.
        """
        rows: dict[int, Row] = {}
        failed: set[str] = set()
        left = list(range(len(ads)))
        while left:
            if self._failing.keys():
                for index in left:
                    if self._failing.wait(str(read_literal(ads[index], owner_attribute))):
                        rows[index] = without_evaluation(ads[index])
                left = [index for index in left if index not in rows]
            done = _evaluate_in_fork(lambda index: evaluate(ads[index]), left) if left else []
            rows.update(zip(left, done, strict=False))
            left = left[len(done) :]
            if left:
                owner = str(read_literal(ads[left[0]], owner_attribute))
                failed.add(owner)
                self._failing.failed(owner)
                rows[left[0]] = without_evaluation(ads[left[0]])
                left = left[1:]
        for owner in self._failing.keys() - failed:
            self._failing.succeeded(owner)
        return [rows[index] for index in range(len(ads))]


def _evaluate_in_fork(evaluate: Callable[[int], Row], indices: Sequence[int]) -> list[Row]:
    """The results of `evaluate` for the indices in order, up to the one on which the fork died."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(reading)
            limit_memory()
            for index in indices:
                with cpu_timeout(CPU_SECONDS):
                    line = json.dumps(evaluate(index)).encode("ascii") + b"\n"
                _write(writing, line)
            os._exit(0)
        finally:
            os._exit(1)  # skips the parent's exit handlers
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        output = file.read()
    os.waitpid(process, 0)
    return [json.loads(line) for line in output.splitlines(keepends=True) if line.endswith(b"\n")]


def _write(descriptor: int, line: bytes) -> None:
    while line:
        line = line[os.write(descriptor, line) :]
