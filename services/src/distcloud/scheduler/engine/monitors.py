"""The monitors of all clouds that are enabled or still have VMs, started and stopped as the catalog changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from ..catalog.snapshot import CatalogSnapshot, CloudSpec
from ..domain.ids import is_vm_id
from ..domain.model import Cloud, CloudKey, Usage, Vm, VmState
from ..domain.states import Observation
from ..drivers.base import META_SCHEDULER, META_VM, Account, CloudDriver, CloudError, Server
from ..store.ledger import Ledger
from .faults import Faults
from .metrics import Meters
from .monitor import CloudMonitor, ObservedListing, Timing
from .reconcile import CloudObservation, ReconciledListing, planner_cloud, postpone, reconcile_listing

_REMOVING = frozenset({VmState.RETIRING, VmState.DELETING})

DriverFactory = Callable[[Account], CloudDriver]


class CloudMonitors:
    """The monitors by cloud. With `start_tasks` false the caller refreshes them (as tests do)."""

    def __init__(
        self,
        make_driver: DriverFactory,
        *,
        timing: Timing,
        clock: Callable[[], float],
        on_change: Callable[[], None],
        meters: Meters,
        faults: Faults,
    ) -> None:
        self._make_driver = make_driver
        self._faults = faults
        self._timing = timing
        self._clock = clock
        self._on_change = on_change
        self._meters = meters
        self._catalog = CatalogSnapshot()
        self._monitors: dict[CloudKey, CloudMonitor] = {}
        self._tasks: dict[CloudKey, asyncio.Task[None]] = {}
        self._problems: dict[CloudKey, str] = {}  # clouds whose driver could not be created
        self._reconciled: dict[CloudKey, int] = {}  # number of the last reconciled listing
        self.start_tasks = False

    def __iter__(self) -> Iterator[CloudMonitor]:
        return iter([*self._monitors.values()])

    def of(self, vm: Vm) -> CloudMonitor | None:
        return self._monitors.get((vm.group, vm.cloud))

    def get(self, key: CloudKey) -> CloudMonitor | None:
        return self._monitors.get(key)

    async def sync(self, catalog: CatalogSnapshot, vms: Iterable[Vm]) -> None:
        """Keep one monitor for every cloud that is enabled or has VMs; a changed account gets a new one."""
        self._catalog, self._problems = catalog, {}
        desired = {key for key, spec in catalog.clouds.items() if spec.cloud.enabled}
        desired |= {(vm.group, vm.cloud) for vm in vms if (vm.group, vm.cloud) in catalog.clouds}
        for key, monitor in [*self._monitors.items()]:
            if key not in desired or _must_recreate(monitor.spec.account, catalog.clouds[key].account):
                await self._stop(key)
            else:
                monitor.change(catalog.clouds[key], catalog.parts_for(key))
        for key in sorted(desired - set(self._monitors)):
            spec = catalog.clouds[key]
            if spec.problem:
                continue
            with self._faults.contain(*key, "making its driver") as contained:
                try:
                    driver = self._make_driver(spec.account)
                except CloudError as error:
                    self._problems[key] = str(error)
                    continue
            if contained.reason:
                self._problems[key] = f"its driver cannot be made: {contained.reason}"
                continue
            monitor = CloudMonitor(
                key, spec, driver, timing=self._timing, clock=self._clock, on_change=self._on_change, meters=self._meters
            )
            monitor.change(spec, catalog.parts_for(key))
            self._monitors[key] = monitor
            if self.start_tasks:
                self._tasks[key] = asyncio.create_task(monitor.run(), name=f"monitor {monitor.label}")

    async def _stop(self, key: CloudKey) -> None:
        monitor, task = self._monitors.pop(key), self._tasks.pop(key, None)
        self._reconciled.pop(key, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        with self._faults.contain(*key, "closing its driver"):
            await monitor.driver.close()

    async def close(self) -> None:
        for key in [*self._monitors]:
            await self._stop(key)

    async def reconcile(
        self, vms: Iterable[Vm], ledger: Ledger, scheduler_uuid: str, settled: Callable[[Vm, float], bool]
    ) -> tuple[dict[str, Observation], dict[CloudKey, tuple[Server, ...]]]:
        """Reconcile new listings with the ledger: the observations of VMs, and our servers without a row. Raises DatabaseError.

        `settled(vm, listing_began_at)`: whether the create call of that VM ended before the listing.
        """
        live = [*vms]
        observations: dict[str, Observation] = {}
        orphans: dict[CloudKey, tuple[Server, ...]] = {}
        for key, monitor in self._monitors.items():
            observed = monitor.observed
            if observed is None or self._reconciled.get(key) == observed.number:
                continue
            with self._faults.contain(*key, "reading its servers"):
                result = await self._reconcile_cloud(key, observed, live, ledger, scheduler_uuid, settled)
                self._reconciled[key] = observed.number
                monitor.foreign, monitor.neighbors = result.foreign, result.neighbors
                observations |= result.observations
                if result.orphans:
                    orphans[key] = result.orphans
        return observations, orphans

    async def _reconcile_cloud(
        self,
        key: CloudKey,
        observed: ObservedListing,
        live: Sequence[Vm],
        ledger: Ledger,
        scheduler_uuid: str,
        settled: Callable[[Vm, float], bool],
    ) -> ReconciledListing:
        monitor, began_at = self._monitors[key], observed.began_at
        known, known_clouds = {vm.id for vm in live}, frozenset(self._catalog.clouds)
        removing = sum(1 for vm in live if (vm.group, vm.cloud) == key and vm.state in _REMOVING)
        listing, monitor.postponed = postpone(
            key,
            observed.listing,
            live,
            scheduler_uuid=scheduler_uuid,
            known_clouds=known_clouds,
            most=max(0, min(self._timing.adoptions, self._timing.removals - removing)),
        )
        ours = (server.metadata for server in listing.servers if server.metadata.get(META_SCHEDULER) == scheduler_uuid)
        tagged = {metadata.get(META_VM, "") for metadata in ours}
        return reconcile_listing(
            key,
            listing,
            began_at,
            [*live, *await ledger.gone_among(vm_id for vm_id in tagged - known if is_vm_id(vm_id))],
            scheduler_uuid=scheduler_uuid,
            known_clouds=known_clouds,
            settled={vm.id for vm in live if settled(vm, began_at)},
        )

    def discovered_projects(self) -> dict[CloudKey, tuple[Account, str]]:
        """Clouds without a stored project: their account and its observed project."""
        monitors = ((monitor, monitor.inventory) for monitor in self if not monitor.spec.account.project)
        return {
            monitor.key: (monitor.spec.account, inventory.project) for monitor, inventory in monitors if inventory and inventory.project
        }

    def clouds(self) -> tuple[Cloud, ...]:
        """The clouds of the catalog with their observed state, for the planner."""
        return tuple(self._planner_cloud(key, spec) for key, spec in self._catalog.clouds.items())

    def _planner_cloud(self, key: CloudKey, spec: CloudSpec) -> Cloud:
        with self._faults.contain(*key, "evaluating its inventory") as contained:
            return planner_cloud(spec, self._facts(key))
        return replace(spec.cloud, reachable=False, unreachable_reason=f"its inventory cannot be evaluated: {contained.reason}")

    def _facts(self, key: CloudKey) -> CloudObservation:
        monitor = self._monitors.get(key)
        if monitor is not None:
            facts = CloudObservation(
                monitor.inventory,
                monitor.foreign,
                monitor.problem(),
                monitor.failures,
                monitor.last_failure_at,
                excluded=monitor.excluded(),
            )
        else:
            facts = CloudObservation(None, Usage(), self._problems.get(key, ""))
        return facts if facts.inventory is not None else replace(facts, project=self._project_from_neighbors(key))

    def _project_from_neighbors(self, key: CloudKey) -> str:
        """The project of a cloud that has not been observed itself; its servers still use the quota of that project."""
        cloud = self._catalog.clouds[key].cloud
        for monitor in self:
            other = monitor.spec.cloud
            # Only a cloud behind the same Keystone can be in the same project; another one may list whatever it likes.
            same = (other.keystone, other.region) == (cloud.keystone, cloud.region)
            if same and monitor.inventory is not None and key in monitor.neighbors:
                return monitor.inventory.project
        return ""


def _must_recreate(old: Account, new: Account) -> bool:
    """Whether the account has changed so that a new monitor is needed; a project that became known is not a change."""
    return old != replace(new, project=old.project) or old.project not in ("", new.project)
