"""What the engine asks of the batch pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..domain.model import Demand, Slot
from .demand import VANILLA


class PoolUnavailable(Exception):
    """The pool (or one part of it) did not answer; the message says which part and why. It holds no secret."""


@dataclass(frozen=True, slots=True)
class Queues:
    """What waits and runs in the queues that answered; `unreachable` says of each of the others, by name, why it did not.

    What waits in a queue that was not heard is unknown, which is not nothing.
    """

    demand: tuple[Demand, ...]
    unreachable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """One job: `status` and `universe` are HTCondor's JobStatus and JobUniverse; `demand` is None when it is not for this scheduler."""

    id: str
    status: int
    demand: Demand | None
    hold_reason: str = ""
    universe: int = VANILLA


class Pool(Protocol):
    """Every method may raise PoolUnavailable, and ends within its own time-outs."""

    async def demand(self) -> Queues:
        """Raises PoolUnavailable when no queue answers."""
        ...

    async def slots(self) -> list[Slot]: ...

    async def job(self, job_id: str) -> QueuedJob | None:
        """`job_id` is CLUSTER or CLUSTER.PROC, with SCHEDD# in front where several queues might know one."""
        ...

    async def drain(self, vm_id: str, key: str) -> None:
        """Running jobs finish, no new ones start, then the worker leaves. `key` is the VM's own, which alone it trusts."""
        ...

    async def invalidate(self, vm_id: str) -> None:
        """Takes the VM's slots out of the pool: after its deletion they would swallow matches until they expire."""
        ...

    async def close(self) -> None: ...
