"""Create calls that a cloud did not answer: they count as failed servers unless the whole cloud was unreachable at that time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Create:
    error: str
    no_effect: bool  # certainly no server was created
    failed_listings: int  # when the call began


class UnansweredCreates:
    """The unanswered create calls of one cloud. They are decided by the next listing: if one failed then or during the call, the
    create is not counted as a failed server.

    Listings are compared by number, not by time, because clocks may be set. After a restart, pending creates are not counted.
    """

    def __init__(self) -> None:
        self.failed_listings = 0
        self._pending: dict[str, _Create] = {}
        self._suspected: dict[str, str] = {}  # VM -> error; counted only once the absence of a server is proven

    def add(self, vm_id: str, error: str, *, no_effect: bool, failed_listings: int) -> None:
        self._pending[vm_id] = _Create(error, no_effect, failed_listings)

    def pending(self) -> tuple[str, ...]:
        """The creates that a listing that begins now may decide."""
        return (*self._pending,)

    def listing_failed(self) -> None:
        self.failed_listings += 1

    def listing_succeeded(self, pending: Iterable[str]) -> list[str]:
        """The errors that count as failed servers now; `pending` was taken before the listing."""
        decided = {vm_id: self._pending.pop(vm_id) for vm_id in pending if vm_id in self._pending}
        counted = {vm_id: create for vm_id, create in decided.items() if create.failed_listings == self.failed_listings}
        self._suspected |= {vm_id: create.error for vm_id, create in counted.items() if not create.no_effect}
        return [create.error for create in counted.values() if create.no_effect]

    def lost(self, vm_id: str) -> str:
        """The error of a create without a server, returned once; empty if it does not count as a failure of the cloud."""
        return self._suspected.pop(vm_id, "")

    def forget(self, live_ids: set[str]) -> None:
        """Drop those whose rows are closed; pending ones are removed by the next listing."""
        self._suspected = {vm_id: error for vm_id, error in self._suspected.items() if vm_id in live_ids}
