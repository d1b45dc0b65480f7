"""Explains requirements that do not hold: which clause fails, and the values it was compared with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from .bindings import Bindings
from .conjunction import split_conjunction

_UNITS: Final = {
    "memory": ("MiB", 1),
    "totalmemory": ("MiB", 1),
    "cpus": ("cores", 1),
    "totalcpus": ("cores", 1),
    "disk": ("GiB of disk", 1048576),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """One clause that does not hold: its text, what it evaluates to, and the values it was compared with."""

    clause: str
    outcome: str  # "false", "undefined" or "error"
    because: str

    def __str__(self) -> str:
        return f"{self.clause} is {self.outcome}: {self.because}" if self.because else f"{self.clause} is {self.outcome}"


def failing_clauses(requirements: str, bindings: Bindings, mine: Any, other: Any, whose: str, names: dict[str, str]) -> list[Failure]:
    """The clauses of `requirements` that do not hold for `mine` (its ClassAd) against `other`; `whose` names the other side.

    `names` maps lower-case attribute names of the other ad to their spelling.
    """
    failures = []
    for clause, expression in _parse_clauses(requirements, bindings):
        try:
            value = expression.eval(mine, other)
        except bindings.refusals:
            value = bindings.Error
        if isinstance(value, type(bindings.Undefined)):  # an int subclass, so it is checked first
            outcome = "error" if value is bindings.Error else "undefined"
        elif isinstance(value, int | float) and value:
            continue
        else:
            outcome = "false"
        try:
            because = _compared_values(expression, mine, other, whose, names)
        except bindings.refusals:
            because = "it refers to itself or is nested too deeply"
        failures.append(Failure(clause, outcome, because))
    return failures


def _parse_clauses(requirements: str, bindings: Bindings) -> list[tuple[str, Any]]:
    """The clauses with their expressions; the whole text if the bindings cannot parse what `split_conjunction` returns."""
    try:
        return [(clause, bindings.ExprTree(clause)) for clause in split_conjunction(requirements)]
    except bindings.refusals:
        return [(requirements, bindings.ExprTree(requirements))]


def _compared_values(expression: Any, mine: Any, other: Any, whose: str, names: dict[str, str]) -> str:
    values = []
    for reference in mine.externalRefs(expression):
        name = re.sub(r"^(target|my)\.", "", reference, flags=re.IGNORECASE).split(".")[0]
        if not name:
            continue
        spelling = names.get(name.lower())
        if spelling is None:
            values.append(f"the {whose} does not define {name}")
        else:
            values.append(f"the {whose} {_format_attribute(name, other.eval(spelling))}")
    for name in mine.internalRefs(expression):
        if name and values:
            values.append(f"{name} is {_format_value(mine.eval(name))}")
    return ", ".join(dict.fromkeys(values))


def _format_attribute(name: str, value: object) -> str:
    unit, divisor = _UNITS.get(name.lower(), ("", 1))
    if unit and isinstance(value, int | float):
        amount = f"{value / divisor:.4g}" if divisor > 1 else str(value)
        return f"has {amount} {'core' if unit == 'cores' and value == 1 else unit}"
    return f"has {name} = {_format_value(value)}"


def _format_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)
