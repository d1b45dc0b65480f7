"""Reconcile a cloud's listing with the ledger: which server is which VM, which are missing, which are foreign. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace

from ..catalog.snapshot import CloudSpec
from ..domain.model import Cloud, CloudKey, Slot, Usage, Vm, VmState
from ..domain.states import Observation, ServerStatus
from ..drivers.base import META_CLOUD, META_GROUP, META_SCHEDULER, META_VM, Inventory, Listing, Server


@dataclass(frozen=True, slots=True)
class ReconciledListing:
    """The result of matching a listing with the ledger."""

    observations: Mapping[str, Observation]  # ledger id -> observation; MISSING where absence is proven
    orphans: tuple[Server, ...]  # with our ownership tag, but without a row
    foreign: Usage  # servers without our ownership tag
    neighbors: frozenset[CloudKey] = frozenset()  # other clouds of the catalog with servers in the same project


def reconcile_listing(
    key: CloudKey,
    listing: Listing,
    began_at: float,
    vms: Iterable[Vm],
    *,
    scheduler_uuid: str,
    known_clouds: frozenset[CloudKey],
    settled: Set[str],
) -> ReconciledListing:
    """Match the servers of one cloud's project with the rows of the ledger.

    `vms` are the live rows of all clouds, and the closed ones whose id a listed server carries. `settled` are the ids
    whose create call has certainly ended, so that their absence is meaningful.
    """
    rows = list(vms)
    by_server = _owners(key, rows)
    by_id = {vm.id: vm for vm in rows}
    observations: dict[str, Observation] = {}
    orphans: list[Server] = []
    neighbors: set[CloudKey] = set()
    vms_used = cores = ram = 0
    for server in listing.servers:
        tagged = server.metadata.get(META_SCHEDULER) == scheduler_uuid
        vm = by_server.get(server.id)
        if vm is None and tagged:
            named = by_id.get(server.metadata.get(META_VM, ""))
            # A row with another server id is not the row of this server: somebody copied the metadata.
            vm = named if named is not None and named.server_id is None and (named.group, named.cloud) == key else None
        if vm is not None and vm.state is VmState.GONE and (vm.group, vm.cloud) not in known_clouds:
            vm = None  # it reappeared after its cloud was deleted: that row cannot be reopened
        if vm is not None:
            if (vm.group, vm.cloud) == key:
                observations[vm.id] = Observation(server.status, server.id, server.fault, began_at)
            else:
                neighbors.add((vm.group, vm.cloud))
        elif tagged:
            home = (server.metadata.get(META_GROUP, ""), server.metadata.get(META_CLOUD, ""))
            # Clouds of the catalog may share a project: each owns its servers; the first to list an ownerless server adopts it.
            if home == key or home not in known_clouds:
                orphans.append(server)
            else:
                neighbors.add(home)
        elif server.name or server.metadata:  # a bare id (its cell is down) may be one of ours: not counted as foreign
            vms_used += 1
            if server.resources is not None:
                cores += server.resources.cores
                ram += server.resources.ram_mib
    for vm in rows:
        if (vm.group, vm.cloud) == key and vm.state is not VmState.GONE and vm.id not in observations:
            absent = listing.complete and vm.id in settled
            observations[vm.id] = Observation(ServerStatus.MISSING if absent else ServerStatus.UNKNOWN, listing_began_at=began_at)
    return ReconciledListing(observations, tuple(orphans), Usage(vms_used, cores, ram), frozenset(neighbors & known_clouds))


def _owners(key: CloudKey, rows: Iterable[Vm]) -> dict[str, Vm]:
    """The row that owns a server, by server id.

    A server that reappeared may have a closed row and a live one: the live one owns it. Of two live ones that of the cloud itself: the
    other cloud may have answered a create with the id of a server that is not its own.
    """
    ordered = sorted(rows, key=lambda vm: (vm.state is not VmState.GONE, (vm.group, vm.cloud) == key))
    return {vm.server_id: vm for vm in ordered if vm.server_id is not None}


def postpone(
    key: CloudKey, listing: Listing, live: Iterable[Vm], *, scheduler_uuid: str, known_clouds: frozenset[CloudKey], most: int
) -> tuple[Listing, int]:
    """The listing without some of the servers that claim to be ours and have no live row, and their number: at most `most` are left.

    A cloud can make up any number of them, and each costs a row in the database and calls until it is gone. `live` are the live rows of
    all clouds.
    """
    rows = [vm for vm in live if vm.state is not VmState.GONE]
    owned = {vm.server_id for vm in rows if vm.server_id is not None}
    expected = {vm.id for vm in rows if vm.server_id is None and (vm.group, vm.cloud) == key}
    kept: list[Server] = []
    unowned = 0
    for server in listing.servers:
        if server.id in owned or not _claims_to_be_ours(server, key, scheduler_uuid, known_clouds, expected):
            kept.append(server)
            continue
        unowned += 1
        if unowned <= most:
            kept.append(server)
    postponed = max(0, unowned - most)
    return (replace(listing, servers=tuple(kept)), postponed) if postponed else (listing, 0)


def _claims_to_be_ours(server: Server, key: CloudKey, scheduler_uuid: str, known_clouds: frozenset[CloudKey], expected: Set[str]) -> bool:
    """Whether it needs a row of this cloud: an orphan, or the server of a closed row."""
    metadata = server.metadata
    home = (metadata.get(META_GROUP, ""), metadata.get(META_CLOUD, ""))
    ours = metadata.get(META_SCHEDULER) == scheduler_uuid
    return ours and metadata.get(META_VM, "") not in expected and (home == key or home not in known_clouds)


def with_slots(observations: Mapping[str, Observation], vms: Iterable[Vm], slots: Iterable[Slot]) -> dict[str, Observation]:
    """Add the slots of the pool; a VM without an observation of its cloud gets one of the pool only."""
    by_vm = {slot.vm_id: slot for slot in slots if slot.vm_id is not None}
    merged = dict(observations)
    for vm in vms:
        slot = by_vm.get(vm.id)
        if slot is not None:
            merged[vm.id] = replace(merged.get(vm.id, Observation()), slot=slot)
    return merged


@dataclass(frozen=True, slots=True)
class CloudObservation:
    """The observed state of a cloud; it cannot be used while `problem` is not empty, and gets no worker while `excluded` is not.

    `project` is inferred from other clouds in the same project while the cloud itself has not been observed.
    """

    inventory: Inventory | None
    foreign: Usage
    problem: str
    failures: int = 0
    last_failure_at: float | None = None
    project: str = ""
    excluded: str = ""


def planner_cloud(spec: CloudSpec, observation: CloudObservation) -> Cloud:
    """Combine the desired and the observed state of a cloud."""
    inventory = observation.inventory
    problem = spec.problem or observation.problem
    if inventory is None:
        return replace(
            spec.cloud,
            reachable=False,
            unreachable_reason=problem or "not contacted yet",
            project=observation.project,
            failures=observation.failures,
            last_failure_at=observation.last_failure_at,
        )
    return replace(
        spec.cloud,
        reachable=not problem,
        unreachable_reason=problem,
        quota=inventory.quota,
        foreign=observation.foreign,
        flavors=tuple(flavor for flavor in inventory.flavors if flavor.name not in spec.flavor_exclusions),
        images=frozenset(inventory.images),
        networks=inventory.networks,
        project=inventory.project,
        failures=observation.failures,
        last_failure_at=observation.last_failure_at,
        excluded=observation.excluded,
    )
