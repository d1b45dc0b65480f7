"""Routes of the engine: status, VMs, the last plan, and why a job waits."""

from __future__ import annotations

import contextlib
from typing import Annotated

from fastapi import Path, Query
from starlette.responses import Response as HttpResponse

from ...common.http.app import CallerDep, model_response
from ...common.http.auth import Caller
from ...common.http.problems import FieldError, Problem
from ...common.http.router import Router
from ...common.http.schemas import NAME
from ..authorization import require_group_admin
from ..domain.model import VmState
from ..domain.records import VmDetail
from ..engine.view import EngineView
from ..matching.matcher import Matcher
from . import responses
from .explanation import Explainer
from .schemas import (
    ExplanationResponse,
    PlanResponse,
    RetireCloudResponse,
    RetireResponse,
    StatusResponse,
    TotalsResponse,
    VmDetailResponse,
    VmListResponse,
    VmStateResponse,
)

VmId = Annotated[str, Path(pattern=r"^vm-[a-z2-7]{16}$", description="id of the VM in the ledger, also the name of its server")]


def engine_router(view: EngineView, matcher: Matcher) -> Router:
    """Create the routes of a running engine. `matcher` must not be shared with the engine."""
    router = Router(prefix="/v1", tags=["engine"])
    explainer = Explainer(view, matcher)

    @router.get("/status", summary="Get the status of the engine, the pool and each cloud", response_model=StatusResponse)
    async def get_status(caller: CallerDep) -> HttpResponse:
        return model_response(responses.status_response(view.status(), caller))

    @router.get("/vms", summary="List VMs, newest first", response_model=VmListResponse)
    async def list_vms(
        caller: CallerDep,
        state: Annotated[list[VmState] | None, Query(description="may be repeated; default: every state except gone")] = None,
        cloud: Annotated[str | None, Query(pattern=NAME)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[
            str | None, Query(max_length=256, pattern=r"^[A-Za-z0-9._:=,|+-]+$", description="cursor of the previous page")
        ] = None,
    ) -> HttpResponse:
        try:
            page = await view.vms(states=state, groups=_groups_of(caller), cloud=cloud, limit=limit, cursor=cursor)
        except ValueError as error:
            raise Problem(422, "invalid", "cursor: is invalid", [FieldError("cursor", "is invalid")]) from error
        return model_response(responses.page_response(page))

    @router.get("/totals", summary="Count the current and former VMs of each cloud by state")
    async def get_totals(caller: CallerDep) -> TotalsResponse:
        return responses.totals_response(await view.totals(_groups_of(caller)))

    @router.get("/vms/{vm}", summary="Get a VM with its history")
    async def get_vm(caller: CallerDep, vm: VmId) -> VmDetailResponse:
        return responses.vm_detail_response(await _visible_vm(caller, vm))

    @router.post("/vms/{vm}/retire", summary="Retire a VM: it finishes its jobs and is then deleted")
    async def retire(caller: CallerDep, vm: VmId) -> RetireResponse:
        found = await _visible_vm(caller, vm)
        require_group_admin(caller, found.vm.group)
        try:
            result = await view.retire(vm, caller.name)
        except KeyError as error:
            raise _unknown(vm) from error
        before, after = VmStateResponse(state=result.before), VmStateResponse(state=result.after)
        return RetireResponse(changed=result.changed, before=before, after=after)

    @router.post("/groups/{group}/clouds/{cloud}/retire", summary="Retire all VMs of a cloud")
    async def retire_cloud(
        caller: CallerDep, group: Annotated[str, Path(pattern=NAME)], cloud: Annotated[str, Path(pattern=NAME)]
    ) -> RetireCloudResponse:
        require_group_admin(caller, group)
        alive: list[VmDetail] = []
        cursor: str | None = None
        while True:
            page = await view.vms(groups=[group], cloud=cloud, limit=1000, cursor=cursor)
            alive += page.vms
            cursor = page.cursor
            if cursor is None:
                break
        retired = []
        for found in alive:
            with contextlib.suppress(KeyError):  # it is gone in the meantime
                if (await view.retire(found.vm.id, caller.name)).changed:
                    retired.append(found.vm.id)
        return RetireCloudResponse(changed=bool(retired), retired=retired, alive=len(alive))

    @router.get("/plan", summary="Get the last plan with the reason of every decision", response_model=PlanResponse)
    async def get_plan(caller: CallerDep) -> HttpResponse:
        return model_response(responses.plan_response(view.last_plan(), caller))

    @router.get("/explain", summary="Explain for each cloud why a job waits")
    async def explain(
        caller: CallerDep,
        job: Annotated[
            str,
            Query(pattern=r"^([A-Za-z0-9_.@-]{1,255}#)?[0-9]{1,9}(\.[0-9]{1,9})?$", description="CLUSTER.PROC, or SCHEDD#CLUSTER.PROC"),
        ],
    ) -> ExplanationResponse:
        return await explainer.explain(caller, job)

    async def _visible_vm(caller: Caller, vm: str) -> VmDetail:
        found = await view.vm(vm)
        if found is None or not caller.sees(found.vm.group):
            raise _unknown(vm)
        return found

    return router


def _groups_of(caller: Caller) -> list[str] | None:
    return None if caller.groups is None else sorted(caller.groups)


def _unknown(vm: str) -> Problem:
    return Problem(404, "no-such-vm", f"the ledger has no VM {vm}, or it belongs to a group that you may not read")
