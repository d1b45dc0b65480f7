"""Role demo: which workers it waits for on a shared site, and where the jobs' files are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from role_templates import render

ROLE = Path(__file__).resolve().parents[3] / "roles" / "demo"
VARIABLES = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
# 2026-03-01 from 12:00:00 to 12:05:00.
JOBS = [
    {"QDate": 1772366400, "CompletionDate": 1772366700, "DistcloudGroup": "physics", "MachineAttrDistcloudVm0": "vm-used"},
    {"QDate": 1772366401, "CompletionDate": 1772366650, "DistcloudGroup": "physics"},  # ran on a host that the site keeps
]
NOON = "2026-03-01T12:00:00.250Z"


def vm(name: str, state: str = "idle", **values: Any) -> dict[str, Any]:
    idle = NOON if state == "idle" else None
    return {"id": name, "state": state, "group": "physics", "ever_used": True, "requested_at": NOON, "idle_since": idle, **values}


def remaining(*vms: dict[str, Any], attempts: int = 100, timeout: int = 600) -> list[str]:
    known = {
        "demo_retire_timeout": timeout,
        "__demo_ended": {"stdout": json.dumps(JOBS)},
        "__demo_vms": {"stdout": json.dumps({"vms": vms, "cursor": None}), "attempts": attempts},
    }
    return [one["id"] for one in render(VARIABLES["__demo_remaining_workers"], known, VARIABLES)]


@pytest.mark.parametrize(
    "worker",
    [
        vm("vm-used"),
        vm("vm-used", "deleting"),
        vm("vm-used", "retiring", idle_since=NOON),
        # Ordered for its jobs, which others' workers or its first one then did.
        vm("vm-spare", "starting", ever_used=False),
        vm("vm-spare", ever_used=False, requested_at="2026-03-01T12:05:00.900Z"),
    ],
)
def test_own_workers_are_waited_for(worker: dict[str, Any]) -> None:
    assert remaining(worker, vm("vm-other", "running")) == [worker["id"]]


@pytest.mark.parametrize(
    "worker",
    [
        vm("vm-other"),
        vm("vm-other", "running"),
        vm("vm-other", "starting", ever_used=False, group="chemistry"),
        vm("vm-other", ever_used=False, requested_at="2026-03-01T11:59:59.900Z"),
        vm("vm-other", "starting", ever_used=False, requested_at="2026-03-01T12:05:01.000Z"),
    ],
)
def test_other_workers_are_not_waited_for(worker: dict[str, Any]) -> None:
    assert remaining(worker) == []


@pytest.mark.parametrize("state", ["running", "retiring"])
def test_own_busy_worker_is_ignored_after_a_minute(state: str) -> None:
    busy = vm("vm-used", state)
    assert remaining(busy, attempts=20) == ["vm-used"], "the scheduler may not have seen yet that its job ended"
    assert remaining(busy, attempts=21) == []
    assert remaining(busy, attempts=6, timeout=30) == [], "where a minute is too long, half the time"


def test_output_is_in_the_users_homes() -> None:
    users = ["alice", "bob"]
    found = ["alice:x:1001:1001::/home/alice:/bin/bash", "bob:*:5:5:Bob, of physics:/afs/site/b/bob:/bin/sh"]
    known = {
        "demo_users": users,
        "demo_job_seconds": 1,
        "demo_job_memory": 1,
        "demo_jobs_per_user": 1,
        "ansible_managed": "by a test",
        "__demo_found": {"results": [{"item": user, "rc": 0, "stdout": line} for user, line in zip(users, found, strict=True)]},
    }
    for user, home in zip(users, ("/home/alice", "/afs/site/b/bob"), strict=True):
        submitted = render(VARIABLES["__demo_file"], {**known, "item": user}, VARIABLES)
        assert submitted == f"/usr/local/share/distcloud-demo/{user}.sub", "root writes no file in a user's home"
        text = render((ROLE / "templates" / "demo.sub.j2").read_text(), {**known, "item": user}, VARIABLES)
        assert f"\ninitialdir              = {home}\n" in text
