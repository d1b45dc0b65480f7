"""Bulkheads of a cycle: an unexpected error while one cloud, VM or action is processed leaves out only that one.

Input comes from clouds, jobs and tenants, so the errors that it may cause are not enumerable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ...common.logs import get_logger
from ...common.storage.database import DatabaseBusy, DatabaseFull, DatabaseUnavailable
from ..domain.model import Exclusion
from ..matching.bindings import MatchingUnavailable

log = get_logger(__name__)

# These concern everything, not one cloud.
NOT_CONTAINED = (DatabaseBusy, DatabaseFull, DatabaseUnavailable, MatchingUnavailable)
_MAX_SHOWN = 100


@dataclass(slots=True)
class Contained:
    """The outcome of one contained step; `reason` is empty if it succeeded."""

    reason: str = ""


class Faults:
    """What was left out in this cycle; each error is logged when it occurs for the first time in a row."""

    def __init__(self) -> None:
        self._found: dict[Exclusion, None] = {}
        self._previous: dict[Exclusion, None] = {}

    def begin_cycle(self) -> None:
        self._previous, self._found = self._found, {}

    def current(self) -> tuple[Exclusion, ...]:
        """What this cycle has left out, and what the previous one has left out as long as this one has not finished."""
        return tuple({**self._previous, **self._found})[:_MAX_SHOWN]

    def end_cycle(self) -> None:
        self._previous = dict(self._found)

    @contextmanager
    def contain(self, group: str, cloud: str | None, subject: str) -> Iterator[Contained]:
        """Run the block; an error in it is recorded and not raised, unless it concerns everything (an unusable database)."""
        outcome = Contained()
        try:
            yield outcome
        except NOT_CONTAINED:
            raise
        except Exception as error:
            outcome.reason = f"{type(error).__name__}; see the log"
            self.record([Exclusion(group, cloud, subject, outcome.reason)], error)

    def record(self, exclusions: Iterable[Exclusion], error: Exception | None) -> None:
        for exclusion in exclusions:
            if exclusion not in self._previous and exclusion not in self._found:
                log.error(
                    "excluded",
                    group=exclusion.group,
                    cloud=exclusion.cloud,
                    subject=exclusion.subject,
                    error=f"{type(error).__name__}: {error}"[:1000],
                    exc_info=error,
                )
            self._found[exclusion] = None
