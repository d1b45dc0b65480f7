"""Matches one job ad with one slot ad: do they match, and if not, which clauses fail?

HTCondor's own `symmetricMatch` decides; nothing is reimplemented. Ads are passed as the JSON text of {attribute: expression}.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

from .bindings import load
from .clauses import Failure, failing_clauses

_PARSE_CACHE_SIZE: Final = 4096


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why a job and a worker do not match: the clauses that fail, or the error that prevented the evaluation."""

    error: str = ""
    failures: tuple[Failure, ...] = ()


class AdMatcher(Protocol):
    """Matches a job ad of `owner` with a slot ad, both as JSON text. `matches` returns None if the answer is not available now."""

    def matches(self, owner: str, job: str, worker: str) -> bool | None: ...

    def reasons(self, owner: str, job: str, worker: str) -> Reasons: ...


class InProcessMatcher:
    """Matches in this process, which ends if the library crashes on an ad."""

    def __init__(self) -> None:
        self._bindings = load()
        self._parse_cached = lru_cache(_PARSE_CACHE_SIZE)(self._parse)

    def matches(self, owner: str, job: str, worker: str) -> bool:
        mine, other = self._parse_cached(job), self._parse_cached(worker)
        if mine.error or other.error:
            return False
        try:
            return bool(mine.ad.symmetricMatch(other.ad))
        except self._bindings.refusals:
            return False  # the negotiator gives up on such a job as well

    def reasons(self, owner: str, job: str, worker: str) -> Reasons:
        mine, other = self._parse_cached(job), self._parse_cached(worker)
        if mine.error or other.error:
            return Reasons(f"the job's {mine.error}" if mine.error else f"the worker's {other.error}")
        wanted = failing_clauses(mine.text["Requirements"], self._bindings, mine.ad, other.ad, "worker", dict(other.names))
        if not wanted:
            wanted = failing_clauses(other.text["START"], self._bindings, other.ad, mine.ad, "job", dict(mine.names))
            wanted = [Failure(f"the worker's START: {each.clause}", each.outcome, each.because) for each in wanted]
        if not wanted:
            wanted = failing_clauses(other.text["WithinResourceLimits"], self._bindings, other.ad, mine.ad, "job", dict(mine.names))
        return Reasons(failures=tuple(wanted))

    def _parse(self, text: str) -> _Ad:
        attributes: dict[str, str] = json.loads(text)
        ad = self._bindings.ClassAd()
        for name, expression in attributes.items():
            try:
                ad[name] = self._bindings.ExprTree(expression)
            except self._bindings.refusals:
                return _Ad(attributes, {}, None, f"{name} is not a valid ClassAd expression: {expression}")
        return _Ad(attributes, {name.lower(): name for name in attributes}, ad)


@dataclass(frozen=True, slots=True)
class _Ad:
    text: dict[str, str]
    names: dict[str, str]  # lower case -> as spelled
    ad: Any
    error: str = ""
