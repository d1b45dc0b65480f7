"""Carrying out what was decided: each order in steps that may be cut off anywhere and are then done again, or found done.

The order of steps is the point. A boot writes its row before the cloud is asked. A farewell (out of the pool, identity
refused) is said before a row is closed, so that a closed row owes nobody anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from ...common.breaker import Breaker
from ...common.secretbox import SecretError
from ..catalog.snapshot import Wishes
from ..domain.model import Policy, Vm, VmState
from ..domain.states import Event, Observation
from ..drivers.base import META_CLOUD, META_GROUP, META_SCHEDULER, META_VM, CloudError, ErrorKind, ServerRequest
from ..pool.base import Pool, PoolUnavailable
from ..store.ledger import Ledger
from ..worker.configuration import SettingsError, settings_for
from ..worker.user_data import UserDataError, render
from .metrics import Meters
from .minter_client import Minter, MinterUnavailable, token_lifetime
from .monitor import CloudWatch

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What every worker is told about its pool."""

    domain: str
    condor_host: str
    central_address: str | None = None


class Actor:
    """Orders to clouds, pool and minter. No method raises for what the outside does: the ledger tells how far things came."""

    def __init__(
        self,
        ledger: Ledger,
        pool: Pool,
        minter: Minter,
        *,
        scheduler_uuid: str,
        worker: WorkerContext,
        policy: Policy,
        clock: Callable[[], float],
        chance: Callable[[], float],
        meters: Meters,
    ) -> None:
        self._ledger = ledger
        self._pool = pool
        self._minter = minter
        self._uuid = scheduler_uuid
        self._worker = worker
        self._policy = policy
        self._clock = clock
        self._chance = chance
        self._meters = meters
        self.minter_breaker = Breaker()
        self.create_ended: dict[str, float] = {}  # when the create call of a VM ended, with or without an answer

    async def boot(self, vm: Vm, drain_key: str, watch: CloudWatch, wishes: Wishes) -> str:
        """Asks the cloud for the server of a row that is already written. Gives what went wrong, or nothing."""
        try:
            async with watch.boots:
                return await self._boot(vm, drain_key, watch, wishes)
        finally:
            self.create_ended[vm.id] = self._clock()

    async def _boot(self, vm: Vm, drain_key: str, watch: CloudWatch, wishes: Wishes) -> str:
        try:
            token = await self._minter.mint(vm.id, token_lifetime(self._policy))
            self.minter_breaker = self.minter_breaker.succeeded()
            request = self._request(vm, drain_key, token, watch, wishes)
        except MinterUnavailable as error:
            self.minter_breaker = self.minter_breaker.failed(self._clock(), self._chance(), str(error))
            return await self._refused(vm, str(error), reason="the cloud was not asked")
        except (UserDataError, SettingsError) as error:
            why = f"its configuration cannot be made: {error}"
            watch.server_failed(why)
            return await self._refused(vm, why, reason="the cloud was not asked")
        failed_looks = watch.unanswered.failed_looks
        try:
            server_id = await watch.driver.create(request)
        except CloudError as error:
            if error.kind in (ErrorKind.UNREACHABLE, ErrorKind.AUTH):
                watch.failed(str(error))
            if error.kind is ErrorKind.UNREACHABLE:
                watch.unanswered.add(vm.id, str(error), undone=error.undone, failed_looks=failed_looks)
            else:
                watch.server_failed(str(error))
            if not error.undone:
                self._note("create", vm, "unanswered", str(error))
                return str(error)
            if not await self._say_farewell(vm):
                return str(error)  # the next listing closes the row
            return await self._refused(vm, str(error))
        await self._ledger.order(vm.id, Event.CREATE_ANSWERED, self._clock(), server_id=server_id)
        self._note("create", vm, "done", server=server_id)
        watch.poke()
        return ""

    def _request(self, vm: Vm, drain_key: str, token: str, watch: CloudWatch, wishes: Wishes) -> ServerRequest:
        settings = settings_for(
            vm,
            watch.wish.cloud,
            domain=self._worker.domain,
            condor_host=self._worker.condor_host,
            central_address=self._worker.central_address,
            policy=self._policy,
            group_keep_alive=next((group.keep_alive for group in wishes.groups if group.name == vm.group), 0),
        )
        return ServerRequest(
            vm_id=vm.id,
            flavor=vm.flavor,
            image=vm.image,
            user_data=render(settings, wishes.parts_for(watch.key), token=token, drain_key=drain_key),
            metadata={META_SCHEDULER: self._uuid, META_VM: vm.id, META_GROUP: vm.group, META_CLOUD: vm.cloud},
            network=vm.network,
        )

    async def _refused(self, vm: Vm, error: str, *, reason: str = "") -> str:
        await self._ledger.order(vm.id, Event.CREATE_REFUSED, self._clock(), reason=reason, detail=error)
        self._note("create", vm, "refused", error)
        return error

    async def retire(self, vm: Vm, reason: str, watch: CloudWatch | None, *, idle: bool) -> str:
        """Lets it finish its jobs. The state comes first, so that a crash before the drain is seen and the drain repeated.

        `idle`: the pool shows it without a job, so that one that cannot be told to drain may go at once.
        """
        _, after = await self._ledger.order(vm.id, Event.RETIRE_REQUESTED, self._clock(), reason=reason)
        if after.state is not VmState.RETIRING:
            return ""
        try:
            key = await self._ledger.drain_key(vm.id)
            if key is None:
                # Nobody holds its key: it leaves when it is seen without a job, or at the end of the drain's patience.
                return await self.delete(after, f"{after.reason}; idle, and cannot be told to drain", watch) if idle else ""
            await self._pool.drain(vm.id, key)
        except (PoolUnavailable, SecretError) as error:
            self._note("drain", vm, "failed", str(error))
            return str(error)
        await self._ledger.stamp(vm.id, drain_requested_at=self._clock())
        self._note("drain", vm, "done")
        return ""

    async def delete(self, vm: Vm, reason: str, watch: CloudWatch | None, *, failed: bool = False) -> str:
        """Gives the server back. Asked again until a listing lacks it; `farewell` then closes the row.

        `failed`: it never became a worker, which counts against its cloud, once: with the change of its state.
        """
        before, after = await self._ledger.order(vm.id, Event.DELETE_REQUESTED, self._clock(), reason=reason)
        if failed and watch is not None and before.state is not after.state:
            watch.server_failed(reason)
        if after.state is not VmState.DELETING:
            return ""
        if watch is None:
            return f"VM {vm.id}: its cloud {vm.group}/{vm.cloud} is not in the catalogue any more; put it back to have the VM deleted"
        if after.server_id is not None:
            try:
                await watch.driver.delete(after.server_id)
            except CloudError as error:
                if error.kind is ErrorKind.UNREACHABLE:
                    watch.failed(str(error))
                self._note("delete", vm, "failed", str(error))
                return str(error)
        await self._ledger.stamp(vm.id, delete_requested_at=self._clock())
        self._note("delete", vm, "done")
        watch.poke()
        return ""

    async def farewell(self, vm: Vm, seen: Observation, watch: CloudWatch) -> str:
        """The cloud no longer has it: take its ads out of the pool, refuse its identity, then close the row."""
        if vm.server_id is not None:
            try:
                await watch.driver.sweep(vm.server_id)
            except CloudError as error:
                # A port left behind costs an address; a row left open would cost a repeated farewell for ever.
                self._note("sweep", vm, "failed", str(error))
        if not await self._say_farewell(vm):
            return f"VM {vm.id}: its farewell is not said yet"
        closed = await self._ledger.observe({vm.id: seen}, self._clock(), self._policy, closing=frozenset({vm.id}))
        for before, after in closed:
            # Here and not when it was missed: until its farewell is said, it is missed in every listing.
            if before.state in (VmState.STARTING, VmState.UNREGISTERED) and before.registered_at is None:
                watch.server_failed(after.reason)
        self._note("close", vm, "done")
        return ""

    async def _say_farewell(self, vm: Vm) -> bool:
        try:
            if vm.token_expires_at is not None and vm.token_expires_at > self._clock():
                await self._minter.refuse(vm.id, vm.token_expires_at)
            # Refused first: an ad that was on its way would otherwise come back after it was taken out.
            if vm.server_id is not None or vm.registered_at is not None:
                await self._pool.invalidate(vm.id)
        except (MinterUnavailable, PoolUnavailable) as error:
            self._note("farewell", vm, "failed", str(error))
            return False
        return True

    def _note(self, order: str, vm: Vm, outcome: str, error: str = "", **more: str) -> None:
        self._meters.ordered(f"{vm.group}/{vm.cloud}", order, outcome)
        speak = log.warning if error else log.info
        speak(order, vm=vm.id, cloud=f"{vm.group}/{vm.cloud}", outcome=outcome, **({"error": error} if error else {}), **more)
