"""Creates that a cloud did not answer: a sign that it makes no servers, unless it was away altogether at that time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Create:
    error: str
    no_effect: bool  # surely no server came of it
    failed_listings: int  # when it began


class UnansweredCreates:
    """Of one cloud. The next look judges them: one that fails, then or while the create was under way, excuses the cloud.

    Looks are compared by number, not by time: clocks are set. Losing this excuses the cloud, and no more.
    """

    def __init__(self) -> None:
        self.failed_listings = 0
        self._pending: dict[str, _Create] = {}
        self._suspected: dict[str, str] = {}  # VM -> error; a failure only once it is proven that no server came of it

    def add(self, vm_id: str, error: str, *, no_effect: bool, failed_listings: int) -> None:
        self._pending[vm_id] = _Create(error, no_effect, failed_listings)

    def pending(self) -> tuple[str, ...]:
        """What a look that begins now may judge."""
        return (*self._pending,)

    def listing_failed(self) -> None:
        self.failed_listings += 1

    def listing_succeeded(self, pending: Iterable[str]) -> list[str]:
        """The errors that count as failed servers already now; `pending` is from before the look."""
        decided = {vm_id: self._pending.pop(vm_id) for vm_id in pending if vm_id in self._pending}
        counted = {vm_id: create for vm_id, create in decided.items() if create.failed_listings == self.failed_listings}
        self._suspected |= {vm_id: create.error for vm_id, create in counted.items() if not create.no_effect}
        return [create.error for create in counted.values() if create.no_effect]

    def lost(self, vm_id: str) -> str:
        """The error of a create that no server came of, told once; empty when it does not speak against the cloud."""
        return self._suspected.pop(vm_id, "")

    def forget(self, live_ids: set[str]) -> None:
        """Drops those whose rows are closed; the unjudged go with the next look."""
        self._suspected = {vm_id: error for vm_id, error in self._suspected.items() if vm_id in live_ids}
