"""The interface between the engine and the batch pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..domain.model import Demand, Slot
from .demand import VANILLA


class PoolUnavailable(Exception):
    """The pool (or one part of it) did not answer; the message says which part and why. It contains no secret."""


@dataclass(frozen=True, slots=True)
class Queues:
    """The demand of all reachable queues; `unreachable` maps the name of each other queue to its error.

    The demand of an unreachable queue is unknown, not zero.
    """

    demand: tuple[Demand, ...]
    unreachable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """One job in a queue: `status` and `universe` are HTCondor's JobStatus and JobUniverse.

    `demand` is None if the job has no group, so that it is not for this scheduler.
    """

    id: str
    status: int
    demand: Demand | None
    hold_reason: str = ""
    universe: int = VANILLA


class Pool(Protocol):
    """Every method may raise PoolUnavailable, and has its own timeout."""

    async def demand(self) -> Queues:
        """Raises PoolUnavailable if no queue answers."""
        ...

    async def slots(self) -> list[Slot]: ...

    async def job(self, job_id: str) -> QueuedJob | None:
        """`job_id` is CLUSTER or CLUSTER.PROC, prefixed with SCHEDD# if several queues may have such a job."""
        ...

    async def drain(self, vm_id: str, key: str) -> None:
        """Drain: running jobs finish, no new jobs start, then the worker shuts down. `key` is the VM's own key, the only one it trusts."""
        ...

    async def invalidate(self, vm_id: str) -> None:
        """Remove the VM's slot ads from the pool: after its deletion they would still be matched until they expire."""
        ...

    async def close(self) -> None: ...
