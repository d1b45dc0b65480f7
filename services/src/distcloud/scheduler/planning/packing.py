"""Packing: which of the waiting jobs fit into the free capacity of workers that exist or are booting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set
from functools import partial

from ..domain.model import VmState
from .capacity import WorkerCapacity, WorkerIndex
from .situation import BOOTING, IN_POOL, PendingDemand, Situation

# Busy workers first, so that idle ones can be retired; then those that will join the pool soonest.
RANK = {VmState.RUNNING: 0, VmState.IDLE: 1, VmState.UNREGISTERED: 2, VmState.STARTING: 3, VmState.REQUESTED: 4}


def free_capacity(situation: Situation, removed_ids: Set[str]) -> dict[str, list[WorkerCapacity]]:
    """Free capacity of the workers, by group, without those that this plan retires or deletes (`removed_ids`).

    A worker of a disabled cloud without a running job is not counted: it will be retired as soon as it is idle. Nor is one that is
    missing: its ad stays in the pool long after it died, and jobs would wait for it while other clouds have headroom.
    """
    found: dict[str, list[WorkerCapacity]] = defaultdict(list)
    for vm in situation.vms:
        if vm.id in removed_ids or vm.state not in BOOTING | IN_POOL:
            continue
        if situation.missing(vm):
            continue
        worker, cloud, slot = situation.worker_of(vm), situation.cloud_of(vm), situation.slots.get(vm.id)
        if worker is None or cloud is None or (slot is not None and slot.draining):
            continue
        if not cloud.enabled and vm.state is not VmState.RUNNING and not vm.manual:
            continue
        free = situation.offer((vm.group, vm.cloud), vm.flavor, vm.resources) if slot is None else slot.free
        if free.cores > 0 and free.ram_mib > 0:
            found[vm.group].append(WorkerCapacity(worker, (vm.group, vm.cloud), vm.id, vm.state, free.cores, free.ram_mib, free.disk_gib))
    for each in found.values():
        each.sort(key=lambda capacity: (RANK[capacity.state], capacity.cores, capacity.ram_mib, capacity.disk_gib, capacity.vm_id or ""))
    return found


def pack(situation: Situation, pending_demands: list[PendingDemand], by_group: dict[str, list[WorkerCapacity]]) -> None:
    """Assign jobs to free capacity, big jobs first (small ones would fragment what a big one needs). Updates the demands and workers.

    Each demand is compared with each kind of worker, but only with those single workers that have room for a job.
    """
    demands_of: dict[str, list[PendingDemand]] = defaultdict(list)
    for pending in pending_demands:
        demands_of[pending.demand.group].append(pending)
    for group, workers in by_group.items():
        _pack_group(situation, demands_of[group], workers)


def _pack_group(situation: Situation, pending_demands: list[PendingDemand], workers: list[WorkerCapacity]) -> None:
    index = WorkerIndex(_least_wanted_first(situation, pending_demands, workers))
    for pending in sorted(pending_demands, key=lambda pending: (-pending.demand.request.cores, -pending.demand.request.ram_mib)):
        count = index.fill(pending.demand.request, pending.unplaced, partial(situation.matcher.matches, pending.job))
        pending.unplaced -= count
        pending.placed += count


def _least_wanted_first(situation: Situation, pending_demands: list[PendingDemand], workers: list[WorkerCapacity]) -> list[WorkerCapacity]:
    """Among workers of the same rank, put those first that the fewest pending demands can use.

    Otherwise a job that can run anywhere would take the worker that was booted for a job that cannot, and another worker would be booted.
    """
    kinds = {id(capacity.worker): capacity.worker for capacity in workers}  # few: workers of one cloud, flavor, image and alias share it
    if len(kinds) < 2:
        return workers
    wanted = dict.fromkeys(kinds, 0)
    for pending in pending_demands:  # job by job: the matcher keeps a limited number of parsed ads
        if pending.unplaced > 0:
            for kind, worker in kinds.items():
                wanted[kind] += situation.matcher.matches(pending.job, worker)
    return sorted(workers, key=lambda capacity: (RANK[capacity.state], wanted[id(capacity.worker)]))


def fill(situation: Situation, pending: PendingDemand, workers: list[WorkerCapacity]) -> int:
    """Assign jobs of one demand to the workers in the given order; returns the number of jobs assigned."""
    request, assigned = pending.demand.request, 0
    for capacity in workers:
        if pending.unplaced <= 0:
            break
        if capacity.fits(request) and situation.matcher.matches(pending.job, capacity.worker):
            count = capacity.put(request, pending.unplaced)
            pending.unplaced -= count
            assigned += count
    return assigned
