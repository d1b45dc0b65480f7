"""Ledger records beyond what the planner needs: history, pages and totals."""

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
    """A ledger row with region, times and history (oldest event first; empty in lists)."""

    vm: Vm
    region: str
    registered_at: float | None
    gone_at: float | None
    events: tuple[VmEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class VmPage:
    """VMs, newest first; `cursor` requests the next page, None on the last page."""

    vms: tuple[VmDetail, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class VmTotals:
    """Number of VMs that a cloud has and had, by state; gone VMs are never dropped from the count."""

    group: str
    cloud: str
    region: str
    vms: Mapping[str, int]
