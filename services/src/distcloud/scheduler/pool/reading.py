"""Values of ads that users and workers wrote, evaluate_attribute where it does no harm when HTCondor's library does not survive it.

A fork of this process evaluates ad by ad and says each result in a line. Of an ad on which the fork ends only the literals are read, as
text, and another fork goes on behind it. Whose ads end it again and again has them read as literals alone for a while, so that one
user's jobs hold up nobody else's.
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

from ...common.keyed_breaker import Probation
from ...common.rlimits import bound, within

Row = dict[str, Any]

CPU_SECONDS: Final = 0.5  # of a processor, for one ad; thousands of times what ads as people write them take
_LITERAL: Final = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+|-?\d+\.\d*(?:[eE][-+]?\d+)?|true|false', re.IGNORECASE)

_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r"}


def evaluate_attribute(ad: Any, name: str) -> Any:
    """An attribute as JSON can carry it: evaluate_attribute; None when it is not there or evaluates to nothing."""
    if name not in ad:
        return None
    try:
        value = ad.eval(name)
    except Exception:  # it refers to itself, or is nested too deeply: that of one job or worker must not hide all others
        return None
    return [_json_value(entry) for entry in value] if isinstance(value, list) else _json_value(value)


def _json_value(value: Any) -> Any:
    """Undefined and error are numbers to Python, of an enumeration."""
    return value if isinstance(value, bool | int | float | str) and not isinstance(value, Enum) else None


def read_literal(ad: Any, name: str) -> Any:
    """An attribute that is a string, a number or a truth value as it stands; None for all that would have to be evaluate_attribute."""
    text = str(ad.lookup(name)) if name in ad else ""
    if not _LITERAL.fullmatch(text):
        return None
    if text[0] == '"':
        return re.sub(r"\\(.)", lambda found: _ESCAPED.get(found[1], found[1]), text[1:-1])
    return text.lower() == "true" if text[0] in "tTfF" else float(text) if "." in text else int(text)


class Reader:
    """Reads ads, and remembers owner_attribute could not be evaluate_attribute."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, jitter_sample: Callable[[], float] = random.random) -> None:
        self._failing = Probation(monotonic, jitter_sample)

    def read(
        self, ads: Sequence[Any], evaluate: Callable[[Any], Row], without_evaluation: Callable[[Any], Row], owner_attribute: str
    ) -> list[Row]:
        """One row for each ad: as `evaluate` gives it or, where that is not to be had, as `without_evaluation` does, which must evaluate nothing.

        `owner_attribute` names the attribute that says whom an ad belongs to.
        """
        rows: dict[int, Row] = {}
        failed: set[str] = set()
        left = list(range(len(ads)))
        while left:
            if self._failing.known():
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
        for owner in self._failing.known() - failed:
            self._failing.passed(owner)
        return [rows[index] for index in range(len(ads))]


def _evaluate_in_fork(evaluate: Callable[[int], Row], indices: Sequence[int]) -> list[Row]:
    """What `evaluate` gives for the first of the indices, up to the one on which the fork ended."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(reading)
            bound()
            for index in indices:
                with within(CPU_SECONDS):
                    line = json.dumps(evaluate(index)).encode("ascii") + b"\n"
                _write(writing, line)
            os._exit(0)
        finally:
            os._exit(1)  # without any of the parent's own farewells
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        output = file.read()
    os.waitpid(process, 0)
    return [json.loads(line) for line in output.splitlines(keepends=True) if line.endswith(b"\n")]


def _write(descriptor: int, line: bytes) -> None:
    while line:
        line = line[os.write(descriptor, line) :]
