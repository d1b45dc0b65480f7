"""The inputs of one plan, indexed for the planner: VMs by cloud, usage by quota, and what each kind of worker offers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..domain.model import MAX_CLOCK_SKEW, Cloud, CloudKey, Demand, Flavor, Group, Policy, PoolCoverage, Resources, Slot, Usage, Vm, VmState
from ..matching.matcher import JobAd, Matcher, WorkerAd
from ..worker.offer import offered

ProjectKey = tuple[str, str, str]  # Keystone, region, project

BOOTING = frozenset({VmState.REQUESTED, VmState.STARTING, VmState.UNREGISTERED})
IN_POOL = frozenset({VmState.IDLE, VmState.RUNNING})
REMOVING = frozenset({VmState.RETIRING, VmState.DELETING, VmState.ERROR})

_NO_TIME = float("inf")


@dataclass(slots=True)
class PendingDemand:
    """A demand with idle jobs while one plan is computed: `unplaced` jobs plus what happened to the others.

    Mutable: packing and placement move jobs from `unplaced` to `placed` and `booted`. It lives for one call of `plan`."""

    demand: Demand
    job: JobAd
    unplaced: int
    placed: int = 0  # on workers that exist or are booting
    booted: int = 0  # on workers booted by this plan


class Situation:
    """The inputs of one plan, sorted, so that the result does not depend on their order. Not changed once built."""

    def __init__(
        self,
        demand: Iterable[Demand],
        slots: Iterable[Slot],
        vms: Iterable[Vm],
        clouds: Iterable[Cloud],
        groups: Iterable[Group],
        policy: Policy,
        now: float,
        coverage: PoolCoverage,
        matcher: Matcher,
    ) -> None:
        self.policy = policy
        self.now = now
        self.coverage = coverage
        self.matcher = matcher
        self.groups = {group.name: group for group in sorted(groups, key=lambda group: group.name)}
        self.clouds = {(cloud.group, cloud.name): cloud for cloud in sorted(clouds, key=lambda cloud: (cloud.group, cloud.name))}
        self.vms = sorted((vm for vm in vms if vm.state is not VmState.GONE), key=lambda vm: vm.id)
        self.demand = sorted(demand, key=demand_key)
        slots = tuple(slots)
        self.slots: dict[str, Slot] = {}
        for slot in sorted(slots, key=lambda slot: (slot.last_heard, slot.machine)):
            if slot.vm_id is not None:
                self.slots[slot.vm_id] = slot  # two ads of one VM: the latest
        ours = {vm.id for vm in self.vms}
        # By owner: a worker of other origin takes jobs of any group.
        self.claims_elsewhere = Counter(owner for slot in slots if slot.vm_id not in ours for owner in claim_owners(slot))
        self.clouds_of: dict[str, list[Cloud]] = defaultdict(list)
        for cloud in self.clouds.values():
            self.clouds_of[cloud.group].append(cloud)
        self.vms_on: dict[CloudKey, list[Vm]] = defaultdict(list)
        for vm in self.vms:
            self.vms_on[vm.group, vm.cloud].append(vm)
        self.used = {key: usage(self.vms_on[key]) for key in self.clouds}
        self.used_in_project: dict[ProjectKey, Usage] = defaultdict(Usage)
        self.members: dict[ProjectKey, list[Cloud]] = defaultdict(list)
        for key, cloud in self.clouds.items():
            self.members[project_of(cloud)].append(cloud)
            self.used_in_project[project_of(cloud)] = add_usage(self.used_in_project[project_of(cloud)], self.used[key])
        self._workers: dict[tuple[CloudKey, str, Resources, str | None, str], WorkerAd] = {}
        self._observed_offers = self._find_observed_offers()

    def cloud_of(self, vm: Vm) -> Cloud | None:
        return self.clouds.get((vm.group, vm.cloud))

    def last_heard(self, vm: Vm) -> float:
        """Time of the last update of a worker in the pool, but not before `coverage.since`: earlier silence says nothing."""
        slot = self.slots.get(vm.id)
        times = [time for time in (vm.last_seen_in_pool, slot.last_heard if slot else None) if time is not None]
        known = [time for time in times if time <= self.now + MAX_CLOCK_SKEW]  # later ones are from before the clock was set back
        return max(max(known, default=vm.changed_at), self.coverage.since or 0.0)

    def missing(self, vm: Vm) -> bool:
        """Whether no job should wait for this worker: its ad is old, its boot is late, or its cloud is unreachable while it boots.

        This is no reason to remove it: jobs running there may be fine.
        """
        policy, cloud = self.policy, self.cloud_of(vm)
        if vm.state in IN_POOL:
            return self.now - self.last_heard(vm) > policy.quiet_timeout
        since = self.now - max(vm.changed_at, vm.requested_at)
        if vm.state is not VmState.REQUESTED and since > policy.late_timeout:
            return True
        return cloud is not None and not cloud.reachable and since > policy.quiet_timeout

    def offer(self, key: CloudKey, flavor: str, server: Resources) -> Resources:
        """What a worker of that flavor offers: as computed, but no more than such workers were observed to have."""
        return self._observed_offers.get((key, flavor)) or offered(server)

    def worker(self, cloud: Cloud, flavor: str, server: Resources, alias: str | None, image: str) -> WorkerAd:
        key = (cloud.group, cloud.name)
        kind = (key, flavor, server, alias, image)
        found = self._workers.get(kind)
        if found is None:
            known = self._observed_offers.get((key, flavor))
            self._workers[kind] = found = self.matcher.worker(cloud, Flavor(flavor, server), alias, image, known)
        return found

    def worker_of(self, vm: Vm) -> WorkerAd | None:
        cloud = self.cloud_of(vm)
        return None if cloud is None else self.worker(cloud, vm.flavor, vm.resources, vm.alias, vm.image)

    def pending_demands(self) -> list[PendingDemand]:
        """The demand with idle jobs, less the jobs that already have a claim.

        A job that is idle in the queue may already hold a claim in the pool: an owner with more claims than running jobs has that
        many jobs starting. With an unreachable queue the claims may belong to its jobs, so they are not subtracted.
        """
        ahead: dict[tuple[str, str], int] = defaultdict(int)
        if not self.coverage.unreachable:
            for vm in self.vms:
                for owner in claim_owners(self.slots.get(vm.id)):
                    ahead[vm.group, owner] += 1
            for each in self.demand:
                ahead[each.group, each.owner] -= each.running
        pending_demands = []
        for each in self.demand:
            if each.idle <= 0:
                continue
            starting = min(each.idle, max(0, ahead[each.group, each.owner]))
            ahead[each.group, each.owner] -= starting
            pending_demands.append(PendingDemand(each, self.matcher.job(each, self.now), each.idle - starting, placed=starting))
        return pending_demands

    def _find_observed_offers(self) -> dict[tuple[CloudKey, str], Resources]:
        """Per flavor, what its workers were observed to have, where that is less than computed: otherwise workers that the jobs do not
        fit on would be booted forever.

        Free disk shrinks while it is used, so disk is rounded down to whole GiB and only considered if it is less than computed.
        """
        seen: dict[tuple[CloudKey, str], Resources] = {}
        computed: dict[tuple[CloudKey, str], Resources] = {}
        for vm in self.vms:
            slot = self.slots.get(vm.id)
            if slot is None or slot.total.cores <= 0 or slot.total.ram_mib <= 0:
                continue
            kind = ((vm.group, vm.cloud), vm.flavor)
            best = seen.get(kind, Resources())
            seen[kind] = Resources(
                max(best.cores, slot.total.cores), max(best.ram_mib, slot.total.ram_mib), max(best.disk_gib, slot.total.disk_gib)
            )
            computed[kind] = offered(vm.resources)
        known = {}
        for kind, best in seen.items():
            usual = computed[kind]
            disk = usual.disk_gib if best.disk_gib >= usual.disk_gib else _rounded(best.disk_gib)
            less = Resources(min(best.cores, usual.cores), min(best.ram_mib, usual.ram_mib), disk)
            if less != usual:
                known[kind] = less
        return known


def _rounded(disk_gib: float) -> float:
    return float(int(disk_gib)) if disk_gib >= 1 else int(disk_gib * 10) / 10


def claim_owners(slot: Slot | None) -> Iterator[str]:
    """Owners of the claims on a worker, as named in the queue: one entry per claim; claims without a known owner are left out."""
    return (owner.split("@")[0] for owner in (slot.owners if slot is not None else ()))


def demand_key(demand: Demand) -> tuple[object, ...]:
    """Sort key that gives demand a total order; it says nothing about priority."""
    return (
        demand.group,
        demand.owner,
        -demand.priority,
        _NO_TIME if demand.waiting_since is None else demand.waiting_since,
        demand.request.cores,
        demand.request.ram_mib,
        demand.request.disk_gib,
        demand.requirements,
        demand.alias or "",
        demand.image or "",
        demand.flavor or "",
        demand.network or "",
        -1 if demand.keep_alive is None else demand.keep_alive,
        tuple(sorted(demand.attributes.items())) if demand.attributes else (),
        demand.idle,
        demand.running,
    )


def project_of(cloud: Cloud) -> ProjectKey:
    """Key of the quota that the cloud draws on; without a project name the cloud has its own quota."""
    return (cloud.keystone, cloud.region, cloud.project) if cloud.project else ("", "", f"{cloud.group}/{cloud.name}")


def usage(vms: Iterable[Vm]) -> Usage:
    count = cores = ram = 0
    for vm in vms:
        count, cores, ram = count + 1, cores + vm.resources.cores, ram + vm.resources.ram_mib
    return Usage(count, cores, ram)


def add_usage(one: Usage, other: Usage) -> Usage:
    return Usage(one.vms + other.vms, one.cores + other.cores, one.ram_mib + other.ram_mib)


def usage_of_server(server: Resources) -> Usage:
    return Usage(1, server.cores, server.ram_mib)
