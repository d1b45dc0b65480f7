"""Requirements taken apart: the clauses of a conjunction, and words for people about the one that fails."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from distcloud.scheduler.bindings import Bindings

_LEXEME: Final = re.compile(
    r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|&&|\|\||=\?=|=!=|[<>=!]=|\?:|[()\[\]{}]|[?:]|[^"\'&|()\[\]{}?:=<>!]+|.', re.DOTALL
)
_OPENING: Final = {"(": ")", "[": "]", "{": "}"}
_UNITS: Final = {
    "memory": ("MiB", 1),
    "totalmemory": ("MiB", 1),
    "cpus": ("cores", 1),
    "totalcpus": ("cores", 1),
    "disk": ("GiB of disk", 1048576),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """One clause that does not hold: its text, what it evaluates to, and what it was compared with."""

    clause: str
    outcome: str  # "false", "undefined" or "error"
    because: str

    def __str__(self) -> str:
        return f"{self.clause} is {self.outcome}: {self.because}" if self.because else f"{self.clause} is {self.outcome}"


def split(text: str, levels: int = 32) -> list[str]:
    """The clauses that must all hold: `a && (b || c) && (d && e)` gives a, `(b || c)`, d, e; anything looser is one clause.

    So is what stands deeper than `levels`: users write it, and may nest it without end.
    """
    text, levels = _unwrapped(" ".join(text.split()), levels)
    parts: list[list[str]] = [[]]
    depth = 0
    for lexeme in _LEXEME.findall(text):
        if lexeme in _OPENING:
            depth += 1
        elif lexeme in _OPENING.values():
            depth -= 1
        if depth == 0 and lexeme in ("||", "?", "?:"):
            return [text]  # binds less than &&: no conjunction at the top
        if depth == 0 and lexeme == "&&":
            parts.append([])
        else:
            parts[-1].append(lexeme)
    clauses = ["".join(part).strip() for part in parts]
    if len(clauses) == 1 or not levels:
        return clauses
    return [inner for clause in clauses for inner in split(clause, levels - 1)]


def _unwrapped(text: str, levels: int) -> tuple[str, int]:
    """Without the parentheses that enclose the whole; and how many levels are left."""
    while levels and text.startswith("(") and text.endswith(")"):
        depth = 0
        lexemes = _LEXEME.findall(text)
        for lexeme in lexemes[:-1]:
            depth += (lexeme == "(") - (lexeme == ")")
            if depth == 0:
                return text, levels
        text, levels = text[1:-1].strip(), levels - 1
    return text, levels


def failing(requirements: str, bindings: Bindings, mine: Any, other: Any, whose: str, names: dict[str, str]) -> list[Failure]:
    """The clauses of `requirements` that do not hold for `mine` (its ClassAd) against `other`; `whose` names the other side.

    `names` maps the lower-case attributes of the other ad to their spelling there.
    """
    failures = []
    for clause, expression in _parsed(requirements, bindings):
        value = expression.eval(mine, other)
        if isinstance(value, type(bindings.Undefined)):  # a number to Python, so it is asked for first
            outcome = "error" if value is bindings.Error else "undefined"
        elif isinstance(value, int | float) and value:
            continue
        else:
            outcome = "false"
        failures.append(Failure(clause, outcome, _because(expression, mine, other, whose, names)))
    return failures


def _parsed(requirements: str, bindings: Bindings) -> list[tuple[str, Any]]:
    """The clauses with their expressions; text that the bindings read otherwise than `split` stays whole."""
    try:
        return [(clause, bindings.ExprTree(clause)) for clause in split(requirements)]
    except bindings.refusals:
        return [(requirements, bindings.ExprTree(requirements))]


def _because(expression: Any, mine: Any, other: Any, whose: str, names: dict[str, str]) -> str:
    said = []
    for reference in mine.externalRefs(expression):
        name = re.sub(r"^(target|my)\.", "", reference, flags=re.IGNORECASE).split(".")[0]
        if not name:
            continue
        spelling = names.get(name.lower())
        if spelling is None:
            said.append(f"the {whose} does not say {name}")
        else:
            said.append(f"the {whose} {_has(name, other.eval(spelling))}")
    for name in mine.internalRefs(expression):
        if name and said:
            said.append(f"{name} is {_shown(mine.eval(name))}")
    return ", ".join(dict.fromkeys(said))


def _has(name: str, value: object) -> str:
    unit, divisor = _UNITS.get(name.lower(), ("", 1))
    if unit and isinstance(value, int | float):
        amount = f"{value / divisor:.4g}" if divisor > 1 else str(value)
        return f"has {amount} {'core' if unit == 'cores' and value == 1 else unit}"
    return f"has {name} = {_shown(value)}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)
