"""Placement: which workers to boot, owner by owner, the least served first, each demand on the best cloud with headroom."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass, field

from ..domain.model import Boot, Cloud, CloudKey, Reason, Verdict, VmState
from ..matching.matcher import WorkerAd
from .capacity import WorkerCapacity
from .eligibility import CloudOffer, Eligibility, FlavorChoice, format_resources, is_probing, refusal_details
from .limits import Headroom
from .packing import fill
from .situation import PendingDemand, Situation

Owner = tuple[str, str]  # group, owner

# Which refusal to report for a demand that got no worker: the one most likely to pass by itself comes first.
_REFUSAL_PRECEDENCE = (
    Reason.THROTTLED,
    Reason.LIMIT_REACHED,
    Reason.REQUIREMENTS_MISMATCH,
    Reason.NO_FLAVOR,
    Reason.NO_IMAGE,
    Reason.NO_NETWORK,
)


@dataclass(slots=True)
class _Outcome:
    """What this plan did for one demand: boots per cloud, and the refusal of each cloud that was tried.

    Mutable: it grows with every turn of the demand's owner, and becomes the verdicts at the end. It lives for one call of `plan`."""

    offers: list[CloudOffer]
    boots: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    flavor: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, tuple[Reason, str]] = field(default_factory=dict)


class Placement:
    """Boots workers for the jobs that are unplaced after packing.

    Mutable: each boot changes headroom, throttles and the shares of the owners, which the next decision depends on. One object serves
    one call of `plan`."""

    def __init__(
        self,
        situation: Situation,
        pending_demands: list[PendingDemand],
        removed_ids: set[str],
        idle_workers: dict[CloudKey, list[tuple[WorkerAd, int]]],
    ) -> None:
        self._situation = situation
        self._pending = pending_demands
        self._headroom = Headroom(situation)
        self._eligibility = Eligibility(situation)
        self._idle = idle_workers
        self._new: dict[CloudKey, int] = defaultdict(int)
        self._starting: dict[CloudKey, int] = defaultdict(int)
        for vm in situation.vms:
            if vm.state in (VmState.REQUESTED, VmState.STARTING) and vm.id not in removed_ids:
                self._starting[vm.group, vm.cloud] += 1
        self._booted_capacity: dict[str, list[WorkerCapacity]] = defaultdict(list)
        self._outcomes: dict[int, _Outcome] = {}
        self.boots: list[Boot] = []

    def run(self) -> None:
        """Serve owners in turn: the group with the fewest cores first, in it the owner with the fewest cores, then the longest waiting.

        Priority tiers between groups would go in front of this key, budgets and quotas into `Headroom`.
        """
        queues: dict[Owner, list[int]] = defaultdict(list)
        for index, pending in enumerate(self._pending):  # sorted by owner, then by the owner's own priorities and waiting time
            if pending.unplaced > 0:
                queues[pending.demand.group, pending.demand.owner].append(index)
        group_cores, owner_cores = self._shares()
        since = {owner: min((self._pending[i].demand.waiting_since or float("inf")) for i in indices) for owner, indices in queues.items()}
        heap = [(group_cores[owner[0]], owner_cores[owner], since[owner], owner) for owner in queues]
        heapq.heapify(heap)
        while heap:
            *ranks, owner = heapq.heappop(heap)
            now_at = (group_cores[owner[0]], owner_cores[owner], since[owner])
            if tuple(ranks) != now_at:  # another owner of the group was served in the meantime
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
        for pending in self._pending:
            owners[pending.demand.group, pending.demand.owner] += pending.placed * pending.demand.request.cores
        for (group, _), cores in owners.items():
            groups[group] += cores
        return groups, owners

    def _serve(self, index: int) -> bool:
        """Boot one worker for a demand; false if it needs none any more, or no cloud can provide one."""
        pending = self._pending[index]
        pending.booted += fill(self._situation, pending, self._booted_capacity[pending.demand.group])
        if pending.unplaced <= 0:
            return False
        outcome = self._outcomes.get(index)
        if outcome is None:
            outcome = self._outcomes[index] = _Outcome(self._eligibility.offers(pending.demand, pending.job))
        ready = [offer for offer in outcome.offers if offer.choices and offer.cloud.name not in outcome.refusals]
        for offer in sorted(ready, key=lambda offer: (-offer.cloud.priority, self._headroom.servers(offer.cloud), offer.cloud.name)):
            refusal = self._throttle(pending, offer.cloud)
            if refusal is None:
                refusal = self._try(pending, offer, outcome)
                if refusal is None:
                    return True
            outcome.refusals[offer.cloud.name] = refusal
        return False

    def _throttle(self, pending: PendingDemand, cloud: Cloud) -> tuple[Reason, str] | None:
        policy, key = self._situation.policy, (cloud.group, cloud.name)
        if self._new[key] >= policy.max_new_per_cloud_and_cycle:
            return Reason.THROTTLED, f"{cloud.name}: {self._new[key]} workers already requested in this cycle, the maximum"
        most = 1 if is_probing(cloud, self._situation) else policy.max_starting_per_cloud
        if self._starting[key] >= most:
            return Reason.THROTTLED, f"{cloud.name}: {self._starting[key]} workers are already starting, the maximum is {most}"
        waiting = 0
        for worker, count in self._idle.get(key, ()):
            if self._situation.matcher.matches(pending.job, worker):
                waiting += count
        if waiting > policy.max_idle_per_cloud:
            return Reason.THROTTLED, f"{cloud.name}: {waiting} suitable workers are idle; waiting for the pool to assign jobs to them"
        return None

    def _try(self, pending: PendingDemand, offer: CloudOffer, outcome: _Outcome) -> tuple[Reason, str] | None:
        refusal = ""
        for choice in offer.choices:
            refusal_text = self._headroom.refusal(offer.cloud, choice.flavor.resources)
            if not refusal_text:
                self._boot(pending, offer, choice, outcome)
                return None
            refusal = refusal or refusal_text
        return Reason.LIMIT_REACHED, refusal

    def _boot(self, pending: PendingDemand, offer: CloudOffer, choice: FlavorChoice, outcome: _Outcome) -> None:
        cloud, demand, flavor = offer.cloud, pending.demand, choice.flavor
        key = (cloud.group, cloud.name)
        waiting = pending.unplaced
        capacity = WorkerCapacity(
            choice.worker, key, None, VmState.REQUESTED, choice.offer.cores, choice.offer.ram_mib, choice.offer.disk_gib
        )
        count = capacity.put(demand.request, pending.unplaced)
        pending.unplaced -= count
        pending.booted += count
        self._booted_capacity[cloud.group].append(capacity)
        self._headroom.take(cloud, flavor.resources)
        self._new[key] += 1
        self._starting[key] += 1
        outcome.boots[cloud.name] += 1
        outcome.flavor[cloud.name] = flavor.name
        jobs = f"{waiting} jobs of {demand.owner} wait" if waiting > 1 else f"1 job of {demand.owner} waits"
        detail = f"{jobs} for {format_resources(demand.request)}; this worker takes {count}"
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
        """For each demand with idle jobs one overall verdict (cloud None), and one per cloud unless packing satisfied it."""
        found: list[Verdict] = []
        for index, pending in enumerate(self._pending):
            outcome = self._outcomes.get(index)
            if outcome is None:
                found.append(Verdict(pending.demand, None, Reason.ENOUGH_CAPACITY, _enough_detail(pending), count=0))
                continue
            found.append(_overall(self._situation, pending, outcome))
            found.extend(_cloud_verdicts(pending, outcome))
        return found


