"""A simulation for the planner: clouds that build servers, a pool that assigns jobs, and a simulated clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from random import Random

from distcloud.scheduler.domain.model import Boot, Cloud, Delete, Demand, Group, Plan, Policy, Resources, Retire, Slot, Vm, VmState
from distcloud.scheduler.domain.states import Event, Observation, ServerStatus, advance, apply_event
from distcloud.scheduler.matching.matcher import Matcher
from distcloud.scheduler.planning.planner import plan
from distcloud.scheduler.worker.offer import offered

CYCLE = 5.0
BUILD = 15.0
JOIN = 40.0
NEGOTIATION = 20.0
NEVER = float("inf")


@dataclass
class SimulatedJob:
    number: int
    kind: Demand
    length: float
    submitted: float
    started: float | None = None
    ended: float | None = None
    on: str | None = None


@dataclass
class SimulatedServer:
    vm_id: str
    asked: float
    builds: bool = True  # false: ends in ERROR
    joins: bool = True
    dies: float = NEVER  # the guest stops sending updates
    drained: bool = False


@dataclass
class Simulation:
    """`faults` from 0 to 1: fraction of creates that are refused, lost, fail, never join or die."""

    clouds: list[Cloud]
    groups: list[Group]
    jobs: list[SimulatedJob]
    policy: Policy = field(default_factory=Policy)
    seed: int = 0
    faults: float = 0.0
    now: float = 1_000_000.0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.matcher = Matcher()
        self.vms: dict[str, Vm] = {}
        self.servers: dict[str, SimulatedServer] = {}
        self.history: list[tuple[float, Plan]] = []
        self.booted = 0
        self._negotiated = 0.0

    def step(self) -> Plan:
        """One cycle: advance the clock, observe, plan, apply the plan."""
        self.now += CYCLE
        self._jobs_end()
        if self.now - self._negotiated >= NEGOTIATION:
            self._negotiated = self.now
            self._negotiate()
        slots = {slot.vm_id: slot for slot in self.slots()}
        for vm_id, vm in list(self.vms.items()):
            if vm.state is not VmState.GONE or vm_id in self.servers:
                self.vms[vm_id] = advance(vm, self._observe(vm_id, slots.get(vm_id)), self.now, self.policy)
        result = plan(self.demand(), self.slots(), self.living(), self.clouds, self.groups, self.policy, self.now, matcher=self.matcher)
        self.history.append((self.now, result))
        for action in result.actions:
            self._apply(action)
        return result

    def living(self) -> list[Vm]:
        return [vm for vm in self.vms.values() if vm.state is not VmState.GONE]

    def demand(self) -> list[Demand]:
        rows: dict[tuple[object, ...], list[SimulatedJob]] = {}
        for job in self.jobs:
            if job.submitted <= self.now and job.ended is None:
                rows.setdefault((job.kind.owner, job.kind.requirements, job.kind.request, job.kind.group, job.kind.alias), []).append(job)
        return [
            replace(
                jobs[0].kind,
                idle=sum(1 for job in jobs if job.on is None),
                running=sum(1 for job in jobs if job.on is not None),
                waiting_since=min(job.submitted for job in jobs),
            )
            for jobs in rows.values()
        ]

    def slots(self) -> list[Slot]:
        shown = []
        for server in self.servers.values():
            if not self._up(server):
                continue
            running = self._running(server.vm_id)
            if server.drained and not running:
                continue  # it has left the pool
            vm = self.vms[server.vm_id]
            total = offered(vm.resources)
            free = total
            for job in running:
                free = free - job.kind.request
            last_update = min(self.now, server.dies)
            if self.now - last_update < 900:
                owners = tuple(f"{job.kind.owner}@distcloud.lab" for job in running)
                shown.append(Slot(f"{vm.id}.lab", vm.id, total, free, len(running), server.drained, last_update, owners))
        return shown

    def servers_on(self, cloud: str) -> list[SimulatedServer]:
        return [server for server in self.servers.values() if self.vms[server.vm_id].cloud == cloud]

    def done(self) -> bool:
        return all(job.ended is not None for job in self.jobs) and not self.servers and not self.living()

    def _up(self, server: SimulatedServer) -> bool:
        return server.builds and server.joins and self.now >= server.asked + BUILD + JOIN

    def _running(self, vm_id: str) -> list[SimulatedJob]:
        return [job for job in self.jobs if job.on == vm_id and job.ended is None]

    def _jobs_end(self) -> None:
        for job in self.jobs:
            if job.on is None or job.ended is not None:
                continue
            server = self.servers.get(job.on)
            if server is None or server.dies < self.now:
                job.on, job.started = None, None  # lost with its worker: idle again
            elif job.started is not None and self.now >= job.started + job.length:
                job.ended = self.now

    def _negotiate(self) -> None:
        for slot in self.slots():
            assert slot.vm_id is not None
            if slot.draining or self.servers[slot.vm_id].dies < self.now:
                continue
            vm, free = self.vms[slot.vm_id], slot.free
            cloud = next(cloud for cloud in self.clouds if (cloud.group, cloud.name) == (vm.group, vm.cloud))
            flavor = next(flavor for flavor in cloud.flavors if flavor.name == vm.flavor)
            for job in self.jobs:
                waits = job.submitted <= self.now and job.on is None and job.ended is None
                if waits and job.kind.request.fits_in(free) and self.matcher.match(job.kind, cloud, flavor, vm.alias, vm.image).ok:
                    job.on, job.started, free = vm.id, self.now, free - job.kind.request

    def _observe(self, vm_id: str, slot: Slot | None) -> Observation:
        server = self.servers.get(vm_id)
        if server is None:
            return Observation(ServerStatus.MISSING, None, "", self.now, slot)
        if self.now < server.asked + BUILD:
            return Observation(ServerStatus.BUILD, f"id-{vm_id}", "", self.now, slot)
        if not server.builds:
            return Observation(ServerStatus.ERROR, f"id-{vm_id}", "No valid host was found", self.now, slot)
        return Observation(ServerStatus.ACTIVE, f"id-{vm_id}", "", self.now, slot)

    def _apply(self, action: Boot | Retire | Delete) -> None:
        if isinstance(action, Boot):
            self._boot(action)
            return
        vm = self.vms[action.vm_id]
        if isinstance(action, Retire):
            vm = apply_event(vm, Event.RETIRE_REQUESTED, self.now, reason=action.reason.value)
            self.vms[vm.id] = replace(vm, drain_requested_at=self.now)
            if vm.id in self.servers:
                self.servers[vm.id].drained = True
            return
        vm = apply_event(vm, Event.DELETE_REQUESTED, self.now, reason=action.reason.value)
        self.vms[vm.id] = replace(vm, delete_requested_at=self.now)
        if self.random.random() >= self.faults / 2:  # otherwise the request was lost
            self.servers.pop(vm.id, None)

    def _boot(self, boot: Boot) -> None:
        self.booted += 1
        vm_id = f"vm-{self.booted:016d}"
        vm = Vm(
            vm_id,
            boot.group,
            boot.cloud,
            boot.flavor,
            boot.image,
            boot.resources,
            VmState.REQUESTED,
            self.now,
            self.now,
            alias=boot.alias,
            keep_alive=boot.keep_alive,
        )
        self.vms[vm_id] = vm
        luck = self.random.random() / self.faults if self.faults else 9.0
        if luck < 0.2:  # refused
            self.vms[vm_id] = apply_event(vm, Event.CREATE_REFUSED, self.now)
            return
        if luck < 0.4:  # the request never arrived
            return
        self.servers[vm_id] = server = SimulatedServer(vm_id, self.now)
        if luck < 0.5:  # created, but the response was lost
            return
        if luck < 0.7:
            server.builds = False
        elif luck < 0.85:
            server.joins = False
        elif luck < 1.0:
            server.dies = self.now + 300.0
        self.vms[vm_id] = apply_event(vm, Event.CREATE_ANSWERED, self.now, server_id=f"id-{vm_id}")


def jobs(count: int, length: float = 60.0, submitted: float = 1_000_000.0, **changes: object) -> list[SimulatedJob]:
    """Single-core jobs without special requirements."""
    from .strategies import demand

    return [SimulatedJob(number, demand(1, **changes), length, submitted) for number in range(count)]


def total(vms: Iterable[Vm]) -> Resources:
    amount = Resources()
    for vm in vms:
        amount = amount + vm.resources
    return amount
