"""Watching one cloud: a task of its own that lists its servers again and again, so that a slow cloud keeps nobody waiting."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from ...common.breaker import Breaker, BreakerPolicy, BreakerState
from ..catalog.snapshot import CloudWish
from ..domain.model import CloudKey, Usage
from ..drivers.base import CloudDriver, CloudError, ErrorKind, Inventory, Listing
from .metrics import Meters
from .unanswered import UnansweredCreates

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how long, in seconds. `stale` is the age at which a listing no longer allows decisions."""

    cycle: float = 5.0
    listing: float = 5.0
    inventory: float = 60.0
    stale: float = 60.0
    deadline: float = 60.0  # for one look at a cloud, all its calls together
    boots_at_once: int = 5
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)


@dataclass(frozen=True, slots=True)
class Seen:
    """One listing; absence in it is proven for what existed before `began_at`."""

    number: int
    began_at: float
    listing: Listing


class CloudWatch:
    """What is known of one cloud, and its driver. `on_news` is called when the engine should look."""

    def __init__(
        self,
        key: CloudKey,
        wish: CloudWish,
        driver: CloudDriver,
        *,
        pace: Pace,
        clock: Callable[[], float],
        on_news: Callable[[], None],
        meters: Meters,
    ) -> None:
        self.key = key
        self.wish = wish
        self.driver = driver
        self.breaker = Breaker(pace.breaker)
        self.seen: Seen | None = None
        self.inventory: Inventory | None = None
        self.foreign = Usage()
        self.neighbours: frozenset[CloudKey] = frozenset()  # other clouds of the catalogue in the same project
        self.error = ""
        self.refused = False  # the last failure was about the credential: no passing weakness
        self.failures = 0  # servers that failed in a row
        self.last_failure_at: float | None = None
        self.last_failure = ""
        self.unanswered = UnansweredCreates()
        self._inventory_at: float | None = None
        self._inventory_error = ""
        self._pace = pace
        self._clock = clock
        self._on_news = on_news
        self._meters = meters
        self._poke = asyncio.Event()
        self.boots = asyncio.Semaphore(pace.boots_at_once)

    @property
    def label(self) -> str:
        return self.wish.account.label

    def state(self) -> BreakerState:
        return self.breaker.state(self._clock())

    def problem(self) -> str:
        """Why the cloud must not be counted on now; empty when it may."""
        if self.refused or self.state() is not BreakerState.CLOSED:
            return self.breaker.error or self.error or "it does not answer"
        if self.seen is None:
            return self.error or "not asked yet"
        age = self._clock() - self.seen.began_at
        if age > self._pace.stale:
            return self.error or f"its last answer is {age:.0f} s old"
        return self._inventory_error if self.inventory is None or self._inventory_is_old(self._pace.stale * 10) else ""

    def poke(self) -> None:
        """Look at this cloud now rather than at the next beat."""
        self._poke.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._poke.clear()
            if self.breaker.allows(self._clock()):
                before = (self.seen.listing if self.seen else None, self.problem())
                await self.look()
                if (self.seen.listing if self.seen else None, self.problem()) != before:
                    self._on_news()
            wait = max(self.breaker.wait(self._clock()), self._pace.listing * random.uniform(0.9, 1.1))  # noqa: S311 - jitter
            try:
                async with asyncio.timeout(wait):
                    await self._poke.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        """One look; never raises. What is found stays until the next good look."""
        began_at, pending = self._clock(), self.unanswered.pending()
        try:
            async with asyncio.timeout(self._pace.deadline):
                listing = await self.driver.servers()
                self.succeeded()
                for error in self.unanswered.look_succeeded(pending):
                    self.server_failed(error)
                self.seen = Seen((self.seen.number if self.seen else 0) + 1, began_at, listing)
                if self._inventory_is_old(self._pace.inventory):
                    await self._take_inventory()
        except CloudError as error:
            self._look_failed(str(error), refused=error.kind is ErrorKind.AUTH)
        except TimeoutError:
            self._look_failed(f"cloud {self.label}: did not answer within {self._pace.deadline:g} s")
        except Exception as error:
            # A watch that dies would leave its cloud unwatched for ever: what nobody thought of counts as a failure of the cloud.
            log.exception("look_failed", cloud=self.label)
            self._look_failed(f"cloud {self.label}: {type(error).__name__}")
        self._meters.looked(self.label, self._clock() - began_at, ok=not self.error)

    async def _take_inventory(self) -> None:
        try:
            self.inventory = await self.driver.inventory()
            self._inventory_at = self._clock()
            self._inventory_error = ""
        except CloudError as error:
            if str(error) != self._inventory_error:
                log.warning("inventory_failed", cloud=self.label, error=str(error))
            self._inventory_error = str(error)

    def _inventory_is_old(self, age: float) -> bool:
        # Younger than nothing: the clock was set back.
        return self._inventory_at is None or not 0 <= self._clock() - self._inventory_at < age

    def succeeded(self) -> None:
        if self.error:
            log.info("cloud_answers_again", cloud=self.label)
        self.breaker = self.breaker.succeeded()
        self.error, self.refused = "", False

    def failed(self, error: str, *, refused: bool = False) -> None:
        """A call failed in a way that says something of the cloud, not of the request; `refused`: of the credential."""
        if not self.error:
            log.warning("cloud_failed", cloud=self.label, error=error)
        self.breaker = self.breaker.failed(self._clock(), random.random(), error)  # noqa: S311 - spreads retries
        self.error, self.refused = error, refused

    def _look_failed(self, error: str, *, refused: bool = False) -> None:
        self.unanswered.look_failed()
        self.failed(error, refused=refused)

    def server_failed(self, why: str) -> None:
        self.failures += 1
        self.last_failure_at, self.last_failure = self._clock(), why

    def server_lost(self, vm_id: str) -> None:
        """The cloud has no server for a VM that it was perhaps asked for; only a create that it left unanswered counts."""
        if error := self.unanswered.lost(vm_id):
            self.server_failed(error)

    def server_worked(self) -> None:
        self.failures = 0
        self.last_failure_at, self.last_failure = None, ""
