"""Which workers are ordered: owner after owner, the least served first, each demand on the best cloud that has room."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass, field

from ..domain.model import Boot, Cloud, Reason, Verdict, VmState
from .eligibility import Choice, Eligibility, Offer, failing_in_a_row, reasons, words
from .limits import Rooms
from .packing import Bin, fill
from .situation import CloudKey, Situation, Wish

Owner = tuple[str, str]  # group, owner

# What to tell of a demand that got nothing, the most hopeful first.
_TELLING = (Reason.THROTTLED, Reason.LIMIT_REACHED, Reason.REQUIREMENTS_MISMATCH, Reason.NO_FLAVOR, Reason.NO_IMAGE, Reason.NO_NETWORK)


@dataclass(slots=True)
class _Tally:
    """What this plan did for one wish: boots per cloud, and the last refusal of each cloud that was tried."""

    offers: list[Offer]
    boots: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    flavor: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, tuple[Reason, str]] = field(default_factory=dict)


class Placement:
    """Orders workers for the wishes that stayed open after packing."""

    def __init__(self, situation: Situation, wishes: list[Wish], leaving: set[str], idle_bins: dict[CloudKey, list[Bin]]) -> None:
        self._situation = situation
        self._wishes = wishes
        self._rooms = Rooms(situation)
        self._eligibility = Eligibility(situation)
        self._idle = idle_bins
        self._new: dict[CloudKey, int] = defaultdict(int)
        self._starting: dict[CloudKey, int] = defaultdict(int)
        for vm in situation.vms:
            if vm.state in (VmState.REQUESTED, VmState.STARTING) and vm.id not in leaving:
                self._starting[vm.group, vm.cloud] += 1
        self._bins: dict[str, list[Bin]] = defaultdict(list)
        self._tallies: dict[int, _Tally] = {}
        self.boots: list[Boot] = []

    def run(self) -> None:
        """Serve owners in turn: first whose group, then who, has the fewest cores; among equals who waits longest.

        Tiers of priority between groups would go in front of this key, budgets and quotas into `Rooms`.
        """
        queues: dict[Owner, list[int]] = defaultdict(list)
        for index, wish in enumerate(self._wishes):  # sorted by owner, then by the owner's own priorities and waiting time
            if wish.open > 0:
                queues[wish.demand.group, wish.demand.owner].append(index)
        group_cores, owner_cores = self._shares()
        since = {owner: min((self._wishes[i].demand.waiting_since or float("inf")) for i in indices) for owner, indices in queues.items()}
        heap = [(group_cores[owner[0]], owner_cores[owner], since[owner], owner) for owner in queues]
        heapq.heapify(heap)
        while heap:
            *ranks, owner = heapq.heappop(heap)
            now_at = (group_cores[owner[0]], owner_cores[owner], since[owner])
            if tuple(ranks) != now_at:  # somebody else of the group was served meanwhile
                heapq.heappush(heap, (*now_at, owner))
                continue
            queue = queues[owner]
            while queue and not self._serve(queue[0]):
                queue.pop(0)
            if queue:
                cores = self.boots[-1].resources.cores
                group_cores[owner[0]] += cores
                owner_cores[owner] += cores
                heapq.heappush(heap, (group_cores[owner[0]], owner_cores[owner], since[owner], owner))

    def _shares(self) -> tuple[dict[str, int], dict[Owner, int]]:
        groups: dict[str, int] = defaultdict(int)
        owners: dict[Owner, int] = defaultdict(int)
        for each in self._situation.demand:
            owners[each.group, each.owner] += each.running * each.request.cores
        for wish in self._wishes:
            owners[wish.demand.group, wish.demand.owner] += wish.placed * wish.demand.request.cores
        for (group, _), cores in owners.items():
            groups[group] += cores
        return groups, owners

    def _serve(self, index: int) -> bool:
        """Order one worker for a wish; false when it needs none any more, or none can be had."""
        wish = self._wishes[index]
        wish.booted += fill(self._situation, wish, self._bins[wish.demand.group])  # room left in workers just ordered
        if wish.open <= 0:
            return False
        tally = self._tallies.get(index)
        if tally is None:
            tally = self._tallies[index] = _Tally(self._eligibility.offers(wish.demand, wish.job))
        ready = [offer for offer in tally.offers if offer.choices and offer.cloud.name not in tally.refusals]
        for offer in sorted(ready, key=lambda offer: (-offer.cloud.priority, self._rooms.servers(offer.cloud), offer.cloud.name)):
            refusal = self._throttle(wish, offer.cloud)
            if refusal is None:
                refusal = self._try(wish, offer, tally)
                if refusal is None:
                    return True
            tally.refusals[offer.cloud.name] = refusal
        return False

    def _throttle(self, wish: Wish, cloud: Cloud) -> tuple[Reason, str] | None:
        policy, key = self._situation.policy, (cloud.group, cloud.name)
        if self._new[key] >= policy.max_new_per_cloud_and_cycle:
            return Reason.THROTTLED, f"{cloud.name}: {self._new[key]} workers ordered in this cycle, which is the most"
        most = 1 if failing_in_a_row(cloud, self._situation) else policy.max_starting_per_cloud
        if self._starting[key] >= most:
            return Reason.THROTTLED, f"{cloud.name}: {self._starting[key]} workers start there already, at most {most} may"
        idle = self._idle.get(key, ())
        waiting = sum(1 for bin in idle if self._situation.matcher.matches(wish.job, bin.worker)) if idle else 0
        if waiting > policy.max_idle_per_cloud:
            return Reason.THROTTLED, f"{cloud.name}: {waiting} workers that would do are idle; the pool hands out jobs first"
        return None

    def _try(self, wish: Wish, offer: Offer, tally: _Tally) -> tuple[Reason, str] | None:
        refusal = ""
        for choice in offer.choices:
            said = self._rooms.refusal(offer.cloud, choice.flavor.resources)
            if not said:
                self._boot(wish, offer, choice, tally)
                return None
            refusal = refusal or said
        return Reason.LIMIT_REACHED, refusal

    def _boot(self, wish: Wish, offer: Offer, choice: Choice, tally: _Tally) -> None:
        cloud, demand, flavor = offer.cloud, wish.demand, choice.flavor
        key = (cloud.group, cloud.name)
        waiting = wish.open
        bin = Bin(choice.worker, key, None, VmState.REQUESTED, choice.offer.cores, choice.offer.ram_mib, choice.offer.disk_gib)
        count = bin.put(demand.request, wish.open)
        wish.open -= count
        wish.booted += count
        self._bins[cloud.group].append(bin)
        self._rooms.take(cloud, flavor.resources)
        self._new[key] += 1
        self._starting[key] += 1
        tally.boots[cloud.name] += 1
        tally.flavor[cloud.name] = flavor.name
        jobs = f"{waiting} jobs of {demand.owner} wait" if waiting > 1 else f"1 job of {demand.owner} waits"
        detail = f"{jobs} for {words(demand.request)}; this worker takes {count}"
        self.boots.append(
            Boot(
                demand.group,
                cloud.name,
                flavor.name,
                offer.image,
                flavor.resources,
                demand.alias,
                Reason.DEMAND,
                detail,
                network=offer.network,
                keep_alive=demand.keep_alive,
            )
        )

    def verdicts(self) -> list[Verdict]:
        """For each demand that waits: one verdict for all (cloud None), and where it was not satisfied, one per cloud."""
        found: list[Verdict] = []
        for index, wish in enumerate(self._wishes):
            tally = self._tallies.get(index)
            if tally is None:
                found.append(Verdict(wish.demand, None, Reason.ENOUGH_CAPACITY, _enough(wish), count=0))
                continue
            found.append(_overall(self._situation, wish, tally))
            found.extend(_per_cloud(wish, tally))
        return found


def _per_cloud(wish: Wish, tally: _Tally) -> list[Verdict]:
    found = []
    for offer in tally.offers:
        name = offer.cloud.name
        count = tally.boots.get(name, 0)
        if count:
            detail = f"{name}: {count} worker{'s' if count > 1 else ''} of flavor {tally.flavor[name]} ordered"
            more = tally.refusals.get(name)
            found.append(
                Verdict(wish.demand, name, Reason.DEMAND, f"{detail}; no more: {more[1]}" if more else detail, tally.flavor[name], count)
            )
        elif not offer.choices:
            found.append(Verdict(wish.demand, name, offer.reason, offer.detail))
        else:
            usual = (Reason.ENOUGH_CAPACITY, f"{name}: not needed, other workers take these jobs")
            reason, detail = tally.refusals.get(name, usual)
            found.append(Verdict(wish.demand, name, reason, detail, offer.choices[0].flavor.name))
    return found


def _overall(situation: Situation, wish: Wish, tally: _Tally) -> Verdict:
    demand = wish.demand
    count = sum(tally.boots.values())
    if count or wish.open <= 0:
        detail = f"{count} worker{'s' if count != 1 else ''} ordered; {wish.booted + wish.placed} of {demand.idle} jobs have room or will"
        return Verdict(demand, None, Reason.DEMAND, detail, count=count)
    placed = f"{wish.placed + wish.booted} of {demand.idle} jobs have room; for the others: " if wish.placed + wish.booted else ""
    if demand.group not in situation.groups:
        return Verdict(demand, None, Reason.GROUP_UNKNOWN, f"there is no group {demand.group}")
    if not tally.offers:
        return Verdict(demand, None, Reason.NO_CLOUD, f"{placed}group {demand.group} has no cloud")
    for wanted in _TELLING:
        said = [detail for reason, detail in tally.refusals.values() if reason is wanted]
        said += [offer.detail for offer in tally.offers if offer.reason is wanted and not offer.choices]
        if said:
            return Verdict(demand, None, wanted, placed + "; ".join(dict.fromkeys(said)))
    first = tally.offers[0]
    return Verdict(demand, None, first.reason, placed + "; ".join(reasons(tally.offers)))


def _enough(wish: Wish) -> str:
    new = " or were just ordered" if wish.booted else ""
    return f"all {wish.demand.idle} jobs have room in workers that are there or on their way{new}"
