"""Turns what was collected from a site (plain JSON) into its summary: pure, no I/O.

The shape of a summary is `summary.schema.json`. Times in it are seconds since the epoch (UTC), durations are seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from importlib import resources
from typing import Any

import jsonschema

Json = Mapping[str, Any]


class SummaryError(ValueError):
    """The collected facts do not make a valid summary; the message names the field."""


def schema() -> dict[str, Any]:
    """Answer the JSON Schema of a summary."""
    loaded: dict[str, Any] = json.loads(resources.files(__package__).joinpath("summary.schema.json").read_text("utf-8"))
    return loaded


def check(summary: Json) -> None:
    """Raise SummaryError naming the first field that is not as the schema says."""
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema()).iter_errors(summary))
    if error is not None:
        where = ".".join(str(step) for step in error.absolute_path) or "(top)"
        raise SummaryError(f"summary: field {where}: {error.message}")


def build(raw: Json) -> dict[str, Any]:
    """Make the summary of what was collected.

    `raw` has: site, made_at, regions [{name, auth_url, error, images}], status (the scheduler's /v1/status or null), vms (its
    /v1/vms items), jobs (job ads of condor_history), machines (ads of condor_status), queue (ads of condor_q), pool {collector,
    schedd, domain}, addresses [{name, url, what}].
    """
    vms = [_vm(vm) for vm in raw.get("vms") or ()]
    summary = {
        "site": {"name": raw["site"], "made_at": raw["made_at"]},
        "regions": [_region(region, raw.get("status") or {}, vms) for region in raw.get("regions") or ()],
        "images": [image for region in raw.get("regions") or () for image in _images(region)],
        "pool": _pool(raw),
        "jobs": sorted((_job(ad) for ad in raw.get("jobs") or ()), key=lambda job: _cluster_order(job["id"])),
        "vms": sorted(vms, key=lambda vm: (vm["requested_at"], vm["id"])),
        "addresses": [dict(address) for address in raw.get("addresses") or ()],
    }
    check(summary)
    return summary


def _region(region: Json, status: Json, vms: Iterable[Json]) -> dict[str, Any]:
    name = region["name"]
    clouds = [cloud for cloud in status.get("clouds") or () if cloud["region"] == name]
    return {
        "name": name,
        "auth_url": region.get("auth_url") or "",
        "reachable": not region.get("error"),
        "error": region.get("error") or "; ".join(filter(None, (cloud.get("error", "") for cloud in clouds))),
        "clouds": [
            {
                "group": cloud["group"],
                "name": cloud["cloud"],
                "enabled": cloud["enabled"],
                "reachable": cloud["reachable"],
                "vms": sum((cloud.get("vms") or {}).values()),
                "quota_vms": cloud.get("quota_vms"),
            }
            for cloud in clouds
        ],
        "vms_ever": sum(1 for vm in vms if vm["region"] == name),
    }


def _images(region: Json) -> Iterable[dict[str, Any]]:
    for image in region.get("images") or ():
        yield {"name": image["name"], "region": region["name"], "sha512": image["sha512"], "size": int(image.get("size") or 0)}


def _pool(raw: Json) -> dict[str, Any]:
    queue = list(raw.get("queue") or ())
    machines = list(raw.get("machines") or ())
    pool = raw.get("pool") or {}
    return {
        "collector": pool.get("collector", ""),
        "schedd": pool.get("schedd", ""),
        "domain": pool.get("domain", ""),
        "workers": len({ad.get("Machine") for ad in machines}),
        "slots_claimed": sum(1 for ad in machines if ad.get("State") == "Claimed"),
        "jobs_idle": sum(1 for ad in queue if ad.get("JobStatus") == 1),
        "jobs_running": sum(1 for ad in queue if ad.get("JobStatus") == 2),
        "jobs_held": sum(1 for ad in queue if ad.get("JobStatus") == 5),
        "jobs_done": sum(1 for ad in raw.get("jobs") or () if ad.get("JobStatus") == 4),
    }


def _job(ad: Json) -> dict[str, Any]:
    started = ad.get("JobStartDate")
    ended_by_itself = ad.get("JobStatus") == 4 and not ad.get("ExitBySignal", False)
    return {
        "id": f"{ad['ClusterId']}.{ad['ProcId']}",
        "owner": str(ad.get("Owner", "")),
        "region": ad.get("MachineAttrDistcloudRegion0"),
        "vm": ad.get("MachineAttrDistcloudVm0"),
        "waited_s": None if started is None else max(0, int(started) - int(ad["QDate"])),
        "exit_code": int(ad["ExitCode"]) if ended_by_itself and "ExitCode" in ad else None,
        "ended_at": ad.get("CompletionDate") or ad.get("EnteredCurrentStatus"),
    }


def _vm(vm: Json) -> dict[str, Any]:
    return {
        "id": vm["id"],
        "region": vm["region"],
        "flavor": vm["flavor"],
        "state": vm["state"],
        "requested_at": _epoch(vm["requested_at"]),
        "gone_at": _epoch(vm.get("gone_at")),
        "group": vm.get("group", ""),
        "reason": vm.get("reason", ""),
    }


def _epoch(at: str | float | None) -> float | None:
    """The scheduler's API writes times as ISO 8601; a summary has seconds since the epoch."""
    return datetime.fromisoformat(at).timestamp() if isinstance(at, str) else at


def _cluster_order(job_id: str) -> tuple[int, int]:
    cluster, _, proc = job_id.partition(".")
    return int(cluster), int(proc)
