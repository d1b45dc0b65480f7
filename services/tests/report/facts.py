"""Collected facts of a small site, as the role hands them to the report."""

from __future__ import annotations

import json
from typing import Any

from distcloud.scheduler.api.schemas import CloudStatusResponse, PoolStatusResponse, ResourcesResponse, StatusResponse, VmResponse
from distcloud.scheduler.domain.model import VmState

SHA = "a" * 128

CLOUD = CloudStatusResponse(
    group="atlas",
    cloud="region-a",
    region="region-a",
    enabled=True,
    frozen=False,
    reachable=True,
    breaker="closed",
    boots_paused_until=None,
    error="",
    observed_at=None,
    vms={"idle": 2},
    foreign_vms=0,
    quota_vms=3,
    quota_cores=None,
    quota_ram_mib=None,
)
STATUS = StatusResponse(
    scheduler_uuid="u",
    healthy=True,
    problem="",
    stuck="",
    database="",
    minter="",
    started_at=None,
    cycle=1,
    last_cycle_at=None,
    last_cycle_seconds=None,
    last_cycle_age=None,
    pool=PoolStatusResponse(reachable=True, error="", asked_at=None, idle_jobs=0, running_jobs=0, slots=0, unreachable_queues={}),
    clouds=[CLOUD],
    vms={"idle": 2},
).model_dump(mode="json")


def vm(vm_id: str, state: str, requested_at: str, gone_at: str | None = None, reason: str = "") -> dict[str, Any]:
    return VmResponse(
        id=vm_id,
        group="atlas",
        cloud="region-a",
        region="region-a",
        flavor="s",
        image="worker",
        alias=None,
        resources=ResourcesResponse(cores=1, ram_mib=1, disk_gib=1.0),
        state=VmState(state),
        reason=reason,
        server_id=None,
        manual=False,
        ever_used=True,
        requested_at=requested_at,
        changed_at=None,
        registered_at=None,
        last_seen_in_pool=None,
        idle_since=None,
        drain_requested_at=None,
        token_expires_at=None,
        gone_at=gone_at,
    ).model_dump(mode="json")


GONE = [vm("vm-b", "gone", "1970-01-01T00:00:20.000Z", "1970-01-01T00:01:35.000Z", "drained")]
VMS = [vm("vm-a", "idle", "2026-11-21T10:52:44.834Z")]
TOTAL = {"group": "atlas", "cloud": "region-a", "region": "region-a", "vms": {"gone": 4321, "idle": 1}}
JOBS = [
    {
        "ClusterId": 10,
        "ProcId": 0,
        "Owner": "bob",
        "QDate": 100,
        "JobStartDate": 145,
        "JobStatus": 4,
        "ExitCode": 3,
        "MachineAttrDistcloudRegion0": "region-a",
        "MachineAttrDistcloudVm0": "vm-a",
        "CompletionDate": 150,
    },
    {"ClusterId": 9, "ProcId": 1, "Owner": "<script>[/bold]\x1b[2J", "QDate": 100, "JobStatus": 3, "EnteredCurrentStatus": 120},
]


def answer(name: str, output: Any) -> dict[str, Any]:
    return {"name": name, "rc": 0, "stdout": json.dumps(output), "stderr": "", "msg": ""}


def raw() -> dict[str, Any]:
    return {
        "site": "lab-test",
        "made_at": 1_790_000_000.0,
        "regions": [
            {
                "name": "region-a",
                "auth_url": "http://10.203.0.11:5000/v3",
                "error": "",
                "images": [{"name": "worker", "sha512": SHA, "size": 161_000_000}],
            },
            {"name": "region-b", "auth_url": "https://10.203.0.12:5000/v3", "error": "connection refused", "images": []},
        ],
        "answers": [
            answer("machines", [{"Machine": "m1", "State": "Claimed"}, {"Machine": "m1", "State": "Unclaimed"}]),
            answer("queue", [{"JobStatus": 1}, {"JobStatus": 2}, {"JobStatus": 1}]),
            answer("jobs", JOBS),
            answer("status", STATUS),
            answer("vms", {"vms": VMS, "cursor": None}),
            answer("gone", {"vms": GONE, "cursor": None}),
            answer("totals", {"vms": [TOTAL, {**TOTAL, "region": "given back", "vms": {"gone": 1}}]}),
        ],
        "pool": {"collector": "central", "schedd": "central", "domain": "distcloud.lab"},
        "addresses": [
            {"name": "API", "url": "https://10.203.0.10:8443/docs", "what": "the scheduler"},
            {"name": "odd", "url": "javascript:alert(1)", "what": ""},
        ],
    }
