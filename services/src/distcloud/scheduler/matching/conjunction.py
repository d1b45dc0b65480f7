"""Splits a ClassAd expression into the clauses that must all hold, by its text alone: it is untrusted input."""

from __future__ import annotations

import re
from typing import Final

_LEXEME: Final = re.compile(
    r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|&&|\|\||=\?=|=!=|[<>=!]=|\?:|[()\[\]{}]|[?:]|\s+|[^"\'&|()\[\]{}?:=<>!\s]+|.', re.DOTALL
)
_OPENING: Final = {"(": ")", "[": "]", "{": "}"}


def split_conjunction(text: str, levels: int = 32) -> list[str]:
    """The clauses that must all hold: `a && (b || c) && (d && e)` gives a, `b || c`, d, e; any other expression is one clause.

    Anything nested deeper than `levels` stays one clause, as nesting is unlimited. White space outside strings becomes one space.
    """
    return _split_lexemes([" " if lexeme.isspace() else lexeme for lexeme in _LEXEME.findall(text)], levels)


def _split_lexemes(lexemes: list[str], levels: int) -> list[str]:
    lexemes, levels = _unwrap(_strip(lexemes), levels)
    parts: list[list[str]] = [[]]
    depth = 0
    for lexeme in lexemes:
        if lexeme in _OPENING:
            depth += 1
        elif lexeme in _OPENING.values():
            depth -= 1
        if depth == 0 and lexeme in ("||", "?", "?:"):
            return ["".join(lexemes)]  # lower precedence than &&: not a conjunction at the top level
        if depth == 0 and lexeme == "&&":
            parts.append([])
        else:
            parts[-1].append(lexeme)
    if len(parts) == 1 or not levels:
        return ["".join(_strip(part)) for part in parts]
    return [clause for part in parts for clause in _split_lexemes(part, levels - 1)]


def _strip(lexemes: list[str]) -> list[str]:
    begin, end = 0, len(lexemes)
    while begin < end and lexemes[begin] == " ":
        begin += 1
    while begin < end and lexemes[end - 1] == " ":
        end -= 1
    return lexemes[begin:end]


def _unwrap(lexemes: list[str], levels: int) -> tuple[list[str], int]:
    """The lexemes without parentheses around the whole, and the number of levels left."""
    while levels and len(lexemes) > 1 and lexemes[0] == "(" and lexemes[-1] == ")":
        depth = 0
        for lexeme in lexemes[:-1]:
            depth += (lexeme == "(") - (lexeme == ")")
            if depth == 0:
                return lexemes, levels
        lexemes, levels = _strip(lexemes[1:-1]), levels - 1
    return lexemes, levels
