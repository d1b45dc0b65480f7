"""Response bodies of the engine routes: times are ISO 8601 text in UTC, keys of amounts name the unit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from ...common.auth import Caller
from ..domain.model import Action, Boot, Demand, Resources, Retire, Verdict
from ..domain.records import VmDetail, VmPage, VmTotals
from ..engine.view import CloudStatus, EngineStatus, PlanRecord
from ..planning.explain import Explanation

MAX_VERDICTS = 2000


def timestamp(at: float | None) -> str | None:
    """Format a time to the millisecond."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def resources_response(amount: Resources) -> dict[str, Any]:
    return {"cores": amount.cores, "ram_mib": amount.ram_mib, "disk_gib": amount.disk_gib}


def vm_response(detail: VmDetail, *, events: bool = False) -> dict[str, Any]:
    row = detail.vm
    body: dict[str, Any] = {
        "id": row.id,
        "group": row.group,
        "cloud": row.cloud,
        "region": detail.region,
        "flavor": row.flavor,
        "image": row.image,
        "alias": row.alias,
        "resources": resources_response(row.resources),
        "state": row.state.value,
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
    if events:
        body["events"] = [
            {
                "at": timestamp(event.at),
                "from": event.from_state.value if event.from_state else None,
                "to": event.to_state.value,
                "reason": event.reason,
            }
            for event in detail.events
        ]
    return body


def page_response(found: VmPage) -> dict[str, Any]:
    return {"vms": [vm_response(detail) for detail in found.vms], "cursor": found.cursor}


def totals_response(found: Iterable[VmTotals]) -> dict[str, Any]:
    return {"vms": [{**asdict(each), "vms": dict(each.vms)} for each in found]}


def cloud_status_response(cloud: CloudStatus) -> dict[str, Any]:
    body = asdict(cloud)
    body["vms"] = dict(cloud.vms)
    for key in ("observed_at", "boots_paused_until"):
        body[key] = timestamp(body[key])
    return body


def status_response(engine: EngineStatus, caller: Caller) -> dict[str, Any]:
    """The engine and the clouds that the caller may read; sums cover only these clouds."""
    clouds = [cloud for cloud in engine.clouds if caller.sees(cloud.group)]
    if caller.groups is None:
        sums = dict(engine.vms)
    else:
        sums = {}
        for cloud in clouds:
            for state, count in cloud.vms.items():
                sums[state] = sums.get(state, 0) + count
    return {
        "scheduler_uuid": engine.scheduler_uuid,
        "healthy": engine.healthy,
        "problem": engine.problem,
        "stuck": engine.stuck,
        "database": engine.database,
        "minter": engine.minter,
        "started_at": timestamp(engine.started_at),
        "cycle": engine.cycle,
        "last_cycle_at": timestamp(engine.last_cycle_at),
        "last_cycle_seconds": engine.last_cycle_seconds,
        "last_cycle_age": engine.last_cycle_age,
        "pool": {
            **asdict(engine.pool),
            "asked_at": timestamp(engine.pool.asked_at),
            "unreachable_queues": dict(engine.pool.unreachable_queues),
        },
        "clouds": [cloud_status_response(cloud) for cloud in clouds],
        "vms": sums,
    }


def demand_response(row: Demand) -> dict[str, Any]:
    return {
        "group": row.group,
        "owner": row.owner,
        "requirements": row.requirements,
        "request": resources_response(row.request),
        "idle": row.idle,
        "running": row.running,
        "priority": row.priority,
        "alias": row.alias,
        "image": row.image,
        "flavor": row.flavor,
        "network": row.network,
        "waiting_since": timestamp(row.waiting_since),
    }


def verdict_response(entry: Verdict) -> dict[str, Any]:
    return {
        "demand": demand_response(entry.demand),
        "cloud": entry.cloud,
        "flavor": entry.flavor,
        "reason": entry.reason.value,
        "detail": entry.detail,
        "count": entry.count,
    }


def explanation_response(found: Explanation) -> dict[str, Any]:
    return {
        "cloud": found.cloud,
        "reason": found.reason.value,
        "sentence": found.sentence,
        "flavor": found.flavor,
        "mismatches": [
            {
                "flavor": mismatch.flavor,
                "error": mismatch.error,
                "failures": [
                    {"clause": failure.clause, "outcome": failure.outcome, "because": failure.because} for failure in mismatch.failures
                ],
            }
            for mismatch in found.mismatches
        ],
    }


def action_response(planned: Action) -> dict[str, Any]:
    common = {"reason": planned.reason.value, "detail": planned.detail}
    if isinstance(planned, Boot):
        what = {"group": planned.group, "cloud": planned.cloud, "flavor": planned.flavor, "image": planned.image, "alias": planned.alias}
        return {"action": "boot", **what, **common}
    return {"action": "retire" if isinstance(planned, Retire) else "delete", "vm": planned.vm_id, **common}


def plan_response(record: PlanRecord | None, caller: Caller) -> dict[str, Any]:
    """The part of the last plan that concerns groups the caller may read."""
    if record is None:
        return {"at": None, "actions": [], "verdicts": [], "failures": [], "truncated": False}
    group_of = {row.id: row.group for row in record.world.vms}
    actions = [
        planned
        for planned in record.plan.actions
        if caller.groups is None or caller.sees(planned.group if isinstance(planned, Boot) else group_of.get(planned.vm_id, ""))
    ]
    verdicts = [entry for entry in record.plan.verdicts if caller.sees(entry.demand.group)]
    return {
        "at": timestamp(record.at),
        "actions": [action_response(planned) for planned in actions],
        "verdicts": [verdict_response(entry) for entry in verdicts[:MAX_VERDICTS]],
        "failures": [why for _, why in record.failures] if caller.groups is None else [],
        "truncated": len(verdicts) > MAX_VERDICTS,
    }
