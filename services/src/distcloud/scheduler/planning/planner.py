"""The plan of one cycle: which workers to order, retire and delete for the jobs that wait, every decision with its reason.

`plan` is a function of its arguments and nothing else; the order of the inputs changes nothing. The steps:

1. `retirement.compulsory`: failed, silent, aged, drained and excess VMs go, whatever the demand.
2. `packing.pack`: waiting jobs are put into the free room of the workers that stay or are still to come.
3. `retirement.idle`: idle workers that no job was put into go after their keep-alive.
4. `placement.Placement`: for the jobs left over, workers are ordered within limits and throttles.

Demand without a batch queue (backfill) enters as further `Demand` values; a simulator calls `plan` in a loop with a clock
of its own; two schedulers on one database call it only on the one that leads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ..domain.model import Action, Cloud, CloudKey, Demand, Group, Plan, PlanInputs, Policy, PoolCoverage, Retire, Slot, Vm, VmState
from ..matching.matcher import Matcher
from . import packing, retirement
from .packing import WorkerCapacity
from .placement import Placement
from .situation import Situation

_WHOLE = PoolCoverage()


def plan(
    demand: Iterable[Demand],
    slots: Iterable[Slot],
    vms: Iterable[Vm],
    clouds: Iterable[Cloud],
    groups: Iterable[Group],
    policy: Policy,
    now: float,
    *,
    coverage: PoolCoverage = _WHOLE,
    matcher: Matcher | None = None,
) -> Plan:
    """What to do now. `slots` must be the whole pool; `vms` all that are not gone; `now` in seconds since the epoch.

    `coverage` says which queues `demand` lacks, and since when the pool was listened to.

    `matcher` remembers evaluations from cycle to cycle; without one a fresh one is made. Actions come as deletions,
    retirements (both by VM id), then boots in the order in which owners were served.
    """
    situation = Situation(demand, slots, vms, clouds, groups, policy, now, coverage, matcher or Matcher())
    removals = retirement.compulsory(situation)
    pending_demands = situation.pending_demands()
    rooms = packing.free_capacity(situation, removals.keys())
    everywhere = [capacity for room in rooms.values() for capacity in room]
    packing.pack(situation, pending_demands, rooms)
    needed = {capacity.vm_id for capacity in everywhere if capacity.taken and capacity.vm_id is not None}
    for removal in retirement.idle(situation, removals.keys(), needed):
        removals[removal.vm_id] = removal
    placement = Placement(situation, pending_demands, set(removals), _idle(everywhere, removals.keys()))
    placement.run()
    ordered = sorted(removals.values(), key=lambda removal: (isinstance(removal, Retire), removal.vm_id))
    actions: tuple[Action, ...] = (*ordered, *placement.boots)
    return Plan(actions, tuple(placement.verdicts()))


def plan_from(world: PlanInputs, matcher: Matcher) -> Plan:
    """`plan` of a world as the engine saw it."""
    return plan(
        world.demand,
        world.slots,
        world.vms,
        world.clouds,
        world.groups,
        world.policy,
        world.now,
        coverage=world.coverage,
        matcher=matcher,
    )


def _idle(free_capacity: Iterable[WorkerCapacity], removed_ids: Iterable[str]) -> dict[CloudKey, list[WorkerCapacity]]:
    gone = set(removed_ids)
    found: dict[CloudKey, list[WorkerCapacity]] = defaultdict(list)
    for capacity in free_capacity:
        if capacity.state is VmState.IDLE and capacity.vm_id not in gone:
            found[capacity.cloud].append(capacity)
    return found
