"""The HTCondor pool: queries in child processes that can be killed, actions by HTCondor's commands, IDTOKENS only.

The scheduler has no ADMINISTRATOR authorization on the central manager. A worker accepts a drain because the token is signed with a
key that was created for this VM, and that only this VM trusts.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...common.control.breaker import Breaker, BreakerPolicy
from ...common.control.supervise import ChildError, Finished, JsonChild, run_command
from ...common.logs import get_logger
from ..domain.ids import is_vm_id
from ..domain.model import Resources, Slot
from .base import PoolUnavailable, QueuedJob, Queues
from .demand import demand_from_row, demand_from_rows, universe_of

_JOB_ID = re.compile(r"(?:([^#]+)#)?(\d{1,9})(?:\.(\d{1,9}))?")
# An unreachable queue is queried again soon, but not in every cycle: waiting for it would slow the others down.
_RETRY_POLICY = BreakerPolicy(min_delay=5.0, max_delay=30.0)
# On the central manager FS would take precedence, and its user name is not the identity that the pool authorizes.
_METHODS = {"_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS"}
_DRAIN_TOKEN_SECONDS = 600
_MAX_UNREADABLE = 1000

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PoolAddress:
    """Address of the pool; `schedds` are the names of the queues in the collector.

    `token_directory` holds the scheduler's own tokens (0700, files 0600); `scratch` is a private folder for temporary files of a
    drain; `environment` is added to the environment of HTCondor's tools."""

    collector: str
    schedds: tuple[str, ...]
    domain: str
    token_directory: Path
    scratch: Path | None = None
    scheduler_user: str = "scheduler"
    python: str = sys.executable
    environment: Mapping[str, str] | None = None


