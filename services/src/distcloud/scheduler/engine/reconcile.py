"""What a cloud's listing means for the ledger: which server is which VM, who is lost, who is a stranger. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace

from ..catalog.snapshot import CloudWish
from ..domain.model import Cloud, CloudKey, Slot, Usage, Vm, VmState
from ..domain.states import Observation, ServerStatus
from ..drivers.base import META_CLOUD, META_GROUP, META_SCHEDULER, META_VM, Inventory, Listing, Server


@dataclass(frozen=True, slots=True)
class Reading:
    """A listing read against the ledger."""

    observations: Mapping[str, Observation]  # ledger id -> what was seen; MISSING where absence is proven
    orphans: tuple[Server, ...]  # ours, and no row knows them
    foreign: Usage  # servers without our mark
    neighbours: frozenset[CloudKey] = frozenset()  # other clouds of the catalogue with servers in the same project


def read_listing(
    key: CloudKey,
    listing: Listing,
    began_at: float,
    vms: Iterable[Vm],
    *,
    scheduler_uuid: str,
    known_clouds: frozenset[CloudKey],
    settled: Set[str],
) -> Reading:
    """Match the servers of one cloud's project with the rows of the ledger.

    `vms` are the live rows of all clouds, and the closed ones whose id a listed server carries. `settled` are the ids
    whose create can no longer be on its way, so that their absence means something.
    """
    rows = list(vms)
    # A server that came back may have a closed row and a live one: the live one, which is put in later, looks after it.
    by_server = {vm.server_id: vm for vm in sorted(rows, key=lambda vm: vm.state is not VmState.GONE) if vm.server_id is not None}
    by_id = {vm.id: vm for vm in rows}
    observations: dict[str, Observation] = {}
    orphans: list[Server] = []
    neighbours: set[CloudKey] = set()
    vms_used = cores = ram = 0
    for server in listing.servers:
        ours = server.metadata.get(META_SCHEDULER) == scheduler_uuid
        vm = by_server.get(server.id)
        if vm is None and ours:
            named = by_id.get(server.metadata.get(META_VM, ""))
            # A row that knows another server by id is not this one's: somebody copied the metadata.
            vm = named if named is not None and named.server_id is None and (named.group, named.cloud) == key else None
        if vm is not None and vm.state is VmState.GONE and (vm.group, vm.cloud) not in known_clouds:
            vm = None  # it came back, and its cloud was deleted meanwhile: nobody opens that row again
        if vm is not None:
            if (vm.group, vm.cloud) == key:
                observations[vm.id] = Observation(server.status, server.id, server.fault, began_at)
            else:
                neighbours.add((vm.group, vm.cloud))
        elif ours:
            home = (server.metadata.get(META_GROUP, ""), server.metadata.get(META_CLOUD, ""))
            # Two clouds of the catalogue may share a project: each looks after its own; nobody's go to who sees them first.
            if home == key or home not in known_clouds:
                orphans.append(server)
            else:
                neighbours.add(home)
        elif server.name or server.metadata:  # a bare id (its cell is down) may be one of ours: not a stranger
            vms_used += 1
            if server.resources is not None:
                cores += server.resources.cores
                ram += server.resources.ram_mib
    for vm in rows:
        if (vm.group, vm.cloud) == key and vm.state is not VmState.GONE and vm.id not in observations:
            absent = listing.whole and vm.id in settled
            observations[vm.id] = Observation(ServerStatus.MISSING if absent else ServerStatus.UNKNOWN, listing_began_at=began_at)
    return Reading(observations, tuple(orphans), Usage(vms_used, cores, ram), frozenset(neighbours & known_clouds))


def with_slots(observations: Mapping[str, Observation], vms: Iterable[Vm], slots: Iterable[Slot]) -> dict[str, Observation]:
    """Adds what the pool shows; VMs whose cloud was not heard get an observation of the pool alone."""
    by_vm = {slot.vm_id: slot for slot in slots if slot.vm_id is not None}
    seen = dict(observations)
    for vm in vms:
        slot = by_vm.get(vm.id)
        if slot is not None:
            seen[vm.id] = replace(seen.get(vm.id, Observation()), slot=slot)
    return seen


@dataclass(frozen=True, slots=True)
class CloudFacts:
    """What is known of a cloud at one moment; `problem` non-empty means that it must not be counted on.

    `project` is what others in the same project tell while the cloud itself has not.
    """

    inventory: Inventory | None
    foreign: Usage
    problem: str
    failures: int = 0
    last_failure_at: float | None = None
    project: str = ""


def cloud_as_planned(wish: CloudWish, facts: CloudFacts) -> Cloud:
    """The catalogue's cloud with what was observed there."""
    inventory = facts.inventory
    problem = wish.problem or facts.problem
    if inventory is None:
        return replace(
            wish.cloud,
            reachable=False,
            unreachable_reason=problem or "not asked yet",
            project=facts.project,
            failures=facts.failures,
            last_failure_at=facts.last_failure_at,
        )
    return replace(
        wish.cloud,
        reachable=not problem,
        unreachable_reason=problem,
        quota=inventory.quota,
        foreign=facts.foreign,
        flavors=tuple(flavor for flavor in inventory.flavors if flavor.name not in wish.flavor_exclusions),
        images=frozenset(inventory.images),
        networks=inventory.networks,
        project=inventory.project,
        failures=facts.failures,
        last_failure_at=facts.last_failure_at,
    )
