"""HTCondor's ClassAd bindings: loaded so that they judge as the matchmaking does, with their differences evened out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any


class MatchingUnavailable(RuntimeError):
    """HTCondor's Python bindings are not there, or are not what we know."""


@dataclass(frozen=True, slots=True)
class Bindings:
    """What is used of `classad2`; `refusals` are the exceptions with which it refuses broken text, or gives up on text that refers to
    itself or is nested too deeply."""

    ClassAd: Any
    ExprTree: Any
    Undefined: Any
    Error: Any
    quote: Any
    refusals: tuple[type[Exception], ...]
    version: str


@cache
def load() -> Bindings:
    """The bindings, proven to follow the rules of matchmaking. Raises MatchingUnavailable.

    `classad2` alone knows neither HTCondor's functions (stringListMember ...) nor that a name without a scope may be the
    other side's; importing `htcondor2` brings both. Nothing of it is called: it could block.
    """
    try:
        import htcondor2  # noqa: F401
        import classad2  # isort: skip
    except ImportError as problem:
        raise MatchingUnavailable(
            "HTCondor's Python bindings (htcondor2, classad2) are missing: install Debian's package condor or PyPI's htcondor"
        ) from problem
    mine, other = classad2.ClassAd(), classad2.ClassAd({"here": "a"})
    if classad2.ExprTree('stringListMember(here, "b,a")').eval(mine, other) is not True:
        raise MatchingUnavailable(f"the ClassAd bindings ({classad2.version()}) do not evaluate as HTCondor's matchmaking does")
    # HTCondor 23 raises SyntaxError for broken text and RuntimeError when it gives up, 25 an exception of its own.
    own: type[Exception] = getattr(classad2, "ClassAdException", SyntaxError)
    value = classad2.Value
    return Bindings(
        classad2.ClassAd,
        classad2.ExprTree,
        value.Undefined,
        value.Error,
        classad2.quote,
        (own, SyntaxError, ValueError, RuntimeError),
        classad2.version(),
    )
