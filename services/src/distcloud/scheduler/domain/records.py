"""Records of the ledger with what the planner does not need: history, pages and totals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .model import Vm, VmState


@dataclass(frozen=True, slots=True)
class VmEvent:
    """One change of a VM's state."""

    at: float
    from_state: VmState | None
    to_state: VmState
    reason: str


@dataclass(frozen=True, slots=True)
class VmDetail:
    """A ledger row with what the planner does not need: region, end and history (oldest first; empty in lists)."""

    vm: Vm
    region: str
    registered_at: float | None
    gone_at: float | None
    events: tuple[VmEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class VmPage:
    """Newest first; `cursor` is given back to get the next page, None at the end."""

    vms: tuple[VmDetail, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class VmTotals:
    """How many VMs a cloud has and had, by state; those that are gone count for ever."""

    group: str
    cloud: str
    region: str
    vms: Mapping[str, int]
