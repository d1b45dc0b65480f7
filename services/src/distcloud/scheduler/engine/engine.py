"""The engine: observes clouds and pool, updates the ledger, runs the planner and starts the actions of its plan.

A cycle never waits for a cloud: each cloud has its own monitor task (`monitor.CloudMonitor`), and actions run as tasks whose
outcome is recorded in the ledger. A cycle may be interrupted anywhere; the next one continues from the ledger.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...common.control.loop import ControlLoop
from ...common.control.tasks import KeyedTasks
from ...common.logs import get_logger
from ...common.secretbox import SecretBox, SecretError
from ...common.storage.database import Database
from ..catalog.snapshot import CatalogSnapshot, load_catalog, record_projects
from ..domain.model import MAX_CLOCK_SKEW, Action, Boot, CloudKey, Delete, PlanInputs, Policy, Reason, Retire, Vm, VmState
from ..domain.records import VmDetail, VmPage, VmTotals
from ..domain.states import Event, Observation
from ..drivers.base import Server
from ..matching.ad_matcher import AdMatcher
from ..matching.bindings import MatchingUnavailable
from ..matching.matcher import Matcher
from ..planning.bulkhead import Bulkhead
from ..pool.base import Pool, PoolUnavailable
from ..store.ledger import Ledger, RequestRejected
from ..worker.renderer import InProcessRenderer, PartRenderer
from .faults import NOT_CONTAINED, Faults
from .metrics import Meters
from .minter_client import Minter, new_drain_key, token_lifetime
from .monitor import Timing
from .monitors import CloudMonitors, DriverFactory
from .operations import Operations, WorkerContext
from .reconcile import with_slots
from .status import PoolView, cloud_status
from .view import EngineStatus, ExplainInputs, PlanRecord, RetireResult

log = get_logger(__name__)


@dataclass(slots=True)
class _State:
    """What the engine keeps between cycles. All of it can be rebuilt from the ledger and the clouds."""

    catalog: CatalogSnapshot = field(default_factory=CatalogSnapshot)
    pool: PoolView = field(default_factory=PoolView)
    vms: dict[CloudKey, Counter[str]] = field(default_factory=dict)  # live VMs by state
    record: PlanRecord | None = None


class Engine:
    """One scheduler on one database. `cycle` runs one cycle; `run` repeats cycles until it is stopped."""

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
        timing: Timing | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        meters: Meters | None = None,
        ad_matcher: AdMatcher | None = None,
        renderer: PartRenderer | None = None,
    ) -> None:
        """`ad_matcher` and `renderer` process untrusted input, by default in this process."""
        self._database = database
        self._box = box
        self._pool = pool
        self._minter = minter
        self._worker = worker
        self._policy = policy or Policy()
        self._timing = timing or Timing()
        self._clock = clock
        self._monotonic = monotonic
        self._jitter = jitter
        self._meters = meters or Meters()
        self._ledger = Ledger(database, box, self._log_change)
        self._matcher = Matcher(domain=worker.domain, condor_host=worker.condor_host, ad_matcher=ad_matcher)
        self._renderer = renderer or InProcessRenderer()
        self._state = _State()
        self._faults = Faults()
        self._bulkhead = Bulkhead()
        self._monitors = CloudMonitors(
            make_driver, timing=self._timing, clock=clock, on_change=self.wake, meters=self._meters, faults=self._faults
        )
        self._tasks = KeyedTasks(clock=clock, jitter=jitter, on_done=self.wake)
        self._uuid = ""
        self._operations: Operations | None = None
        self._started_at = clock()
        self._loop = ControlLoop(
            database,
            self._cycle,
            start=self._lead,
            close=self.close,
            seconds=self._timing.cycle,
            expected=(MatchingUnavailable,),
            metrics=self._meters.loop,
            clock=clock,
            monotonic=monotonic,
            jitter=jitter,
        )

    async def start(self) -> None:
        """Load the scheduler's identity. The database must have been migrated."""
        self._uuid = await self._ledger.scheduler_uuid()
        self._started_at = self._clock()
        self._operations = Operations(
            self._ledger,
            self._pool,
            self._minter,
            self._renderer,
            scheduler_uuid=self._uuid,
            worker=self._worker,
            policy=self._policy,
            clock=self._clock,
            jitter=self._jitter,
            meters=self._meters,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run cycles until `stop` is set, after waiting until no other engine uses this database. Raises LockLost."""
        await self._loop.run(stop)

    async def _lead(self) -> None:
        self._monitors.start_tasks = True
        await self.start()
        log.info("engine_started", scheduler=self._uuid)

    async def cycle(self) -> None:
        """Run one cycle. Raises DatabaseError; failures of clouds, pool and minter are observations, not errors."""
        await self._loop.run_cycle()

    async def _cycle(self) -> None:
        now = self._clock()
        state = self._state
        self._faults.begin_cycle()
        state.catalog = await load_catalog(self._database, self._box)
        pool_query = asyncio.create_task(self._query_pool())
        vms = await self._ledger.live()
        await self._monitors.sync(state.catalog, vms)
        await pool_query
        slots = state.pool.slots if state.pool.reachable else ()
        observations, orphans = await self._monitors.reconcile(vms, self._ledger, self._uuid, self._create_settled)
        # A running task has newer information than a listing that may have started before it.
        observations = {vm_id: seen for vm_id, seen in observations.items() if vm_id not in self._tasks}
        await self._observe_vms(with_slots(observations, vms, slots), vms, now)
        for key, servers in orphans.items():
            await self._adopt_all(key, servers, now)
        excluded = await self._record_projects()  # before anything is booted there
        vms = await self._ledger.live()
        self._prune_creates(vms, now)
        world = self._world(tuple(vms), now)
        if excluded:
            clouds = (replace(cloud, excluded=excluded.get((cloud.group, cloud.name), cloud.excluded)) for cloud in world.clouds)
            world = replace(world, clouds=tuple(clouds))
        if state.pool.reachable:
            # In a thread: planning may take a second, and the API must respond. PlanInputs is immutable; only planning uses this matcher.
            contained = await asyncio.to_thread(self._bulkhead.plan, world, self._matcher)
            self._faults.record(contained.exclusions, contained.error)
            plan = contained.plan
            by_id = {vm.id: vm for vm in vms}
            failures = [(action, why) for action in plan.actions if (why := await self._start_contained(action, by_id, now))]
            state.record = PlanRecord(now, world, plan, tuple(failures))
        self._publish(vms)
        self._faults.end_cycle()

    def _world(self, vms: tuple[Vm, ...], now: float) -> PlanInputs:
        pool = self._state.pool
        return PlanInputs(
            pool.demand, pool.slots, vms, self._monitors.clouds(), self._state.catalog.groups, self._policy, now, pool.coverage()
        )

    # --- observing

    async def _query_pool(self) -> None:
        """Query demand and slots together. If either fails, both are unknown: acting on only one would boot or retire wrongly."""
        pool = self._state.pool
        # Neither is cancelled when the other fails: a cancelled subprocess would have to be restarted.
        queues, slots = await asyncio.gather(self._pool.demand(), self._pool.slots(), return_exceptions=True)
        for failure in (queues, slots):
            if isinstance(failure, BaseException) and not isinstance(failure, PoolUnavailable):
                raise failure
        if isinstance(queues, BaseException) or isinstance(slots, BaseException):
            # Logged only when the failure starts: its text often contains the time and would fill the journal.
            error = str(queues if isinstance(queues, BaseException) else slots)
            if not pool.error:
                log.warning("pool_failed", error=error)
            pool.failed(error)
            return
        if pool.error:
            log.info("pool_answers_again")
        for name in sorted(set(queues.unreachable) - set(pool.unreachable_queues)):
            log.warning("queue_failed", schedd=name, error=queues.unreachable[name])
        for name in sorted(set(pool.unreachable_queues) - set(queues.unreachable)):
            log.info("queue_answers_again", schedd=name)
        pool.answered(queues.demand, queues.unreachable, tuple(slots), self._clock(), self._monotonic())

    def _create_settled(self, vm: Vm, listing_began_at: float) -> bool:
        """Whether the create call of this VM ended long enough before the listing began.

        The engine's start counts too: the call may have been running when the previous engine died. This also applies to creates
        that succeeded: a cloud may list a server late, even after its worker has appeared in the pool.
        """
        assert self._operations is not None
        over = max(vm.requested_at, self._started_at, self._operations.create_ended.get(vm.id, 0.0))
        return vm.id not in self._tasks and listing_began_at >= over + self._policy.create_settle

    def _prune_creates(self, vms: Sequence[Vm], now: float) -> None:
        assert self._operations is not None
        live = {vm.id for vm in vms}

        def clamp(at: float) -> float:
            return at if at <= now + MAX_CLOCK_SKEW else now  # later: the clock was set back

        self._started_at = clamp(self._started_at)
        self._operations.create_ended = {vm_id: clamp(at) for vm_id, at in self._operations.create_ended.items() if vm_id in live}
        self._tasks.forget(live)
        for monitor in self._monitors:
            monitor.unanswered.forget(live)

    # --- updating the ledger

    async def _record_projects(self) -> dict[CloudKey, str]:
        """Bind new clouds to their projects; returns those for which that failed, where nothing may be booted yet, and why."""
        failed: dict[CloudKey, str] = {}
        for key, project in self._monitors.discovered_projects().items():
            with self._faults.contain(*key, "recording its project") as contained:
                await record_projects(self._database, {key: project})
            if contained.reason:
                failed[key] = f"its project cannot be recorded: {contained.reason}"
        return failed

    async def _observe_vms(self, observations: Mapping[str, Observation], vms: Iterable[Vm], now: float) -> None:
        """Apply the observations together or, if that fails, VM by VM."""
        try:
            await self._apply_observations(observations, now)
        except NOT_CONTAINED:
            raise
        except Exception:
            known = {vm.id: vm for vm in vms}
            for vm_id, seen in observations.items():
                vm = known.get(vm_id)
                group, cloud = (vm.group, vm.cloud) if vm is not None else ("", None)
                with self._faults.contain(group, cloud, f"updating {vm_id}"):
                    await self._apply_observations({vm_id: seen}, now)

    async def _apply_observations(self, observations: Mapping[str, Observation], now: float) -> None:
        assert self._operations is not None
        for before, after in await self._ledger.apply_observations(observations, now, self._policy):
            monitor = self._monitors.of(after)
            if after.state is before.state:
                continue
            if after.state is VmState.GONE:
                if monitor is not None:
                    if before.server_id is None and before.registered_at is None:
                        monitor.server_lost(after.id)
                    self._tasks.start(after.id, "deregister", self._operations.deregister(before, observations[after.id], monitor))
                continue
            if monitor is not None and after.state is VmState.ERROR and before.registered_at is None:
                monitor.server_failed(after.reason)
            if before.registered_at is None and after.registered_at is not None:
                self._meters.vm_registered(f"{after.group}/{after.cloud}", after.registered_at - after.requested_at)
                if monitor is not None:
                    monitor.server_worked()

    def _log_change(self, before: Vm | None, after: Vm) -> None:
        """Log and count every change of a VM's state."""
        cloud = f"{after.group}/{after.cloud}"
        was = None if before is None else before.state.value
        log.info("vm_changed", vm=after.id, cloud=cloud, flavor=after.flavor, before=was, after=after.state.value, why=after.reason)
        self._meters.vm_state_changed(cloud, after.state.value)

    async def _adopt_all(self, key: CloudKey, servers: Sequence[Server], now: float) -> None:
        """Adopt the servers together or, if that fails, one by one."""
        try:
            await self._adopt(key, servers, now)
        except NOT_CONTAINED:
            raise
        except Exception:
            for server in servers:
                with self._faults.contain(*key, f"adopting server {server.id}"):
                    await self._adopt(key, [server], now)

    async def _adopt(self, key: CloudKey, servers: Sequence[Server], now: float) -> None:
        spec = self._state.catalog.clouds[key]
        token_expires_at = now + token_lifetime(self._policy)
        _, refusals = await self._ledger.adopt(
            servers, group=key[0], cloud=key[1], region=spec.cloud.region, now=now, token_expires_at=token_expires_at
        )
        for refusal in refusals:
            log.warning("server_not_adopted", error=refusal)

    # --- starting actions

    async def _start_contained(self, action: Action, vms: Mapping[str, Vm], now: float) -> str:
        vm = None if isinstance(action, Boot) else vms.get(action.vm_id)
        group, cloud = (action.group, action.cloud) if isinstance(action, Boot) else (vm.group, vm.cloud) if vm is not None else ("", None)
        subject = "starting a worker" if isinstance(action, Boot) else f"removing {action.vm_id}"
        with self._faults.contain(group, cloud, subject) as contained:
            return await self._start_action(action, vms, now)
        return f"{subject} on {group}/{cloud} failed: {contained.reason}"

    async def _start_action(self, action: Action, vms: Mapping[str, Vm], now: float) -> str:
        """Start a planned action; returns why it could not be started, or an empty string."""
        assert self._operations is not None
        if isinstance(action, Boot):
            return await self._start_boot(action, now)
        vm = vms.get(action.vm_id)
        if vm is None or vm.id in self._tasks:
            return ""
        reason = f"{action.reason.value}: {action.detail}" if action.detail else action.reason.value
        monitor = self._monitors.of(vm)
        match action:
            case Retire():
                slot = next((slot for slot in self._state.pool.slots if slot.vm_id == vm.id), None)
                idle = slot is not None and slot.claimed_slots == 0
                self._tasks.start(vm.id, "retire", self._operations.retire(vm, reason, monitor, idle=idle))
            case Delete():
                # A hanging build or a worker that never joins counts as a failed server; state ERROR was counted when the server failed.
                hung = action.reason is Reason.BUILD_FAILED and vm.state is VmState.STARTING
                failed = hung or action.reason is Reason.NEVER_REGISTERED
                self._tasks.start(vm.id, "delete", self._operations.delete(vm, reason, monitor, failed=failed))
        return ""

    async def _start_boot(self, boot: Boot, now: float) -> str:
        assert self._operations is not None
        monitor = self._monitors.get((boot.group, boot.cloud))
        if monitor is None:
            return f"no boot on {boot.group}/{boot.cloud}: the cloud is not monitored"
        if not self._operations.minter_breaker.allows(now):
            return f"no boot on {boot.group}/{boot.cloud}: {self._operations.minter_breaker.error}"
        key = new_drain_key()
        try:
            vm = await self._ledger.request(
                boot, region=monitor.spec.cloud.region, now=now, token_expires_at=now + token_lifetime(self._policy), drain_key=key
            )
        except (SecretError, RequestRejected) as error:
            return str(error)
        self._tasks.start(vm.id, "boot", self._operations.boot(vm, key, monitor, self._state.catalog))
        return ""

    async def wait_idle(self) -> None:
        """Wait for all running tasks."""
        await self._tasks.wait_idle()

    async def close(self, lost: bool = False) -> None:
        """Stop tasks and monitors; the next start continues from the ledger."""
        await self._tasks.close(at_once=lost)
        await self._monitors.close()

    # --- EngineView

    def wake(self) -> None:
        self._loop.wake()

    def status(self) -> EngineStatus:
        state, now = self._state, self._clock()
        loop, problem = self._loop.status, self._loop.problem()
        minter = self._operations.minter_breaker.error if self._operations is not None else ""
        clouds = {(cloud.group, cloud.name): cloud for cloud in self._monitors.clouds()}
        return EngineStatus(
            scheduler_uuid=self._uuid,
            started_at=self._started_at,
            cycle=loop.cycles,
            last_cycle_at=loop.last_at,
            last_cycle_seconds=loop.last_seconds,
            last_cycle_age=self._loop.last_cycle_age(),
            healthy=not problem,
            problem=problem,
            stuck=self._loop.stuck(),
            database=loop.database,
            minter=minter,
            pool=state.pool.status(),
            clouds=tuple(cloud_status(clouds[key], self._monitors.get(key), state.vms, now, self._policy) for key in sorted(clouds)),
            vms=dict(sum((Counter(counts) for counts in state.vms.values()), Counter[str]())),
            exclusions=self._faults.current(),
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

    async def retire(self, vm_id: str, who: str) -> RetireResult:
        before, after = await self._ledger.apply_event(
            vm_id, Event.RETIRE_REQUESTED, self._clock(), reason=f"{Reason.ORDERED.value}: by {who}"
        )
        self.wake()
        return RetireResult(before.state is not after.state, before.state, after.state)

    async def explain_inputs(self, job: str) -> ExplainInputs:
        found = await self._pool.job(job)
        world = self._world(tuple(await self._ledger.live()), self._clock())
        if found is None:
            return ExplainInputs(job, found=False, status=None, demand=None, world=world)
        return ExplainInputs(found.id, True, found.status, found.demand, world, found.hold_reason, found.universe)

    def _publish(self, vms: Sequence[Vm]) -> None:
        """Update the status and the metrics."""
        state = self._state
        state.vms = {}
        for vm in vms:
            state.vms.setdefault((vm.group, vm.cloud), Counter())[vm.state.value] += 1
        self._meters.update_gauges(
            state.vms,
            state.pool.demand,
            pool_reachable=state.pool.reachable,
            clouds_reachable={monitor.label: not monitor.problem() for monitor in self._monitors},
        )
