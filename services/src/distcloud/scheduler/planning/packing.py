"""Jobs into workers: which of the waiting jobs fit into the free room of workers that are there or on their way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set
from dataclasses import dataclass

from ..domain.model import Resources, VmState
from ..matching.matcher import Worker
from .situation import IN_POOL, TO_COME, CloudKey, Situation, Wish

# Busy workers first, so that idle ones may go; then the nearest to being there.
_RANK = {VmState.RUNNING: 0, VmState.IDLE: 1, VmState.UNREGISTERED: 2, VmState.STARTING: 3, VmState.REQUESTED: 4}


@dataclass(slots=True)
class Bin:
    """The free room of one worker; `vm_id` None: it is ordered by this plan."""

    worker: Worker
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


def bins(situation: Situation, leaving: Set[str]) -> dict[str, list[Bin]]:
    """The room of each group's workers, less those that leave (`leaving`: ids of VMs that this plan retires or deletes).

    A worker of a disabled cloud that does not run a job yet counts for nothing: it will be retired as soon as it is idle. So does
    one that is missing: the pool believes an ad long after its worker died, and jobs would wait for it while other clouds have room.
    """
    found: dict[str, list[Bin]] = defaultdict(list)
    for vm in situation.vms:
        if vm.id in leaving or vm.state not in TO_COME | IN_POOL:
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
            found[vm.group].append(Bin(worker, (vm.group, vm.cloud), vm.id, vm.state, room.cores, room.ram_mib, room.disk_gib))
    for each in found.values():
        each.sort(key=lambda bin: (_RANK[bin.state], bin.cores, bin.ram_mib, bin.disk_gib, bin.vm_id or ""))
    return found


def pack(situation: Situation, wishes: list[Wish], rooms: dict[str, list[Bin]]) -> None:
    """Put jobs into free room, the big ones first (small ones would break up what only a big one needs); notes it in both."""
    for each in rooms.values():
        _least_wanted_first(situation, wishes, each)
    for wish in sorted(wishes, key=lambda wish: (-wish.demand.request.cores, -wish.demand.request.ram_mib)):
        room = rooms.get(wish.demand.group)
        if room:
            wish.placed += fill(situation, wish, room)
            rooms[wish.demand.group] = [bin for bin in room if bin.cores > 0 and bin.ram_mib > 0]


def _least_wanted_first(situation: Situation, wishes: list[Wish], room: list[Bin]) -> None:
    """Among workers that are as near to being there, first those that the fewest wishes could use.

    A job that may run anywhere would else take the worker that was ordered for one that may not, for which a further one were ordered.
    """
    kinds = {id(bin.worker): bin.worker for bin in room}  # few: workers of one cloud, flavor, image and alias share it
    if len(kinds) < 2:
        return
    group = [wish.job for wish in wishes if wish.open > 0 and wish.demand.group == room[0].cloud[0]]
    wanted = {kind: sum(situation.matcher.matches(job, worker) for job in group) for kind, worker in kinds.items()}
    room.sort(key=lambda bin: (_RANK[bin.state], wanted[id(bin.worker)]))


def fill(situation: Situation, wish: Wish, room: list[Bin]) -> int:
    """Put jobs of one wish into bins, in their order; the number put."""
    request, put = wish.demand.request, 0
    for bin in room:
        if wish.open <= 0:
            break
        if bin.cores < request.cores or bin.ram_mib < request.ram_mib or bin.disk_gib < request.disk_gib:
            continue
        if situation.matcher.matches(wish.job, bin.worker):
            count = bin.put(request, wish.open)
            wish.open -= count
            put += count
    return put
