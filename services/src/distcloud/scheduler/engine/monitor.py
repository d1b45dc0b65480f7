"""Monitors one cloud in its own task, which lists the servers repeatedly, so that a slow cloud delays no other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from ...common.control.breaker import Breaker, BreakerPolicy, BreakerState
from ...common.logs import get_logger
from ..catalog.snapshot import CloudSpec
from ..domain.model import CloudKey, Usage
from ..drivers.base import CloudDriver, CloudError, ErrorKind, Inventory, Listing
from ..worker.parts import MetadataPart
from .metrics import Meters
from .unanswered import UnansweredCreates

log = get_logger(__name__)

# A part that cannot be rendered for one worker cannot be rendered for the next one either, until somebody changes it.
_CONFIGURATION_POLICY = BreakerPolicy(threshold=1, min_delay=30.0, max_delay=900.0)


@dataclass(frozen=True, slots=True)
class Timing:
    """Intervals and time limits in seconds. A listing older than `stale` is not used for decisions."""

    cycle: float = 5.0
    listing: float = 5.0
    inventory: float = 60.0
    stale: float = 60.0
    deadline: float = 60.0  # for one refresh, all its calls together
    boots_at_once: int = 5
    adoptions: int = 50  # of one listing; the next one brings more
    removals: int = 200  # VMs of one cloud that may be retiring or being deleted when a server is adopted, to be deleted as well
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)


@dataclass(frozen=True, slots=True)
class ObservedListing:
    """One listing. It proves the absence of servers only if they were created before `began_at`."""

    number: int
    began_at: float
    listing: Listing


class CloudMonitor:
    """The observed state of one cloud, and its driver. `on_change` is called when the engine should run a cycle."""

    def __init__(
        self,
        key: CloudKey,
        spec: CloudSpec,
        driver: CloudDriver,
        *,
        timing: Timing,
        clock: Callable[[], float],
        on_change: Callable[[], None],
        meters: Meters,
    ) -> None:
        self.key = key
        self.spec = spec
        self.parts: tuple[MetadataPart, ...] = ()
        self.driver = driver
        self.breaker = Breaker(timing.breaker)
        self.observed: ObservedListing | None = None
        self.inventory: Inventory | None = None
        self.foreign = Usage()
        self.neighbors: frozenset[CloudKey] = frozenset()  # other clouds of the catalog in the same project
        self.postponed = 0  # servers with our ownership tag in the last listing that are to be adopted later
        self.error = ""
        self.refused = False  # the last failure was a refused credential, which is not transient
        self.failures = 0  # consecutive failed servers
        self.last_failure_at: float | None = None
        self.last_failure = ""
        self.configuration = Breaker(_CONFIGURATION_POLICY)  # rendering of the workers' configuration
        self.unanswered = UnansweredCreates()
        self._inventory_at: float | None = None
        self._inventory_error = ""
        self._timing = timing
        self._clock = clock
        self._on_change = on_change
        self._meters = meters
        self._refresh_requested = asyncio.Event()
        self.boots = asyncio.Semaphore(timing.boots_at_once)

    @property
    def label(self) -> str:
        return self.spec.account.label

    def state(self) -> BreakerState:
        return self.breaker.state(self._clock())

    def problem(self) -> str:
        """Why the cloud cannot be used now; empty if it can."""
        if self.refused or self.state() is not BreakerState.CLOSED:
            return self.breaker.error or self.error or "it does not answer"
        if self.observed is None:
            return self.error or "not contacted yet"
        age = self._clock() - self.observed.began_at
        if age > self._timing.stale:
            return self.error or f"its last listing is {age:.0f} s old"
        return self._inventory_error if self.inventory is None or self._inventory_stale(self._timing.stale * 10) else ""

    def request_refresh(self) -> None:
        """Refresh now instead of at the next interval."""
        self._refresh_requested.set()

    async def run(self) -> None:
        """Refresh periodically until cancelled."""
        while True:
            self._refresh_requested.clear()
            if self.breaker.allows(self._clock()):
                before = (self.observed.listing if self.observed else None, self.problem())
                await self.refresh()
                if (self.observed.listing if self.observed else None, self.problem()) != before:
                    self._on_change()
            wait = max(self.breaker.wait(self._clock()), self._timing.listing * random.uniform(0.9, 1.1))  # noqa: S311 - jitter
            try:
                async with asyncio.timeout(wait):
                    await self._refresh_requested.wait()
            except TimeoutError:
                continue

    async def refresh(self) -> None:
        """List the cloud once; never raises. The result is kept until the next successful refresh."""
        began_at, pending = self._clock(), self.unanswered.pending()
        try:
            async with asyncio.timeout(self._timing.deadline):
                listing = await self.driver.servers()
                self.succeeded()
                for error in self.unanswered.listing_succeeded(pending):
                    self.server_failed(error)
                self.observed = ObservedListing((self.observed.number if self.observed else 0) + 1, began_at, listing)
                if self._inventory_stale(self._timing.inventory):
                    await self._refresh_inventory()
        except CloudError as error:
            self._listing_failed(str(error), refused=error.kind is ErrorKind.AUTH)
        except TimeoutError:
            self._listing_failed(f"cloud {self.label}: did not answer within {self._timing.deadline:g} s")
        except Exception as error:
            # An unexpected error must not end the monitor: it counts as a failure of the cloud.
            log.exception("refresh_failed", cloud=self.label)
            self._listing_failed(f"cloud {self.label}: {type(error).__name__}")
        self._meters.listing_completed(self.label, self._clock() - began_at, ok=not self.error)

    async def _refresh_inventory(self) -> None:
        try:
            self.inventory = await self.driver.inventory()
            self._inventory_at = self._clock()
            self._inventory_error = ""
        except CloudError as error:
            if str(error) != self._inventory_error:
                log.warning("inventory_failed", cloud=self.label, error=str(error))
            self._inventory_error = str(error)

    def _inventory_stale(self, age: float) -> bool:
        # A negative age means that the clock was set back.
        return self._inventory_at is None or not 0 <= self._clock() - self._inventory_at < age

    def succeeded(self) -> None:
        if self.error:
            log.info("cloud_answers_again", cloud=self.label)
        self.breaker = self.breaker.succeeded()
        self.error, self.refused = "", False

    def failed(self, error: str, *, refused: bool = False) -> None:
        """Record a failed call that shows a problem of the cloud, not of the request; `refused`: of its credential."""
        if not self.error:
            log.warning("cloud_failed", cloud=self.label, error=error)
        self.breaker = self.breaker.failed(self._clock(), random.random(), error)  # noqa: S311 - spreads retries
        self.error, self.refused = error, refused

    def _listing_failed(self, error: str, *, refused: bool = False) -> None:
        self.unanswered.listing_failed()
        self.failed(error, refused=refused)

    def server_failed(self, why: str) -> None:
        self.failures += 1
        self.last_failure_at, self.last_failure = self._clock(), why

    def server_lost(self, vm_id: str) -> None:
        """Record that the cloud has no server for a VM. It counts as a failure only if the create call was not answered."""
        if error := self.unanswered.lost(vm_id):
            self.server_failed(error)

    def configuration_failed(self, why: str) -> None:
        """Record that a worker's configuration could not be rendered; several workers at once count as one failure."""
        if self.configuration.allows(self._clock()):
            log.warning("configuration_failed", cloud=self.label, error=why)
            self.configuration = self.configuration.failed(self._clock(), random.random(), why)  # noqa: S311 - spreads retries

    def configuration_rendered(self) -> None:
        self.configuration = self.configuration.succeeded()

    def excluded(self) -> str:
        """Why nothing may be booted now although the cloud is usable; empty if it may."""
        return "" if self.configuration.allows(self._clock()) else self.configuration.error

    def change(self, spec: CloudSpec, parts: tuple[MetadataPart, ...]) -> None:
        """Use a new spec and new metadata parts; what failed with the old ones is tried again at once."""
        if (spec, parts) != (self.spec, self.parts):
            self.configuration_rendered()
        self.spec, self.parts = spec, parts

    def server_worked(self) -> None:
        self.failures = 0
        self.last_failure_at, self.last_failure = None, ""
