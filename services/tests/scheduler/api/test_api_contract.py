"""Schemathesis: requests generated from the OpenAPI document get only responses that the document declares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import schemathesis

from distcloud.scheduler.domain.model import (
    Boot,
    Cloud,
    Delete,
    Demand,
    Flavor,
    Group,
    Plan,
    PlanInputs,
    Reason,
    Resources,
    Retire,
    Verdict,
)
from distcloud.scheduler.engine.view import CloudStatus, ExplainInputs, PlanRecord, PoolStatus

from ...common.support.api_contract import operations, send_all, undeclared
from ..support.api_world import Client, client, vm

AUTH = {"auth_url": "https://k/v3", "username": "u", "password": "p", "project_name": "x"}
JOB = Demand("atlas", "alice", "TARGET.HasGpu =?= true", Resources(1, 1000, 1.0), idle=1, waiting_since=5.0)
FLAVOR = Flavor("m1", Resources(1, 2000, 20.0))
CLOUD = Cloud("victoria", "atlas", "Victoria", enabled=True, flavors=(FLAVOR,), images=frozenset({"worker"}), default_image="worker")


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with client(tmp_path_factory.mktemp("contract")) as found:
        found("PUT", "/v1/groups/atlas", {"aliases": {"any": ["victoria"]}})
        found("PUT", "/v1/groups/atlas/clouds/victoria", {"region": "Victoria", "auth": AUTH, "attributes": {"site": "x"}})
        found("PUT", "/v1/groups/atlas/metadata/part", {"content": "a: 1"})
        found("PUT", "/v1/groups/atlas/clouds/victoria/metadata/part", {"content": "a: 1"})
        fill(found)
        yield found


def fill(call: Client) -> None:
    """Give the engine something of every kind to report."""
    engine = call.engine
    engine.rows = [vm(number) for number in range(3)]
    engine.pool = PoolStatus(True, "", 1.0, 1, 2, 3, {"far": "timeout"})
    status = CloudStatus(
        "atlas", "victoria", "Victoria", True, False, False, "open", 9.0, "refused", 8.0, {"running": 3}, 1, 10, None, None
    )
    healthy = replace(status, cloud="uvic", reachable=True, breaker="closed", boots_paused_until=None, error="")
    engine.clouds = (status, healthy)
    world = PlanInputs(demand=(JOB,), vms=tuple(engine.rows), clouds=(CLOUD,), groups=(Group("atlas"),), now=1000.0)
    boot = Boot("atlas", "victoria", FLAVOR.name, "worker", Resources(1, 2000, 20.0), None, Reason.DEMAND)
    first, second = (row.id for row in engine.rows[:2])
    actions = (boot, Retire(first, Reason.NO_DEMAND), Delete(second, Reason.DRAINED))
    verdicts = (Verdict(JOB, None, Reason.DEMAND, "one", None, 1), Verdict(JOB, "victoria", Reason.DEMAND, "one", "m1", 1))
    engine.plan = PlanRecord(1000.0, world, Plan(actions, verdicts), ((boot, "no minter"),))
    engine.inputs = ExplainInputs("12.0", True, 1, replace(JOB, waiting_since=None), world)


def test_generated_requests_get_declared_responses(call: Client) -> None:
    found = operations(call)
    assert len(found) > 20
    for operation in found:
        send_all(call, operation, {"group": "atlas", "cloud": "victoria", "name": "part", "vm": vm(1).id})


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/readyz",
        "/v1/report",
        "/v1/status",
        "/v1/vms",
        f"/v1/vms/{vm(1).id}",
        "/v1/totals",
        "/v1/plan",
        "/v1/explain?job=12.0",
        "/v1/groups",
        "/v1/groups/atlas/clouds",
        "/v1/groups/atlas/clouds/victoria",
        "/v1/groups/atlas/clouds/victoria/metadata",
    ],
)
def test_filled_responses_match_their_schema(call: Client, path: str) -> None:
    fill(call)
    response = call("GET", path)
    assert response.status_code == 200, response.text
    template = next(found for found in operations(call) if matches(found, path))
    template.validate_response(schemathesis.Response.from_httpx2(response, verify=True))


def matches(operation: Any, path: str) -> bool:
    """Whether the operation is GET of this path."""
    steps, given_steps = operation.path.split("/"), path.partition("?")[0].split("/")
    same = len(steps) == len(given_steps) and all(a == b or a.startswith("{") for a, b in zip(steps, given_steps, strict=True))
    return bool(operation.method.upper() == "GET" and same)


def test_every_operation_declares_its_response(call: Client) -> None:
    assert not undeclared(call)


def test_auth_response_has_only_keys_of_its_kind(call: Client) -> None:
    auth = call("GET", "/v1/groups/atlas/clouds/victoria").json()["auth"]
    assert auth == {
        "auth_type": "v3password",
        "auth_url": "https://k/v3",
        "username": "u",
        "password": "********",
        "user_domain_name": "Default",
        "project_name": "x",
        "project_domain_name": "Default",
    }
