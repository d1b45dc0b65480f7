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

from ..domain.model import Action, Cloud, Demand, Group, Hearing, Plan, Policy, Retire, Slot, Vm, VmState, World
from ..matching.matcher import Matcher
from . import packing, retirement
from .packing import Bin
from .placement import Placement
from .situation import CloudKey, Situation

_WHOLE = Hearing()


def plan(
    demand: Iterable[Demand],
    slots: Iterable[Slot],
    vms: Iterable[Vm],
    clouds: Iterable[Cloud],
    groups: Iterable[Group],
    policy: Policy,
    now: float,
    *,
    hearing: Hearing = _WHOLE,
    matcher: Matcher | None = None,
) -> Plan:
    """What to do now. `slots` must be the whole pool; `vms` all that are not gone; `now` in seconds since the epoch.

    `hearing` says which queues `demand` lacks, and since when the pool was listened to.

    `matcher` remembers evaluations from cycle to cycle; without one a fresh one is made. Actions come as deletions,
    retirements (both by VM id), then boots in the order in which owners were served.
    """
    situation = Situation(demand, slots, vms, clouds, groups, policy, now, hearing, matcher or Matcher())
    leaves = retirement.compulsory(situation)
    wishes = situation.wishes()
    rooms = packing.bins(situation, leaves.keys())
    everywhere = [bin for room in rooms.values() for bin in room]
    packing.pack(situation, wishes, rooms)
    needed = {bin.vm_id for bin in everywhere if bin.taken and bin.vm_id is not None}
    for leave in retirement.idle(situation, leaves.keys(), needed):
        leaves[leave.vm_id] = leave
    placement = Placement(situation, wishes, set(leaves), _idle(everywhere, leaves.keys()))
    placement.run()
    ordered = sorted(leaves.values(), key=lambda leave: (isinstance(leave, Retire), leave.vm_id))
    actions: tuple[Action, ...] = (*ordered, *placement.boots)
    return Plan(actions, tuple(placement.verdicts()))


def plan_world(world: World, matcher: Matcher) -> Plan:
    """`plan` of a world as the engine saw it."""
    return plan(
        world.demand,
        world.slots,
        world.vms,
        world.clouds,
        world.groups,
        world.policy,
        world.now,
        hearing=world.hearing,
        matcher=matcher,
    )


def _idle(bins: Iterable[Bin], leaving: Iterable[str]) -> dict[CloudKey, list[Bin]]:
    gone = set(leaving)
    found: dict[CloudKey, list[Bin]] = defaultdict(list)
    for bin in bins:
        if bin.state is VmState.IDLE and bin.vm_id not in gone:
            found[bin.cloud].append(bin)
    return found
