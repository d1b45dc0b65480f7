"""Words for people about requirements that do not hold: which clause fails, and what it was compared with."""

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
    """One clause that does not hold: its text, what it evaluates to, and what it was compared with."""

    clause: str
    outcome: str  # "false", "undefined" or "error"
    because: str

    def __str__(self) -> str:
        return f"{self.clause} is {self.outcome}: {self.because}" if self.because else f"{self.clause} is {self.outcome}"


def failing_clauses(requirements: str, bindings: Bindings, mine: Any, other: Any, whose: str, names: dict[str, str]) -> list[Failure]:
    """The clauses of `requirements` that do not hold for `mine` (its ClassAd) against `other`; `whose` names the other side.

    `names` maps the lower-case attributes of the other ad to their spelling there.
    """
    failures = []
    for clause, expression in _parse_clauses(requirements, bindings):
        try:
            value = expression.eval(mine, other)
        except bindings.refusals:
            value = bindings.Error
        if isinstance(value, type(bindings.Undefined)):  # a number to Python, so it is asked for first
            outcome = "error" if value is bindings.Error else "undefined"
        elif isinstance(value, int | float) and value:
            continue
        else:
            outcome = "false"
        try:
            because = _compared_values(expression, mine, other, whose, names)
        except bindings.refusals:
            because = "it refers to itself, or is nested too deeply"
        failures.append(Failure(clause, outcome, because))
    return failures


def _parse_clauses(requirements: str, bindings: Bindings) -> list[tuple[str, Any]]:
    """The clauses with their expressions; text that the bindings read otherwise than `split` stays whole."""
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
            values.append(f"the {whose} does not say {name}")
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
