"""Creates that a cloud did not answer: a sign that it makes no servers, unless it was away altogether at that time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Create:
    error: str
    undone: bool  # surely no server came of it
    failed_looks: int  # when it began


class UnansweredCreates:
    """Of one cloud. The next look judges them: one that fails, then or while the create was under way, excuses the cloud.

    Looks are compared by number, not by time: clocks are set. Losing this excuses the cloud, and no more.
    """

    def __init__(self) -> None:
        self.failed_looks = 0
        self._unjudged: dict[str, _Create] = {}
        self._suspected: dict[str, str] = {}  # VM -> error; a failure only once it is proven that no server came of it

    def add(self, vm_id: str, error: str, *, undone: bool, failed_looks: int) -> None:
        self._unjudged[vm_id] = _Create(error, undone, failed_looks)

    def pending(self) -> tuple[str, ...]:
        """What a look that begins now may judge."""
        return (*self._unjudged,)

    def look_failed(self) -> None:
        self.failed_looks += 1

    def look_succeeded(self, pending: Iterable[str]) -> list[str]:
        """The errors that count as failed servers already now; `pending` is from before the look."""
        judged = {vm_id: self._unjudged.pop(vm_id) for vm_id in pending if vm_id in self._unjudged}
        blamed = {vm_id: create for vm_id, create in judged.items() if create.failed_looks == self.failed_looks}
        self._suspected |= {vm_id: create.error for vm_id, create in blamed.items() if not create.undone}
        return [create.error for create in blamed.values() if create.undone]

    def lost(self, vm_id: str) -> str:
        """The error of a create that no server came of, told once; empty when it does not speak against the cloud."""
        return self._suspected.pop(vm_id, "")

    def forget(self, living: set[str]) -> None:
        """Drops those whose rows are closed; the unjudged go with the next look."""
        self._suspected = {vm_id: error for vm_id, error in self._suspected.items() if vm_id in living}
