"""HTCondor's ClassAd bindings, loaded so that they evaluate as the negotiator does, with differences between versions hidden."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any


class MatchingUnavailable(RuntimeError):
    """HTCondor's Python bindings are missing or unsupported, or the matching process cannot be started."""


@dataclass(frozen=True, slots=True)
class Bindings:
    """What is used of `classad2`. `refusals` are the exceptions that it raises for malformed expressions, and for expressions that refer to
    themselves or are nested too deeply."""

    ClassAd: Any
    ExprTree: Any
    Undefined: Any
    Error: Any
    quote: Any
    refusals: tuple[type[Exception], ...]
    version: str


@cache
def load() -> Bindings:
    """The bindings, checked to follow the rules of matchmaking. Raises MatchingUnavailable.

    `classad2` alone has neither HTCondor's functions (stringListMember ...) nor the rule that an unscoped name may refer to the
    other ad; importing `htcondor2` adds both. Nothing in it is called: it could block.
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
