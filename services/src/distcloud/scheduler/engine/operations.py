"""Operations on VMs, in steps that may be interrupted anywhere and are then repeated or found complete.

The sequence of steps makes them crash-safe: a row is written before the cloud is called, and a VM is deregistered (identity
revoked, ads removed from the pool) before its row is closed, so that a closed row needs no further work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from ...common.control.breaker import Breaker
from ...common.logs import get_logger
from ...common.secretbox import SecretError
from ..catalog.snapshot import CatalogSnapshot
from ..domain.model import Policy, Vm, VmState
from ..domain.states import Event, Observation
from ..drivers.base import META_CLOUD, META_GROUP, META_SCHEDULER, META_VM, CloudError, ErrorKind, ServerRequest
from ..pool.base import Pool, PoolUnavailable
from ..store.ledger import Ledger
from ..worker.configuration import WorkerSettings, settings_for
from ..worker.parts import UserDataError, select_parts, template_variables
from ..worker.renderer import PartRenderer, RenderingUnavailable
from ..worker.user_data import compose
from .metrics import Meters
from .minter_client import Minter, MinterUnavailable, token_lifetime
from .monitor import CloudMonitor

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What every worker needs to know about its pool."""

    domain: str
    condor_host: str
    central_address: str | None = None


class Operations:
    """Calls clouds, pool and minter. No method raises for their failures: the ledger records how far an operation got."""

    def __init__(
        self,
        ledger: Ledger,
        pool: Pool,
        minter: Minter,
        renderer: PartRenderer,
        *,
        scheduler_uuid: str,
        worker: WorkerContext,
        policy: Policy,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        meters: Meters,
    ) -> None:
        self._ledger = ledger
        self._pool = pool
        self._minter = minter
        self._renderer = renderer
        self._uuid = scheduler_uuid
        self._worker = worker
        self._policy = policy
        self._clock = clock
        self._jitter = jitter
        self._meters = meters
        self.minter_breaker = Breaker()
        self.create_ended: dict[str, float] = {}  # when the create call of a VM ended, answered or not

    async def boot(self, vm: Vm, drain_key: str, monitor: CloudMonitor, catalog: CatalogSnapshot) -> str:
        """Create the server of a row that is already written. Returns the error, or an empty string."""
        try:
            async with monitor.boots:
                return await self._boot(vm, drain_key, monitor, catalog)
        finally:
            self.create_ended[vm.id] = self._clock()

    async def _boot(self, vm: Vm, drain_key: str, monitor: CloudMonitor, catalog: CatalogSnapshot) -> str:
        try:
            settings = self._settings(vm, monitor, catalog)
            chosen = select_parts(catalog.parts_for(monitor.key), vm.cloud)
            parts = await self._renderer.render(f"cloud {monitor.label}", chosen, template_variables(settings))
            token = await self._minter.mint(settings, token_lifetime(self._policy))
            self.minter_breaker = self.minter_breaker.succeeded()
            user_data = await asyncio.to_thread(compose, settings, parts, token=token, drain_key=drain_key)
        except MinterUnavailable as error:
            self.minter_breaker = self.minter_breaker.failed(self._clock(), self._jitter(), str(error))
            return await self._create_refused(vm, str(error), reason="the cloud was not called")
        except (UserDataError, RenderingUnavailable) as error:
            if isinstance(error, UserDataError) and error.detail:
                log.warning("part_failed", vm=vm.id, cloud=monitor.label, detail=error.detail)
            return await self._configuration_failed(vm, monitor, str(error))
        except Exception as error:  # whatever untrusted text may cause: it fails only this cloud's boots
            log.exception("configuration_failed", vm=vm.id, cloud=monitor.label)
            return await self._configuration_failed(vm, monitor, f"{type(error).__name__}; see the log")
        monitor.configuration_rendered()
        request = self._request(vm, user_data)
        failed_listings = monitor.unanswered.failed_listings
        try:
            server_id = await monitor.driver.create(request)
        except CloudError as error:
            if error.kind in (ErrorKind.UNREACHABLE, ErrorKind.AUTH):
                monitor.failed(str(error))
            if error.kind is ErrorKind.UNREACHABLE:
                monitor.unanswered.add(vm.id, str(error), no_effect=error.no_effect, failed_listings=failed_listings)
            else:
                monitor.server_failed(str(error))
            if not error.no_effect:
                self._record("create", vm, "unanswered", str(error))
                return str(error)
            if not await self._revoke_and_invalidate(vm):
                return str(error)  # the next listing closes the row
            return await self._create_refused(vm, str(error))
        await self._ledger.apply_event(vm.id, Event.CREATE_ANSWERED, self._clock(), server_id=server_id)
        self._record("create", vm, "done", server=server_id)
        monitor.request_refresh()
        return ""

    def _settings(self, vm: Vm, monitor: CloudMonitor, catalog: CatalogSnapshot) -> WorkerSettings:
        return settings_for(
            vm,
            monitor.spec.cloud,
            domain=self._worker.domain,
            condor_host=self._worker.condor_host,
            central_address=self._worker.central_address,
            policy=self._policy,
            group_keep_alive=next((group.keep_alive for group in catalog.groups if group.name == vm.group), 0),
        )

    def _request(self, vm: Vm, user_data: bytes) -> ServerRequest:
        return ServerRequest(
            vm_id=vm.id,
            flavor=vm.flavor,
            image=vm.image,
            user_data=user_data,
            metadata={META_SCHEDULER: self._uuid, META_VM: vm.id, META_GROUP: vm.group, META_CLOUD: vm.cloud},
            network=vm.network,
        )

    async def _configuration_failed(self, vm: Vm, monitor: CloudMonitor, error: str) -> str:
        why = f"cannot render its configuration: {error}"
        monitor.configuration_failed(why)
        return await self._create_refused(vm, why, reason="the cloud was not called")

    async def _create_refused(self, vm: Vm, error: str, *, reason: str = "") -> str:
        await self._ledger.apply_event(vm.id, Event.CREATE_REFUSED, self._clock(), reason=reason, detail=error)
        self._record("create", vm, "refused", error)
        return error

    async def retire(self, vm: Vm, reason: str, monitor: CloudMonitor | None, *, idle: bool) -> str:
        """Drain a VM. Its state is changed first, so that the drain is repeated after a crash.

        `idle`: it runs no job according to the pool; if it cannot be drained, it is then deleted immediately.
        """
        _, after = await self._ledger.apply_event(vm.id, Event.RETIRE_REQUESTED, self._clock(), reason=reason)
        if after.state is not VmState.RETIRING:
            return ""
        try:
            key = await self._ledger.drain_key(vm.id)
            if key is None:
                # Its key is unknown: it is deleted once it runs no job, or when the drain times out.
                return await self.delete(after, f"{after.reason}; idle, and its drain key is unknown", monitor) if idle else ""
            await self._pool.drain(vm.id, key)
        except (PoolUnavailable, SecretError) as error:
            self._record("drain", vm, "failed", str(error))
            return str(error)
        await self._ledger.record_requests(vm.id, drain_requested_at=self._clock())
        self._record("drain", vm, "done")
        return ""

    async def delete(self, vm: Vm, reason: str, monitor: CloudMonitor | None, *, failed: bool = False) -> str:
        """Delete the server. Repeated until a listing lacks it; `deregister` then closes the row.

        `failed`: it never became a worker. This counts as a failure of its cloud once, when its state changes.
        """
        before, after = await self._ledger.apply_event(vm.id, Event.DELETE_REQUESTED, self._clock(), reason=reason)
        if failed and monitor is not None and before.state is not after.state:
            monitor.server_failed(reason)
        if after.state is not VmState.DELETING:
            return ""
        if monitor is None:
            return f"VM {vm.id}: its cloud {vm.group}/{vm.cloud} is no longer in the catalog; add it again to have the VM deleted"
        if after.server_id is not None:
            try:
                await monitor.driver.delete(after.server_id)
            except CloudError as error:
                if error.kind is ErrorKind.UNREACHABLE:
                    monitor.failed(str(error))
                self._record("delete", vm, "failed", str(error))
                return str(error)
        await self._ledger.record_requests(vm.id, delete_requested_at=self._clock())
        self._record("delete", vm, "done")
        monitor.request_refresh()
        return ""

    async def deregister(self, vm: Vm, observation: Observation, monitor: CloudMonitor) -> str:
        """The cloud no longer has the server: revoke its identity, remove its ads from the pool, then close the row."""
        if vm.server_id is not None:
            try:
                await monitor.driver.delete_leftovers(vm.server_id)
            except CloudError as error:
                # A leftover port costs an address; a row left open would be deregistered again and again.
                self._record("delete_leftovers", vm, "failed", str(error))
        if not await self._revoke_and_invalidate(vm):
            return f"VM {vm.id}: not deregistered yet"
        closed = await self._ledger.apply_observations({vm.id: observation}, self._clock(), self._policy, closing=frozenset({vm.id}))
        for before, after in closed:
            # Counted here, because every listing reports the VM missing until it is deregistered.
            if before.state in (VmState.STARTING, VmState.UNREGISTERED) and before.registered_at is None:
                monitor.server_failed(after.reason)
        self._record("close", vm, "done")
        return ""

    async def _revoke_and_invalidate(self, vm: Vm) -> bool:
        try:
            if vm.token_expires_at is not None and vm.token_expires_at > self._clock():
                await self._minter.refuse(vm.id, vm.token_expires_at)
            # Revoked first: otherwise an ad in flight could reappear after its removal.
            if vm.server_id is not None or vm.registered_at is not None:
                await self._pool.invalidate(vm.id)
        except (MinterUnavailable, PoolUnavailable) as error:
            self._record("deregister", vm, "failed", str(error))
            return False
        return True

    def _record(self, operation: str, vm: Vm, outcome: str, error: str = "", **more: str) -> None:
        self._meters.operation_completed(f"{vm.group}/{vm.cloud}", operation, outcome)
        write = log.warning if error else log.info
        write(operation, vm=vm.id, cloud=f"{vm.group}/{vm.cloud}", outcome=outcome, **({"error": error} if error else {}), **more)