class HtcondorPool:
    """One HTCondor pool with its queues. `seconds` is the timeout of every query and command."""

    def __init__(self, address: PoolAddress, *, seconds: float = 20.0) -> None:
        self._address = address
        self._seconds = seconds
        self._environment = {
            **(address.environment or {}),
            **_METHODS,
            "_CONDOR_SEC_TOKEN_DIRECTORY": str(address.token_directory),
        }
        command = [address.python, "-m", "distcloud.scheduler.pool.child"]
        # One child per daemon, so that a schedd that hangs blocks neither the other schedds nor the collector.
        self._queues = {name: _Queue(JsonChild(f"schedd {name}", command, self._environment)) for name in address.schedds}
        self._unreadable: set[str] = set()  # machines whose slots were logged
        self._collector = JsonChild(f"collector {address.collector}", command, self._environment)

    async def demand(self) -> Queues:
        answers = await asyncio.gather(*(self._demand_of(name) for name in self._queues), return_exceptions=True)
        rows: list[Any] = []
        unreachable: dict[str, str] = {}
        for name, answer in zip(self._queues, answers, strict=True):
            if isinstance(answer, PoolUnavailable):
                unreachable[name] = str(answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                rows += answer
        if len(unreachable) == len(self._queues):
            raise PoolUnavailable("; ".join(unreachable.values()))
        # Converting thousands of rows with long requirements takes a while.
        return Queues(tuple(await asyncio.to_thread(demand_from_rows, rows)), unreachable)

    async def _demand_of(self, name: str) -> list[Any]:
        queue, now = self._queues[name], time.monotonic()
        if not queue.breaker.allows(now):
            raise PoolUnavailable(queue.breaker.error)
        try:
            rows: list[Any] = await self._ask(queue.child, {"ask": "demand", "schedd": name})
        except PoolUnavailable as error:
            queue.breaker = queue.breaker.failed(time.monotonic(), random.random(), str(error))  # noqa: S311 - spreads retries
            raise
        queue.breaker = queue.breaker.succeeded()
        return rows

    async def slots(self) -> list[Slot]:
        rows = await self._ask(self._collector, {"ask": "slots"})
        found = (self._slot(row) for row in rows)
        return [slot for slot in found if slot is not None]

    def _slot(self, row: Any) -> Slot | None:
        try:
            return slot_of(row, self._address.domain)
        except Exception:  # a worker's ad is untrusted, and must not hide those of others
            machine = str(row.get("Machine")) if isinstance(row, Mapping) else ""
            if machine not in self._unreadable:
                log.exception("slot_unreadable", machine=machine[:255])
                self._unreadable = {*self._unreadable, machine} if len(self._unreadable) < _MAX_UNREADABLE else {machine}
            return None

    async def job(self, job_id: str) -> QueuedJob | None:
        match = _JOB_ID.fullmatch(job_id)
        if match is None:
            return None
        cluster, process = int(match.group(2)), int(match.group(3) or 0)
        names = [name for name in self._queues if match.group(1) in (None, name)]
        question = {"ask": "job", "cluster": cluster, "process": process}
        asked = (self._ask(self._queues[name].child, {**question, "schedd": name}) for name in names)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for name, row in zip(names, answers, strict=True):
            if isinstance(row, Mapping):
                found = f"{cluster}.{process}" if len(self._queues) == 1 else f"{name}#{cluster}.{process}"
                return QueuedJob(
                    found, int(row.get("JobStatus") or 0), demand_from_row(row), str(row.get("HoldReason") or ""), universe_of(row)
                )
        for failure in answers:
            if isinstance(failure, BaseException):
                raise failure  # the job may be in the queue that did not answer
        return None

    async def drain(self, vm_id: str, key: str) -> None:
        if not is_vm_id(vm_id):
            raise ValueError(f"{vm_id!r} is not a ledger id")
        with tempfile.TemporaryDirectory(prefix="drain-", dir=self._address.scratch) as name:  # mode 0700
            folder = _DrainFolder(Path(name), self._address.token_directory)
            folder.write_key(vm_id, key)
            made = await self._command(
                [
                    *("condor_token_create", "-key", vm_id, "-lifetime", str(_DRAIN_TOKEN_SECONDS)),
                    *("-identity", f"{self._address.scheduler_user}@{self._address.domain}", "-authz", "ADMINISTRATOR"),
                ],
                {"_CONDOR_SEC_PASSWORD_DIRECTORY": str(folder.keys)},
            )
            folder.write_tokens(made.output.strip())
            await self._command(
                ["condor_drain", "-pool", self._address.collector, "-exit-on-completion", f"{vm_id}.{self._address.domain}"],
                {"_CONDOR_SEC_TOKEN_DIRECTORY": str(folder.tokens)},
            )

    async def invalidate(self, vm_id: str) -> None:
        if not is_vm_id(vm_id):
            raise ValueError(f"{vm_id!r} is not a ledger id")
        # Only the slots, because they would still be matched. Removing the master's ad as well would need ADVERTISE_MASTER, with which
        # the scheduler could hide every daemon of the pool; nothing is matched with that ad, and it expires by itself.
        # Without TARGET: with it the expression matches nothing.
        query = f'MyType = "Query"\nTargetType = "Machine"\nRequirements = Machine == "{vm_id}.{self._address.domain}"\n'
        with tempfile.NamedTemporaryFile("w", prefix="invalidate-", dir=self._address.scratch) as file:
            file.write(query)
            file.flush()
            await self._command(["condor_advertise", "-pool", self._address.collector, "-tcp", "INVALIDATE_STARTD_ADS", file.name], {})

    async def close(self) -> None:
        for queue in self._queues.values():
            await queue.child.close()
        await self._collector.close()

    async def _ask(self, child: JsonChild, question: Mapping[str, Any]) -> Any:
        try:
            return await child.ask({"collector": self._address.collector, **question}, self._seconds)
        except ChildError as error:
            raise PoolUnavailable(f"HTCondor: {error}") from error

    async def _command(self, command: list[str], environment: Mapping[str, str]) -> Finished:
        program = shutil.which(command[0])
        if program is None:
            raise PoolUnavailable(f"HTCondor: {command[0]} is not installed")
        try:
            done = await run_command([program, *command[1:]], seconds=self._seconds, environment={**self._environment, **environment})
        except ChildError as error:
            raise PoolUnavailable(f"HTCondor: {error}") from error
        if done.code != 0:
            output = " ".join((done.errors or done.output).split())[:300]
            raise PoolUnavailable(f"HTCondor: {command[0]} failed ({done.code}): {output}")
        return done


@dataclass(slots=True)
class _Queue:
    """One schedd: the child that queries it, and its circuit breaker."""

    child: JsonChild
    breaker: Breaker = field(default_factory=lambda: Breaker(_RETRY_POLICY))


def slot_of(row: Mapping[str, Any], domain: str) -> Slot | None:
    """The planner's view of a partitionable slot; None for an ad without a machine.

    The ledger id is taken from the machine name, which the collector binds to the worker's identity; `vm_id` is None unless the ad's
    own DistcloudVm agrees.
    """
    machine = row.get("Machine")
    if not isinstance(machine, str):
        return None
    host, _, rest = machine.partition(".")
    ours = is_vm_id(host) and rest == domain and row.get("DistcloudVm") == host
    states = row.get("ChildState")
    claimed = row.get("NumDynamicSlots")
    if isinstance(states, list):  # an unclaimed dynamic slot is about to be merged back: no job runs in it
        claimed = sum(1 for state in states if state in ("Claimed", "Preempting", "Matched"))
    owners = row.get("ChildRemoteOwner") or row.get("ChildRemoteUser")
    return Slot(
        machine=machine,
        vm_id=host if ours else None,
        total=_resources(row, "TotalSlot"),
        free=_resources(row, ""),
        claimed_slots=claimed if isinstance(claimed, int) else 0,
        draining=row.get("Draining") is True or row.get("State") == "Drained",
        last_heard=_finite(row.get("LastHeardFrom")),
        owners=tuple(sorted(str(owner) for owner in owners if owner)) if isinstance(owners, list) else (),
    )


def _resources(row: Mapping[str, Any], prefix: str) -> Resources:
    cores, memory, disk = (_finite(row.get(prefix + name)) for name in ("Cpus", "Memory", "Disk"))
    return Resources(int(cores), int(memory), disk / 1024 / 1024)


def _finite(value: object) -> float:
    """A number of an ad; 0 for anything else, and for what no float can hold."""
    try:
        return value if isinstance(value, int | float) and math.isfinite(value) else 0
    except OverflowError:
        return 0


class _DrainFolder:
    """A private folder with one VM's key, and the tokens that authorize its drain."""

    def __init__(self, folder: Path, own_tokens: Path) -> None:
        self.keys, self.tokens, self._own = folder / "keys", folder / "tokens", own_tokens

    def write_key(self, vm_id: str, key: str) -> None:
        self.keys.mkdir(0o700)
        _write_private(self.keys / vm_id, key)

    def write_tokens(self, token: str) -> None:
        self.tokens.mkdir(0o700)
        _write_private(self.tokens / "drain", token + "\n")
        # The collector, which is asked for the worker's address, accepts only the scheduler's own tokens.
        for own in self._own.iterdir():
            if own.is_file():
                _write_private(self.tokens / f"own-{own.name}", own.read_text(encoding="ascii"))


def _write_private(path: Path, text: str) -> None:
    path.touch(0o600)
    path.write_text(text, encoding="ascii")
