"""The engine's values as JSON: times as ISO 8601 text in UTC, amounts with their units in the key."""

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


def moment(at: float | None) -> str | None:
    """A time to the millisecond."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def resources(amount: Resources) -> dict[str, Any]:
    return {"cores": amount.cores, "ram_mib": amount.ram_mib, "disk_gib": amount.disk_gib}


def vm(detail: VmDetail, *, events: bool = False) -> dict[str, Any]:
    row = detail.vm
    shape: dict[str, Any] = {
        "id": row.id,
        "group": row.group,
        "cloud": row.cloud,
        "region": detail.region,
        "flavor": row.flavor,
        "image": row.image,
        "alias": row.alias,
        "resources": resources(row.resources),
        "state": row.state.value,
        "reason": row.reason,
        "server_id": row.server_id,
        "manual": row.manual,
        "ever_used": row.ever_used,
        "requested_at": moment(row.requested_at),
        "changed_at": moment(row.changed_at),
        "registered_at": moment(detail.registered_at),
        "last_seen_in_pool": moment(row.last_seen_in_pool),
        "idle_since": moment(row.idle_since),
        "drain_requested_at": moment(row.drain_requested_at),
        "token_expires_at": moment(row.token_expires_at),
        "gone_at": moment(detail.gone_at),
    }
    if events:
        shape["events"] = [
            {
                "at": moment(event.at),
                "from": event.from_state.value if event.from_state else None,
                "to": event.to_state.value,
                "reason": event.reason,
            }
            for event in detail.events
        ]
    return shape


def page(found: VmPage) -> dict[str, Any]:
    return {"vms": [vm(detail) for detail in found.vms], "cursor": found.cursor}


def totals(found: Iterable[VmTotals]) -> dict[str, Any]:
    return {"vms": [{**asdict(each), "vms": dict(each.vms)} for each in found]}


def cloud_status(cloud: CloudStatus) -> dict[str, Any]:
    shape = asdict(cloud)
    shape["vms"] = dict(cloud.vms)
    for key in ("observed_at", "boots_paused_until"):
        shape[key] = moment(shape[key])
    return shape


def status(engine: EngineStatus, caller: Caller) -> dict[str, Any]:
    """The engine and those clouds that the caller may see; sums are over these alone."""
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
        "started_at": moment(engine.started_at),
        "cycle": engine.cycle,
        "last_cycle_at": moment(engine.last_cycle_at),
        "last_cycle_seconds": engine.last_cycle_seconds,
        "last_cycle_age": engine.last_cycle_age,
        "pool": {**asdict(engine.pool), "asked_at": moment(engine.pool.asked_at), "unheard_queues": dict(engine.pool.unheard_queues)},
        "clouds": [cloud_status(cloud) for cloud in clouds],
        "vms": sums,
    }


def demand(wanted: Demand) -> dict[str, Any]:
    return {
        "group": wanted.group,
        "owner": wanted.owner,
        "requirements": wanted.requirements,
        "request": resources(wanted.request),
        "idle": wanted.idle,
        "running": wanted.running,
        "priority": wanted.priority,
        "alias": wanted.alias,
        "image": wanted.image,
        "flavor": wanted.flavor,
        "network": wanted.network,
        "waiting_since": moment(wanted.waiting_since),
    }


def verdict(judged: Verdict) -> dict[str, Any]:
    return {
        "demand": demand(judged.demand),
        "cloud": judged.cloud,
        "flavor": judged.flavor,
        "reason": judged.reason.value,
        "detail": judged.detail,
        "count": judged.count,
    }


def explanation(found: Explanation) -> dict[str, Any]:
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


def action(ordered: Action) -> dict[str, Any]:
    common = {"reason": ordered.reason.value, "detail": ordered.detail}
    if isinstance(ordered, Boot):
        what = {"group": ordered.group, "cloud": ordered.cloud, "flavor": ordered.flavor, "image": ordered.image, "alias": ordered.alias}
        return {"action": "boot", **what, **common}
    return {"action": "retire" if isinstance(ordered, Retire) else "delete", "vm": ordered.vm_id, **common}


def plan(record: PlanRecord | None, caller: Caller) -> dict[str, Any]:
    """The last plan, as far as it concerns groups that the caller may see."""
    if record is None:
        return {"at": None, "actions": [], "verdicts": [], "failures": [], "truncated": False}
    group_of = {row.id: row.group for row in record.world.vms}
    actions = [
        ordered
        for ordered in record.plan.actions
        if caller.groups is None or caller.sees(ordered.group if isinstance(ordered, Boot) else group_of.get(ordered.vm_id, ""))
    ]
    verdicts = [judged for judged in record.plan.verdicts if caller.sees(judged.demand.group)]
    return {
        "at": moment(record.at),
        "actions": [action(ordered) for ordered in actions],
        "verdicts": [verdict(judged) for judged in verdicts[:MAX_VERDICTS]],
        "failures": [why for _, why in record.failures] if caller.groups is None else [],
        "truncated": len(verdicts) > MAX_VERDICTS,
    }
