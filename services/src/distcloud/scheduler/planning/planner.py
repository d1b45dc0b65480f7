"""The plan of one cycle: which workers to boot, retire and delete for the waiting jobs, with a reason for every decision.

`plan` is a pure function: the same arguments, in any order, give the same plan. The steps:

1. `retirement.compulsory`: remove failed, silent, aged, drained and excess VMs, whatever the demand.
2. `packing.pack`: assign waiting jobs to the free capacity of the workers that stay or are booting.
3. `retirement.idle`: retire idle workers without an assigned job after their keep-alive.
4. `placement.Placement`: boot workers for the unplaced jobs, within limits and throttles.

The planner keeps no state between calls. While it runs, `PendingDemand`, `WorkerCapacity`, `Headroom` and `Placement` are mutable, because
every assignment and boot changes what the next decision may use; none of them outlives the call.

Demand without a batch queue (backfill) enters as further `Demand` values; a simulator calls `plan` in a loop with its own clock;
of two schedulers on one database only the leader calls it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from ..domain.model import Action, Cloud, CloudKey, Demand, Group, Plan, PlanInputs, Policy, PoolCoverage, Retire, Slot, Vm, VmState
from ..matching.matcher import Matcher, WorkerAd
from . import packing, retirement
from .capacity import WorkerCapacity
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
    """The plan for `now` (seconds since the epoch). `slots` must be the whole pool, `vms` all that are not gone.

    `coverage` names the queues missing from `demand`, and since when the pool has been observed without a gap. `matcher` caches
    matches between cycles; the default is a new one. Actions are sorted: deletions, retirements (both by VM id), then boots in the
    order in which owners were served.
    """
    situation = Situation(demand, slots, vms, clouds, groups, policy, now, coverage, matcher or Matcher())
    removals = retirement.compulsory(situation)
    pending_demands = situation.pending_demands()
    by_group = packing.free_capacity(situation, removals.keys())
    all_workers = [capacity for workers in by_group.values() for capacity in workers]
    packing.pack(situation, pending_demands, by_group)
    needed = {capacity.vm_id for capacity in all_workers if capacity.taken and capacity.vm_id is not None}
    for removal in retirement.idle(situation, removals.keys(), needed):
        removals[removal.vm_id] = removal
    placement = Placement(situation, pending_demands, set(removals), _idle(all_workers, removals.keys()))
    placement.run()
    ordered = sorted(removals.values(), key=lambda removal: (isinstance(removal, Retire), removal.vm_id))
    actions: tuple[Action, ...] = (*ordered, *placement.boots)
    return Plan(actions, tuple(placement.verdicts()))


def plan_from(inputs: PlanInputs, matcher: Matcher) -> Plan:
    """`plan` with its arguments in one value."""
    return plan(
        inputs.demand,
        inputs.slots,
        inputs.vms,
        inputs.clouds,
        inputs.groups,
        inputs.policy,
        inputs.now,
        coverage=inputs.coverage,
        matcher=matcher,
    )


def _idle(free_capacity: Iterable[WorkerCapacity], removed_ids: Iterable[str]) -> dict[CloudKey, list[tuple[WorkerAd, int]]]:
    """The kinds of idle workers of each cloud, with the number of workers."""
    gone = set(removed_ids)
    idle = [capacity for capacity in free_capacity if capacity.state is VmState.IDLE and capacity.vm_id not in gone]
    kinds = {(capacity.cloud, id(capacity.worker)): capacity.worker for capacity in idle}
    count = Counter((capacity.cloud, id(capacity.worker)) for capacity in idle)
    found: dict[CloudKey, list[tuple[WorkerAd, int]]] = defaultdict(list)
    for kind, worker in kinds.items():
        found[kind[0]].append((worker, count[kind]))
    return found
