"""Convert the engine's values to responses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from ...common.http.auth import Caller
from ...common.times import timestamp
from ..domain.model import Action, Boot, Demand, Resources, Retire, Verdict
from ..domain.records import VmDetail, VmPage, VmTotals
from ..engine.view import CloudStatus, EngineStatus, PlanRecord
from ..planning.explain import Explanation
from .schemas import (
    BootResponse,
    ClauseResponse,
    CloudExplanationResponse,
    CloudStatusResponse,
    CloudTotals,
    DemandResponse,
    ExclusionResponse,
    MismatchResponse,
    PlanResponse,
    PoolStatusResponse,
    RemovalResponse,
    ResourcesResponse,
    StatusResponse,
    TotalsResponse,
    VerdictResponse,
    VmDetailResponse,
    VmEventResponse,
    VmListResponse,
    VmResponse,
)

MAX_VERDICTS = 2000


def resources_response(amount: Resources) -> ResourcesResponse:
    return ResourcesResponse(cores=amount.cores, ram_mib=amount.ram_mib, disk_gib=amount.disk_gib)


def vm_response(detail: VmDetail) -> VmResponse:
    return VmResponse(**_vm_fields(detail))


def vm_detail_response(detail: VmDetail) -> VmDetailResponse:
    events = [
        VmEventResponse(at=timestamp(event.at), from_state=event.from_state, to_state=event.to_state, reason=event.reason)
        for event in detail.events
    ]
    return VmDetailResponse(**_vm_fields(detail), events=events)


def _vm_fields(detail: VmDetail) -> dict[str, Any]:
    row = detail.vm
    return {
        "id": row.id,
        "group": row.group,
        "cloud": row.cloud,
        "region": detail.region,
        "flavor": row.flavor,
        "image": row.image,
        "alias": row.alias,
        "resources": resources_response(row.resources),
        "state": row.state,
        "reason": row.reason,
        "server_id": row.server_id,
        "manual": row.manual,
        "ever_used": row.ever_used,
        "requested_at": timestamp(row.requested_at),
        "changed_at": timestamp(row.changed_at),
        "registered_at": timestamp(detail.registered_at),
        "last_seen_in_pool": timestamp(row.last_seen_in_pool),
        "idle_since": timestamp(row.idle_since),
        "drain_requested_at": timestamp(row.drain_requested_at),
        "token_expires_at": timestamp(row.token_expires_at),
        "gone_at": timestamp(detail.gone_at),
    }


def page_response(found: VmPage) -> VmListResponse:
    return VmListResponse(vms=[vm_response(detail) for detail in found.vms], cursor=found.cursor)


def totals_response(found: Iterable[VmTotals]) -> TotalsResponse:
    return TotalsResponse(vms=[CloudTotals(group=each.group, cloud=each.cloud, region=each.region, vms=dict(each.vms)) for each in found])


def cloud_status_response(cloud: CloudStatus) -> CloudStatusResponse:
    fields = asdict(cloud)
    for key in ("observed_at", "boots_paused_until"):
        fields[key] = timestamp(fields[key])
    return CloudStatusResponse(**fields)


def status_response(engine: EngineStatus, caller: Caller) -> StatusResponse:
    """The engine and the clouds that the caller may read; sums cover only these clouds."""
    clouds = [cloud for cloud in engine.clouds if caller.sees(cloud.group)]
    if caller.groups is None:
        sums = dict(engine.vms)
    else:
        sums = {}
        for cloud in clouds:
            for state, count in cloud.vms.items():
                sums[state] = sums.get(state, 0) + count
    pool = engine.pool
    return StatusResponse(
        scheduler_uuid=engine.scheduler_uuid,
        healthy=engine.healthy,
        problem=engine.problem,
        stuck=engine.stuck,
        database=engine.database,
        minter=engine.minter,
        started_at=timestamp(engine.started_at),
        cycle=engine.cycle,
        last_cycle_at=timestamp(engine.last_cycle_at),
        last_cycle_seconds=engine.last_cycle_seconds,
        last_cycle_age=engine.last_cycle_age,
        pool=PoolStatusResponse(**{**asdict(pool), "asked_at": timestamp(pool.asked_at)}),
        clouds=[cloud_status_response(cloud) for cloud in clouds],
        exclusions=[ExclusionResponse(**asdict(each)) for each in engine.exclusions if caller.sees(each.group)],
        vms=sums,
    )


def demand_response(row: Demand) -> DemandResponse:
    return DemandResponse(
        group=row.group,
        owner=row.owner,
        requirements=row.requirements,
        request=resources_response(row.request),
        idle=row.idle,
        running=row.running,
        priority=row.priority,
        alias=row.alias,
        image=row.image,
        flavor=row.flavor,
        network=row.network,
        waiting_since=timestamp(row.waiting_since),
    )


def explanation_response(found: Explanation) -> CloudExplanationResponse:
    return CloudExplanationResponse(
        cloud=found.cloud,
        reason=found.reason,
        sentence=found.sentence,
        flavor=found.flavor,
        mismatches=[
            MismatchResponse(
                flavor=mismatch.flavor,
                error=mismatch.error,
                failures=[
                    ClauseResponse(clause=failure.clause, outcome=failure.outcome, because=failure.because) for failure in mismatch.failures
                ],
            )
            for mismatch in found.mismatches
        ],
    )


def action_response(planned: Action) -> BootResponse | RemovalResponse:
    if isinstance(planned, Boot):
        return BootResponse(
            action="boot",
            group=planned.group,
            cloud=planned.cloud,
            flavor=planned.flavor,
            image=planned.image,
            alias=planned.alias,
            reason=planned.reason,
            detail=planned.detail,
        )
    return RemovalResponse(
        action="retire" if isinstance(planned, Retire) else "delete", vm=planned.vm_id, reason=planned.reason, detail=planned.detail
    )


def plan_response(record: PlanRecord | None, caller: Caller) -> PlanResponse:
    """The part of the last plan that concerns groups the caller may read."""
    if record is None:
        return PlanResponse(at=None, actions=[], verdicts=[], failures=[], truncated=False)
    group_of = {row.id: row.group for row in record.world.vms}
    actions = [
        planned
        for planned in record.plan.actions
        if caller.groups is None or caller.sees(planned.group if isinstance(planned, Boot) else group_of.get(planned.vm_id, ""))
    ]
    verdicts = [entry for entry in record.plan.verdicts if caller.sees(entry.demand.group)]
    return PlanResponse(
        at=timestamp(record.at),
        actions=[action_response(planned) for planned in actions],
        verdicts=_verdict_responses(verdicts[:MAX_VERDICTS]),
        failures=[why for _, why in record.failures] if caller.groups is None else [],
        truncated=len(verdicts) > MAX_VERDICTS,
    )


def _verdict_responses(verdicts: Iterable[Verdict]) -> list[VerdictResponse]:
    """A demand has a verdict for every cloud; it is converted once."""
    demands: dict[int, DemandResponse] = {}
    found = []
    for verdict in verdicts:
        demand = demands.get(id(verdict.demand))
        if demand is None:
            demand = demands[id(verdict.demand)] = demand_response(verdict.demand)
        found.append(
            VerdictResponse(
                demand=demand,
                cloud=verdict.cloud,
                flavor=verdict.flavor,
                reason=verdict.reason,
                detail=verdict.detail,
                count=verdict.count,
            )
        )
    return found
