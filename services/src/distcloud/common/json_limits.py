"""Bounds on the structure of JSON text from outside: it costs far more memory and time than its bytes, and parsing blocks the loop."""

from __future__ import annotations

import re
from dataclasses import dataclass

_STRING = re.compile(rb'"(?:[^"\\]|\\.?)*+"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


class TooComplex(ValueError):
    """The text has more structure than any valid one; its message completes a sentence that begins with what the text is."""


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """Nesting depth, objects and arrays together, and values that are allowed."""

    depth: int
    containers: int
    values: int

    def check(self, text: bytes) -> None:
        """Raises TooComplex. Takes time linear in the bytes; whether the text is JSON at all is left to the parser."""
        structure = _STRING.sub(b"", text)
        if structure.count(b",") >= self.values:
            raise TooComplex(f"has more than {self.values} values")
        if structure.count(b"[") + structure.count(b"{") > self.containers:
            raise TooComplex(f"has more than {self.containers} objects and arrays")
        depth = 0
        for bracket in _BRACKET.finditer(structure):
            depth += 1 if bracket[0] in b"[{" else -1
            if depth > self.depth:
                raise TooComplex(f"is nested more than {self.depth} levels deep")
            if depth < 0:
                return  # not JSON