def _cloud_verdicts(pending: PendingDemand, outcome: _Outcome) -> list[Verdict]:
    found = []
    for offer in outcome.offers:
        name = offer.cloud.name
        count = outcome.boots.get(name, 0)
        if count:
            detail = f"{name}: {count} worker{'s' if count > 1 else ''} of flavor {outcome.flavor[name]} requested"
            more = outcome.refusals.get(name)
            found.append(
                Verdict(
                    pending.demand,
                    name,
                    Reason.DEMAND,
                    f"{detail}; no more, because {more[1]}" if more else detail,
                    outcome.flavor[name],
                    count,
                )
            )
        elif not offer.choices:
            found.append(Verdict(pending.demand, name, offer.reason, offer.detail))
        else:
            usual = (Reason.ENOUGH_CAPACITY, f"{name}: not needed, other workers run these jobs")
            reason, detail = outcome.refusals.get(name, usual)
            found.append(Verdict(pending.demand, name, reason, detail, offer.choices[0].flavor.name))
    return found


def _overall(situation: Situation, pending: PendingDemand, outcome: _Outcome) -> Verdict:
    demand = pending.demand
    count = sum(outcome.boots.values())
    if count or pending.unplaced <= 0:
        detail = (
            f"{count} worker{'s' if count != 1 else ''} requested; {pending.booted + pending.placed} of {demand.idle} jobs have a worker"
        )
        return Verdict(demand, None, Reason.DEMAND, detail, count=count)
    placed = (
        f"{pending.placed + pending.booted} of {demand.idle} jobs have a worker; for the others: "
        if pending.placed + pending.booted
        else ""
    )
    if demand.group not in situation.groups:
        return Verdict(demand, None, Reason.GROUP_UNKNOWN, f"there is no group {demand.group}")
    if not outcome.offers:
        return Verdict(demand, None, Reason.NO_CLOUD, f"{placed}group {demand.group} has no cloud")
    for wanted in _REFUSAL_PRECEDENCE:
        details = [detail for reason, detail in outcome.refusals.values() if reason is wanted]
        details += [offer.detail for offer in outcome.offers if offer.reason is wanted and not offer.choices]
        if details:
            return Verdict(demand, None, wanted, placed + "; ".join(dict.fromkeys(details)))
    first = outcome.offers[0]
    return Verdict(demand, None, first.reason, placed + "; ".join(refusal_details(outcome.offers)))


def _enough_detail(pending: PendingDemand) -> str:
    new = " or just requested" if pending.booted else ""
    return f"all {pending.demand.idle} jobs fit on workers that are running, starting{new}"
