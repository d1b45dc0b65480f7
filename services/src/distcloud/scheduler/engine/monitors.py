"""The watches of all clouds: one for each that may be booted on or still has VMs, begun and ended as the catalogue changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from ..catalog.snapshot import Wishes
from ..domain.model import Cloud, CloudKey, Usage, Vm
from ..domain.states import Observation
from ..drivers.base import META_VM, Account, CloudDriver, CloudError, Server
from ..store.ledger import Ledger
from .metrics import Meters
from .monitor import CloudWatch, Pace
from .reconcile import CloudFacts, cloud_as_planned, read_listing

DriverFactory = Callable[[Account], CloudDriver]


class Watches:
    """What is known of every cloud. `begin_tasks` false leaves looking to the caller (tests turn by hand)."""

    def __init__(
        self, make_driver: DriverFactory, *, pace: Pace, clock: Callable[[], float], on_news: Callable[[], None], meters: Meters
    ) -> None:
        self._make_driver = make_driver
        self._pace = pace
        self._clock = clock
        self._on_news = on_news
        self._meters = meters
        self._wishes = Wishes()
        self._watches: dict[CloudKey, CloudWatch] = {}
        self._tasks: dict[CloudKey, asyncio.Task[None]] = {}
        self._problems: dict[CloudKey, str] = {}  # clouds that no driver could be made for
        self._read: dict[CloudKey, int] = {}  # number of the last listing that was read
        self.begin_tasks = False

    def __iter__(self) -> Iterator[CloudWatch]:
        return iter([*self._watches.values()])

    def of(self, vm: Vm) -> CloudWatch | None:
        return self._watches.get((vm.group, vm.cloud))

    def get(self, key: CloudKey) -> CloudWatch | None:
        return self._watches.get(key)

    async def keep(self, wishes: Wishes, vms: Iterable[Vm]) -> None:
        """A watch for every enabled cloud and every one with VMs; a changed account gets a new one."""
        self._wishes, self._problems = wishes, {}
        wanted = {key for key, wish in wishes.clouds.items() if wish.cloud.enabled}
        wanted |= {(vm.group, vm.cloud) for vm in vms if (vm.group, vm.cloud) in wishes.clouds}
        for key, watch in [*self._watches.items()]:
            if key not in wanted or _is_another(watch.wish.account, wishes.clouds[key].account):
                await self._end(key)
            else:
                watch.wish = wishes.clouds[key]
        for key in sorted(wanted - set(self._watches)):
            wish = wishes.clouds[key]
            if wish.problem:
                continue
            try:
                driver = self._make_driver(wish.account)
            except CloudError as error:
                self._problems[key] = str(error)
                continue
            watch = CloudWatch(key, wish, driver, pace=self._pace, clock=self._clock, on_news=self._on_news, meters=self._meters)
            self._watches[key] = watch
            if self.begin_tasks:
                self._tasks[key] = asyncio.create_task(watch.run(), name=f"watch {watch.label}")

    async def _end(self, key: CloudKey) -> None:
        watch, task = self._watches.pop(key), self._tasks.pop(key, None)
        self._read.pop(key, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await watch.driver.close()

    async def close(self) -> None:
        for key in [*self._watches]:
            await self._end(key)

    async def read(
        self, vms: Iterable[Vm], ledger: Ledger, scheduler_uuid: str, settled: Callable[[Vm, float], bool]
    ) -> tuple[dict[str, Observation], list[tuple[CloudKey, Server]]]:
        """What listings that were not read yet say of VMs, and the servers of ours without a row. Raises DatabaseError.

        `settled(vm, listing_began_at)`: whether that VM's create was surely over before the listing.
        """
        live = [*vms]
        known = {vm.id for vm in live}
        observations: dict[str, Observation] = {}
        orphans: list[tuple[CloudKey, Server]] = []
        for key, watch in self._watches.items():
            seen = watch.seen
            if seen is None or self._read.get(key) == seen.number:
                continue
            marked = {server.metadata.get(META_VM, "") for server in seen.listing.servers} - {""} - known
            began_at = seen.began_at
            reading = read_listing(
                key,
                seen.listing,
                began_at,
                [*live, *await ledger.gone_among(marked)],
                scheduler_uuid=scheduler_uuid,
                known_clouds=frozenset(self._wishes.clouds),
                settled={vm.id for vm in live if settled(vm, began_at)},
            )
            self._read[key] = seen.number
            watch.foreign, watch.neighbours = reading.foreign, reading.neighbours
            observations |= reading.observations
            orphans += [(key, server) for server in reading.orphans]
        return observations, orphans

    def unbound(self) -> dict[CloudKey, tuple[Account, str]]:
        """Clouds of which no project is remembered yet: the account, and the project that it was seen in."""
        watches = ((watch, watch.inventory) for watch in self if not watch.wish.account.project)
        return {watch.key: (watch.wish.account, inventory.project) for watch, inventory in watches if inventory and inventory.project}

    def clouds(self) -> tuple[Cloud, ...]:
        """The clouds of the catalogue as the planner shall see them."""
        return tuple(cloud_as_planned(wish, self._facts(key)) for key, wish in self._wishes.clouds.items())

    def _facts(self, key: CloudKey) -> CloudFacts:
        watch = self._watches.get(key)
        if watch is not None:
            facts = CloudFacts(watch.inventory, watch.foreign, watch.problem(), watch.failures, watch.last_failure_at)
        else:
            facts = CloudFacts(None, Usage(), self._problems.get(key, ""))
        return facts if facts.inventory is not None else replace(facts, project=self._project_by_neighbours(key))

    def _project_by_neighbours(self, key: CloudKey) -> str:
        """The project of a cloud that has not told it itself: its servers use up the same quota all the same."""
        found = (watch.inventory.project for watch in self if watch.inventory is not None and key in watch.neighbours)
        return next(found, "")


def _is_another(old: Account, new: Account) -> bool:
    """Whether the cloud has to be watched anew; that its project was learned meanwhile is no reason."""
    return old != replace(new, project=old.project) or old.project not in ("", new.project)
