"""Jobs into workers: which of the waiting jobs fit into the free room of workers that are there or on their way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set
from dataclasses import dataclass

from ..domain.model import CloudKey, Resources, VmState
from ..matching.matcher import WorkerAd
from .situation import BOOTING, IN_POOL, PendingDemand, Situation

# Busy workers first, so that idle ones may go; then the nearest to being there.
_RANK = {VmState.RUNNING: 0, VmState.IDLE: 1, VmState.UNREGISTERED: 2, VmState.STARTING: 3, VmState.REQUESTED: 4}


@dataclass(slots=True)
class WorkerCapacity:
    """The free room of one worker; `vm_id` None: it is ordered by this plan."""

    worker: WorkerAd
    cloud: CloudKey
    vm_id: str | None
    state: VmState
    cores: int
    ram_mib: int
    disk_gib: float
    taken: int = 0  # jobs put here by this plan

    def put(self, request: Resources, count: int) -> int:
        """Take as many of `count` such jobs as fit; the number taken."""
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
    """The room of each group's workers, less those that removal (`removed_ids`: ids of VMs that this plan retires or deletes).

    A worker of a disabled cloud that does not run a job yet counts for nothing: it will be retired as soon as it is idle. So does
    one that is missing: the pool believes an ad long after its worker died, and jobs would wait for it while other clouds have room.
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
        room = situation.offer((vm.group, vm.cloud), vm.flavor, vm.resources) if slot is None else slot.free
        if room.cores > 0 and room.ram_mib > 0:
            found[vm.group].append(WorkerCapacity(worker, (vm.group, vm.cloud), vm.id, vm.state, room.cores, room.ram_mib, room.disk_gib))
    for each in found.values():
        each.sort(key=lambda capacity: (_RANK[capacity.state], capacity.cores, capacity.ram_mib, capacity.disk_gib, capacity.vm_id or ""))
    return found


def pack(situation: Situation, pending_demands: list[PendingDemand], rooms: dict[str, list[WorkerCapacity]]) -> None:
    """Put jobs into free room, the big ones first (small ones would break up what only a big one needs); notes it in both."""
    for each in rooms.values():
        _least_wanted_first(situation, pending_demands, each)
    for pending in sorted(pending_demands, key=lambda pending: (-pending.demand.request.cores, -pending.demand.request.ram_mib)):
        room = rooms.get(pending.demand.group)
        if room:
            pending.placed += fill(situation, pending, room)
            rooms[pending.demand.group] = [capacity for capacity in room if capacity.cores > 0 and capacity.ram_mib > 0]


def _least_wanted_first(situation: Situation, pending_demands: list[PendingDemand], room: list[WorkerCapacity]) -> None:
    """Among workers that are as near to being there, first those that the fewest pending_demands could use.

    A job that may run anywhere would else take the worker that was ordered for one that may not, for which a further one were ordered.
    """
    kinds = {id(capacity.worker): capacity.worker for capacity in room}  # few: workers of one cloud, flavor, image and alias share it
    if len(kinds) < 2:
        return
    group = [pending.job for pending in pending_demands if pending.unplaced > 0 and pending.demand.group == room[0].cloud[0]]
    wanted = {kind: sum(situation.matcher.matches(job, worker) for job in group) for kind, worker in kinds.items()}
    room.sort(key=lambda capacity: (_RANK[capacity.state], wanted[id(capacity.worker)]))


def fill(situation: Situation, pending: PendingDemand, room: list[WorkerCapacity]) -> int:
    """Put jobs of one pending into free_capacity, in their order; the number put."""
    request, put = pending.demand.request, 0
    for capacity in room:
        if pending.unplaced <= 0:
            break
        if capacity.cores < request.cores or capacity.ram_mib < request.ram_mib or capacity.disk_gib < request.disk_gib:
            continue
        if situation.matcher.matches(pending.job, capacity.worker):
            count = capacity.put(request, pending.unplaced)
            pending.unplaced -= count
            put += count
    return put
