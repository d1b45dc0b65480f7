"""The engine: looks at clouds and pool, brings the ledger up to date, asks the planner, and has its plan carried out.

One cycle never waits for a cloud: every cloud is watched by a task of its own (`observe.CloudWatch`), and orders run as tasks
whose outcome the ledger tells. A cycle that is cut off anywhere leaves nothing that the next one does not find.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from ...common.database import Database
from ...common.locks import Exclusive
from ...common.secretbox import SecretBox, SecretError
from ..catalog.snapshot import Wishes, read_wishes, remember_projects
from ..domain.model import MAX_CLOCK_SKEW, Action, Boot, CloudKey, Delete, PlanInputs, Policy, Reason, Retire, Vm, VmState
from ..domain.records import VmDetail, VmPage, VmTotals
from ..domain.states import Event, Observation
from ..drivers.base import Server
from ..matching.ad_matcher import AdMatcher
from ..matching.matcher import Matcher
from ..planning.planner import plan_from
from ..pool.base import Pool, PoolUnavailable
from ..store.ledger import Ledger, NotWanted
from .metrics import Meters
from .minter_client import Minter, new_drain_key, token_lifetime
from .monitor import Pace
from .monitors import DriverFactory, Watches
from .operations import Actor, WorkerContext
from .reconcile import with_slots
from .status import PoolView, Standing, cloud_status
from .tasks import Orders
from .view import EngineStatus, ExplainInputs, PlanRecord, RetireAnswer

log = structlog.get_logger(__name__)

_CYCLES_UNTIL_STUCK = 12


class EngineLockLost(Exception):
    """Another engine may run on this database now; this one must end at once."""


@dataclass(slots=True)
class _State:
    """What the engine remembers between cycles. Losing it costs nothing but a moment: the ledger and the clouds know the rest."""

    wishes: Wishes = field(default_factory=Wishes)
    pool: PoolView = field(default_factory=PoolView)
    standing: Standing = field(default_factory=lambda: Standing(0.0))
    record: PlanRecord | None = None


class Engine:
    """One scheduler on one database. `cycle` is one turn; `run` turns until told to stop."""

    def __init__(
        self,
        database: Database,
        box: SecretBox,
        pool: Pool,
        minter: Minter,
        make_driver: DriverFactory,
        *,
        worker: WorkerContext,
        policy: Policy | None = None,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        meters: Meters | None = None,
        ad_matcher: AdMatcher | None = None,
    ) -> None:
        self._database = database
        self._box = box
        self._pool = pool
        self._minter = minter
        self._worker = worker
        self._policy = policy or Policy()
        self._pace = pace or Pace()
        self._clock = clock
        self._monotonic = monotonic
        self._chance = chance
        self._meters = meters or Meters()
        self._ledger = Ledger(database, box, self._changed)
        self._matcher = Matcher(domain=worker.domain, condor_host=worker.condor_host, ad_matcher=ad_matcher)
        self._state = _State(standing=Standing(monotonic()))
        self._watches = Watches(make_driver, pace=self._pace, clock=clock, on_news=self.wake, meters=self._meters)
        self._orders = Orders(clock=clock, chance=chance, on_done=self.wake)
        self._news = asyncio.Event()
        self._uuid = ""
        self._actor: Actor | None = None
        self._started_at = clock()
        self._lock: Exclusive | None = None

    async def start(self) -> None:
        """Reads who we are. The database must have been migrated."""
        self._uuid = await self._ledger.scheduler_uuid()
        self._started_at = self._clock()
        self._actor = Actor(
            self._ledger,
            self._pool,
            self._minter,
            scheduler_uuid=self._uuid,
            worker=self._worker,
            policy=self._policy,
            clock=self._clock,
            chance=self._chance,
            meters=self._meters,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Turns until `stop` is set. Waits first until no other engine runs on this database. Raises EngineLockLost."""
        while not stop.is_set():
            async with self._database.exclusive("engine") as lock:
                self._state.standing.beat = self._monotonic()
                if lock is None:
                    self._state.standing.waits_for = "another engine runs on this database; waiting for it to end"
                    log.info("waiting_for_lock")
                    await _first(stop, seconds=self._pace.cycle)
                    continue
                self._lock = lock
                self._watches.begin_tasks = True
                self._state.standing.waits_for = ""
                await self.start()
                log.info("engine_started", scheduler=self._uuid)
                try:
                    await self._turn(stop)
                finally:
                    await self.close()

    async def _turn(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            assert self._lock is not None
            if not await self._lock.held():
                raise EngineLockLost("the engine's lock on the database is lost (its connection broke); restart to take it again")
            self._news.clear()
            try:
                await self.cycle()
            except Exception as error:
                # Also what nobody thought of, whatever a cloud or the pool said: the ledger is as before, and the API tells of it.
                foreseen = self._state.standing.failed(error)
                self._meters.cycle_failed()
                log.error("cycle_failed", error=str(error), exc_info=not foreseen)
            self._state.standing.beat = self._monotonic()
            await _first(stop, self._news, seconds=self._pace.cycle * (0.95 + 0.1 * self._chance()))

    async def cycle(self) -> None:
        """One turn. Raises DatabaseError; failures of clouds, pool and minter are findings, not errors."""
        began, now = time.monotonic(), self._clock()
        state = self._state
        state.wishes = await read_wishes(self._database, self._box)
        pool_answer = asyncio.create_task(self._ask_pool())
        vms = await self._ledger.live()
        await self._watches.keep(state.wishes, vms)
        await pool_answer
        slots = state.pool.slots if state.pool.reachable else ()
        observations, orphans = await self._watches.read(vms, self._ledger, self._uuid, self._settled)
        # An order under way knows more than a listing that may have begun before it.
        observations = {vm_id: seen for vm_id, seen in observations.items() if vm_id not in self._orders}
        await self._bring_up_to_date(with_slots(observations, vms, slots), now)
        for key, server in orphans:
            await self._adopt(key, server, now)
        if unbound := self._watches.unbound():
            await remember_projects(self._database, unbound)  # before anything is booted there
        vms = await self._ledger.live()
        self._forget_creates(vms, now)
        world = self._world(tuple(vms), now)
        if state.pool.reachable:
            # In a thread: it may take a second, in which the API must answer. Nobody changes the world; the matcher is used here alone.
            made = await asyncio.to_thread(plan_from, world, self._matcher)
            failures = [(action, why) for action in made.actions if (why := await self._order(action, vms, now))]
            state.record = PlanRecord(now, world, made, tuple(failures))
        self._show(vms)
        seconds = time.monotonic() - began
        self._meters.cycled(seconds)
        state.standing.cycled(now, seconds, self._monotonic())

    def _world(self, vms: tuple[Vm, ...], now: float) -> PlanInputs:
        pool = self._state.pool
        return PlanInputs(
            pool.demand, pool.slots, vms, self._watches.clouds(), self._state.wishes.groups, self._policy, now, pool.coverage()
        )

    # --- looking

    async def _ask_pool(self) -> None:
        """Demand and slots together; if either lacks, both are unknown: half the truth would boot or retire on ignorance."""
        pool = self._state.pool
        # Neither is cut off when the other fails: a child that is cut off has to be started anew.
        queues, slots = await asyncio.gather(self._pool.demand(), self._pool.slots(), return_exceptions=True)
        for failure in (queues, slots):
            if isinstance(failure, BaseException) and not isinstance(failure, PoolUnavailable):
                raise failure
        if isinstance(queues, BaseException) or isinstance(slots, BaseException):
            # Said once when it begins: the words of a failure often carry the time, and would fill the journal.
            error = str(queues if isinstance(queues, BaseException) else slots)
            if not pool.error:
                log.warning("pool_failed", error=error)
            pool.failed(error)
            return
        if pool.error:
            log.info("pool_answers_again")
        for name in sorted(set(queues.unreachable) - set(pool.unreachable)):
            log.warning("queue_failed", schedd=name, error=queues.unreachable[name])
        for name in sorted(set(pool.unreachable) - set(queues.unreachable)):
            log.info("queue_answers_again", schedd=name)
        pool.answered(queues.demand, queues.unreachable, tuple(slots), self._clock(), self._monotonic())

    def _settled(self, vm: Vm, listing_began_at: float) -> bool:
        """Whether a create of this VM was surely over long enough before the listing began.

        The engine's own start counts too: the call may have been under way when the engine before this one died. It holds for
        servers that answered as well: a cloud may show them late, after their worker is already seen in the pool.
        """
        assert self._actor is not None
        over = max(vm.requested_at, self._started_at, self._actor.create_ended.get(vm.id, 0.0))
        return vm.id not in self._orders and listing_began_at >= over + self._policy.create_settle

    def _forget_creates(self, vms: Sequence[Vm], now: float) -> None:
        assert self._actor is not None
        live = {vm.id for vm in vms}

        def right(at: float) -> float:
            return at if at <= now + MAX_CLOCK_SKEW else now  # the clock was set back

        self._started_at = right(self._started_at)
        self._actor.create_ended = {vm_id: right(at) for vm_id, at in self._actor.create_ended.items() if vm_id in live}
        self._orders.forget(live)
        for watch in self._watches:
            watch.unanswered.forget(live)

    # --- bringing the ledger up to date

    async def _bring_up_to_date(self, observations: Mapping[str, Observation], now: float) -> None:
        assert self._actor is not None
        for before, after in await self._ledger.observe(observations, now, self._policy):
            watch = self._watches.of(after)
            if after.state is before.state:
                continue
            if after.state is VmState.GONE:
                if watch is not None:
                    if before.server_id is None and before.registered_at is None:
                        watch.server_lost(after.id)
                    self._orders.begin(after.id, "farewell", self._actor.farewell(before, observations[after.id], watch))
                continue
            if watch is not None and after.state is VmState.ERROR and before.registered_at is None:
                watch.server_failed(after.reason)
            if before.registered_at is None and after.registered_at is not None:
                self._meters.registered(f"{after.group}/{after.cloud}", after.registered_at - after.requested_at)
                if watch is not None:
                    watch.server_worked()

    def _changed(self, before: Vm | None, after: Vm) -> None:
        """Every change of a VM's state, whoever made it: one line in the log, one count."""
        cloud = f"{after.group}/{after.cloud}"
        was = None if before is None else before.state.value
        log.info("vm_changed", vm=after.id, cloud=cloud, flavor=after.flavor, before=was, after=after.state.value, why=after.reason)
        self._meters.changed(cloud, after.state.value)

    async def _adopt(self, key: CloudKey, server: Server, now: float) -> None:
        wish = self._state.wishes.clouds[key]
        token_expires_at = now + token_lifetime(self._policy)
        try:
            await self._ledger.adopt(
                server, group=key[0], cloud=key[1], region=wish.cloud.region, now=now, token_expires_at=token_expires_at
            )
        except NotWanted as error:
            log.warning("server_not_adopted", error=str(error))

    # --- acting

    async def _order(self, action: Action, vms: Sequence[Vm], now: float) -> str:
        """Begins what was decided; gives why it could not be begun."""
        assert self._actor is not None
        if isinstance(action, Boot):
            return await self._begin_boot(action, now)
        vm = next((vm for vm in vms if vm.id == action.vm_id), None)
        if vm is None or vm.id in self._orders:
            return ""
        reason = f"{action.reason.value}: {action.detail}" if action.detail else action.reason.value
        watch = self._watches.of(vm)
        match action:
            case Retire():
                slot = next((slot for slot in self._state.pool.slots if slot.vm_id == vm.id), None)
                idle = slot is not None and slot.claimed_slots == 0
                self._orders.begin(vm.id, "retire", self._actor.retire(vm, reason, watch, idle=idle))
            case Delete():
                # A build that hangs, or a worker that never joins, is as good as none; one in state ERROR was counted when it failed.
                hung = action.reason is Reason.BUILD_FAILED and vm.state is VmState.STARTING
                failed = hung or action.reason is Reason.NEVER_REGISTERED
                self._orders.begin(vm.id, "delete", self._actor.delete(vm, reason, watch, failed=failed))
        return ""

    async def _begin_boot(self, boot: Boot, now: float) -> str:
        assert self._actor is not None
        watch = self._watches.get((boot.group, boot.cloud))
        if watch is None:
            return f"cloud {boot.group}/{boot.cloud}: not watched"
        if not self._actor.minter_breaker.allows(now):
            return f"no boot on {boot.group}/{boot.cloud}: {self._actor.minter_breaker.error}"
        key = new_drain_key()
        try:
            vm = await self._ledger.request(
                boot, region=watch.wish.cloud.region, now=now, token_expires_at=now + token_lifetime(self._policy), drain_key=key
            )
        except (SecretError, NotWanted) as error:
            return str(error)
        self._orders.begin(vm.id, "boot", self._actor.boot(vm, key, watch, self._state.wishes))
        return ""

    async def settle(self) -> None:
        """Waits for all orders under way."""
        await self._orders.settle()

    async def close(self) -> None:
        """Ends orders and watches; whatever they had begun is found again."""
        await self._orders.close()
        await self._watches.close()
        self._lock = None

    # --- EngineView

    def wake(self) -> None:
        self._news.set()

    def status(self) -> EngineStatus:
        state, now = self._state, self._clock()
        standing = state.standing
        stuck = standing.stuck(self._monotonic(), max(60.0, _CYCLES_UNTIL_STUCK * self._pace.cycle))
        problem = standing.problem(stuck)
        minter = self._actor.minter_breaker.error if self._actor is not None else ""
        clouds = {(cloud.group, cloud.name): cloud for cloud in self._watches.clouds()}
        return EngineStatus(
            scheduler_uuid=self._uuid,
            started_at=self._started_at,
            cycle=standing.cycles,
            last_cycle_at=standing.last_at,
            last_cycle_seconds=standing.last_seconds,
            last_cycle_age=None if standing.last_beat is None else self._monotonic() - standing.last_beat,
            healthy=not problem,
            problem=problem,
            stuck=stuck,
            database=standing.database,
            minter=minter,
            pool=state.pool.status(),
            clouds=tuple(cloud_status(clouds[key], self._watches.get(key), standing.vms, now, self._policy) for key in sorted(clouds)),
            vms=dict(sum((Counter(counts) for counts in standing.vms.values()), Counter[str]())),
        )

    def last_plan(self) -> PlanRecord | None:
        return self._state.record

    async def vms(
        self,
        *,
        states: Sequence[VmState] | None = None,
        groups: Sequence[str] | None = None,
        cloud: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> VmPage:
        return await self._ledger.page(states=states, groups=groups, cloud=cloud, limit=limit, cursor=cursor)

    async def totals(self, groups: Sequence[str] | None = None) -> tuple[VmTotals, ...]:
        return await self._ledger.totals(groups)

    async def vm(self, vm_id: str) -> VmDetail | None:
        return await self._ledger.detail(vm_id)

    async def retire(self, vm_id: str, who: str) -> RetireAnswer:
        before, after = await self._ledger.order(vm_id, Event.RETIRE_REQUESTED, self._clock(), reason=f"{Reason.ORDERED.value}: by {who}")
        self.wake()
        return RetireAnswer(before.state is not after.state, before.state, after.state)

    async def explain_inputs(self, job: str) -> ExplainInputs:
        found = await self._pool.job(job)
        world = self._world(tuple(await self._ledger.live()), self._clock())
        if found is None:
            return ExplainInputs(job, found=False, status=None, demand=None, world=world)
        return ExplainInputs(found.id, True, found.status, found.demand, world, found.hold_reason, found.universe)

    def _show(self, vms: Sequence[Vm]) -> None:
        """What pages and metrics tell of this moment."""
        state = self._state
        state.standing.vms = {}
        for vm in vms:
            state.standing.vms.setdefault((vm.group, vm.cloud), Counter())[vm.state.value] += 1
        self._meters.saw(
            state.standing.vms,
            state.pool.demand,
            pool_reachable=state.pool.reachable,
            clouds_reachable={watch.label: not watch.problem() for watch in self._watches},
        )


async def _first(*events: asyncio.Event, seconds: float) -> None:
    """Waits until one of the events is set, at most `seconds`."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
