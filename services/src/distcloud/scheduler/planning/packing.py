"""Packing: which of the waiting jobs fit into the free capacity of workers that exist or are booting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set
from dataclasses import dataclass

from ..domain.model import CloudKey, Resources, VmState
from ..matching.matcher import WorkerAd
from .situation import BOOTING, IN_POOL, PendingDemand, Situation

# Busy workers first, so that idle ones can be retired; then those that will join the pool soonest.
_RANK = {VmState.RUNNING: 0, VmState.IDLE: 1, VmState.UNREGISTERED: 2, VmState.STARTING: 3, VmState.REQUESTED: 4}


@dataclass(slots=True)
class WorkerCapacity:
    """The free capacity of one worker; `vm_id` None: the worker is booted by this plan.

    Mutable: `put` subtracts the jobs that this plan assigns, so that the next demand sees what is left. It lives for one call of `plan`."""

    worker: WorkerAd
    cloud: CloudKey
    vm_id: str | None
    state: VmState
    cores: int
    ram_mib: int
    disk_gib: float
    taken: int = 0  # jobs assigned by this plan

    def put(self, request: Resources, count: int) -> int:
        """Assign as many of `count` jobs as fit; returns their number."""
        fits = count
        if request.cores > 0:
            fits = min(fits, self.cores // request.cores)
        if request.ram_mib > 0:
            fits = min(fits, self.ram_mib // request.ram_mib)
        if request.disk_gib > 0:
            fits = min(fits, int(self.disk_gib / request.disk_gib + 1e-9))
        if fits <= 0:
            return 0
        self.cores -= fits * request.cores
        self.ram_mib -= fits * request.ram_mib
        self.disk_gib -= fits * request.disk_gib
        self.taken += fits
        return fits


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
        each.sort(key=lambda capacity: (_RANK[capacity.state], capacity.cores, capacity.ram_mib, capacity.disk_gib, capacity.vm_id or ""))
    return found


def pack(situation: Situation, pending_demands: list[PendingDemand], by_group: dict[str, list[WorkerCapacity]]) -> None:
    """Assign jobs to free capacity, big jobs first (small ones would fragment what a big one needs). Updates both arguments."""
    for each in by_group.values():
        _sort_least_wanted_first(situation, pending_demands, each)
    for pending in sorted(pending_demands, key=lambda pending: (-pending.demand.request.cores, -pending.demand.request.ram_mib)):
        workers = by_group.get(pending.demand.group)
        if workers:
            pending.placed += fill(situation, pending, workers)
            by_group[pending.demand.group] = [capacity for capacity in workers if capacity.cores > 0 and capacity.ram_mib > 0]


def _sort_least_wanted_first(situation: Situation, pending_demands: list[PendingDemand], workers: list[WorkerCapacity]) -> None:
    """Among workers of the same rank, put those first that the fewest pending demands can use.

    Otherwise a job that can run anywhere would take the worker that was booted for a job that cannot, and another worker would be booted.
    """
    kinds = {id(capacity.worker): capacity.worker for capacity in workers}  # few: workers of one cloud, flavor, image and alias share it
    if len(kinds) < 2:
        return
    group = [pending.job for pending in pending_demands if pending.unplaced > 0 and pending.demand.group == workers[0].cloud[0]]
    wanted = {kind: sum(situation.matcher.matches(job, worker) for job in group) for kind, worker in kinds.items()}
    workers.sort(key=lambda capacity: (_RANK[capacity.state], wanted[id(capacity.worker)]))


def fill(situation: Situation, pending: PendingDemand, workers: list[WorkerCapacity]) -> int:
    """Assign jobs of one demand to the workers in the given order; returns the number of jobs assigned."""
    request, assigned = pending.demand.request, 0
    for capacity in workers:
        if pending.unplaced <= 0:
            break
        if capacity.cores < request.cores or capacity.ram_mib < request.ram_mib or capacity.disk_gib < request.disk_gib:
            continue
        if situation.matcher.matches(pending.job, capacity.worker):
            count = capacity.put(request, pending.unplaced)
            pending.unplaced -= count
            assigned += count
    return assigned
