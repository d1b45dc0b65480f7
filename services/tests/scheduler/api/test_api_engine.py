"""Status, VMs, plan and explain through the API, with an engine that answers from plain values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

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
    VmState,
)
from distcloud.scheduler.engine.view import CloudStatus, ExplainInputs, PlanRecord
from distcloud.scheduler.pool.base import PoolUnavailable

from ..support.api_world import Client, client, vm

SMALL = Flavor("m1", Resources(1, 2000, 20.0))
DEMAND = Demand("atlas", "alice", "TARGET.HasGpu =?= true", Resources(1, 1000, 1.0), idle=3)
VICTORIA = Cloud("victoria", "atlas", "Victoria", enabled=True, flavors=(SMALL,), images=frozenset({"worker"}), default_image="worker")
WORLD = PlanInputs(demand=(DEMAND,), clouds=(VICTORIA,), groups=(Group("atlas"),), now=1000.0)


@pytest.fixture
def call(tmp_path: Path) -> Iterator[Client]:
    with client(tmp_path) as found:
        found.engine.rows = [vm(number) for number in range(5)] + [vm(7, "belle2"), vm(8, "atlas", VmState.GONE)]
        yield found


def ids(answer: dict[str, list[dict[str, str]]]) -> list[str]:
    return [row["id"] for row in answer["vms"]]


def test_vms_are_paged_and_filtered_by_group(call: Client) -> None:
    everything = call("GET", "/v1/vms").json()
    assert ids(everything) == [vm(number).id for number in (7, 4, 3, 2, 1, 0)]
    assert everything["cursor"] is None
    seen: list[str] = []
    cursor = None
    while True:
        page = call("GET", "/v1/vms", params={"limit": 4, **({"cursor": cursor} if cursor else {})}).json()
        seen += ids(page)
        cursor = page["cursor"]
        if cursor is None:
            break
    assert seen == ids(everything)
    assert ids(call("GET", "/v1/vms", who="belle").json()) == [vm(7).id]
    assert ids(call("GET", "/v1/vms?state=gone&state=retiring", who="viewer").json()) == [vm(8).id]
    assert ids(call("GET", "/v1/vms?cloud=toronto").json()) == []
    assert everything["vms"][0]["requested_at"] == "1970-01-01T00:16:47.000Z"


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "state=lost", "cursor=not-ours", "cursor=%00", "cloud=a%2Fb"])
def test_invalid_queries_are_refused(call: Client, query: str) -> None:
    assert call("GET", f"/v1/vms?{query}").status_code == 422


def test_totals_cover_only_visible_groups(call: Client) -> None:
    alive = {"group": "atlas", "cloud": "victoria", "region": "Victoria", "vms": {"running": 5}}
    assert call("GET", "/v1/totals").json()["vms"] == [
        {**alive, "vms": {"gone": 1}},
        alive,
        {**alive, "group": "belle2", "vms": {"running": 1}},
    ]
    assert call("GET", "/v1/totals", who="belle").json()["vms"] == [{**alive, "group": "belle2", "vms": {"running": 1}}]
    assert call("GET", "/v1/totals", who=None).status_code == 401


def test_vm_of_another_group_is_not_found(call: Client) -> None:
    path = f"/v1/vms/{vm(7).id}"
    assert call("GET", path).json()["group"] == "belle2"
    for method, tail in (("GET", ""), ("POST", "/retire")):
        assert call(method, path + tail, who="atlas").status_code == 404
        assert call(method, path + tail, who="atlas-viewer").status_code == 404
    assert call("GET", "/v1/vms/vm-unknownunknownun").status_code == 404
    assert call("GET", "/v1/vms/..%2F..%2Fetc").status_code in (404, 422)


def test_retire_requires_permission_and_is_idempotent(call: Client) -> None:
    path = f"/v1/vms/{vm(1).id}/retire"
    for who in ("viewer", "atlas-viewer"):
        assert call("POST", path, who=who).status_code == 403
    done = call("POST", path, who="atlas").json()
    assert done == {"changed": True, "before": {"state": "running"}, "after": {"state": "retiring"}}
    assert call("POST", path, who="atlas").json()["changed"] is False


def test_group_admin_retires_all_vms_of_cloud(call: Client) -> None:
    path = "/v1/groups/atlas/clouds/victoria/retire"
    for who in ("viewer", "atlas-viewer", "belle"):
        assert call("POST", path, who=who).status_code == 403
    call("POST", f"/v1/vms/{vm(0).id}/retire")
    done = call("POST", path, who="atlas").json()
    assert sorted(done["retired"]) == sorted(vm(number).id for number in range(1, 5))
    assert (done["changed"], done["alive"]) == (True, 5)
    assert call("GET", f"/v1/vms/{vm(7).id}").json()["state"] == "running"
    assert call("POST", path, who="atlas").json() == {"changed": False, "retired": [], "alive": 5}


def test_status_and_health(call: Client) -> None:
    assert call("GET", "/v1/status", who="viewer").json()["vms"] == {"running": 7}
    assert call("GET", "/v1/status", who="belle").json()["vms"] == {}
    assert call("GET", "/healthz", who=None).status_code == 200
    call.engine.stuck = "the engine's loop is stuck"
    assert call("GET", "/healthz", who=None).json() == {"status": "failing", "problem": "the engine's loop is stuck"}


def cloud(name: str, *, reachable: bool = True, enabled: bool = True) -> CloudStatus:
    error = "" if reachable else "Keystone at https://k refuses the credential"
    return CloudStatus("atlas", name, "R", enabled, False, reachable, "closed", None, error, 1.0, {}, 0, None, None, None)


def failing(call: Client) -> tuple[int, str, list[str]]:
    answer = call("GET", "/readyz", who=None)
    return answer.status_code, answer.json()["status"], [part["name"] for part in answer.json()["dependencies"] if not part["ok"]]


def test_readyz_names_failed_dependencies_while_healthz_is_ok(call: Client) -> None:
    call.engine.clouds = (cloud("victoria"), cloud("toronto", reachable=False), cloud("off", reachable=False, enabled=False))
    assert failing(call) == (200, "degraded", ["cloud atlas/toronto"])
    assert "Keystone" not in call("GET", "/readyz", who=None).text, "the caller is not authenticated"
    call.engine.pool = replace(call.engine.pool, unreachable_queues={"far.pool.test": "no answer within 20 s"})
    assert failing(call) == (200, "degraded", ["queue far.pool.test", "cloud atlas/toronto"])
    call.engine.pool = replace(call.engine.pool, reachable=False, error="collector: no answer within 20 s", unreachable_queues={})
    call.engine.clouds = (cloud("toronto", reachable=False),)
    assert failing(call) == (503, "failing", ["pool", "clouds", "cloud atlas/toronto"])
    call.engine.clouds, call.engine.pool = (), replace(call.engine.pool, reachable=True, error="")
    call.engine.database = "database x: no space left"
    assert failing(call) == (503, "failing", ["database"])
    call.engine.database, call.engine.problem = "", "another engine runs on this database"
    assert failing(call) == (503, "failing", ["engine"])
    assert call("GET", "/healthz", who=None).status_code == 200


def test_plan_shows_only_visible_groups(call: Client) -> None:
    assert call("GET", "/v1/plan").json()["at"] is None
    actions = (
        Boot("atlas", "victoria", "m1", "worker", SMALL.resources, None, Reason.DEMAND),
        Retire(vm(7).id, Reason.NO_DEMAND),
        Delete(vm(1).id, Reason.DRAINED),
    )
    foreign = Verdict(replace(DEMAND, group="belle2"), None, Reason.NOT_OURS)
    verdicts = (Verdict(DEMAND, "victoria", Reason.DEMAND, "boots", "m1", 1), foreign)
    call.engine.plan = PlanRecord(
        1000.0, replace(WORLD, vms=tuple(call.engine.rows)), Plan(actions, verdicts), ((actions[0], "could not"),)
    )
    everything = call("GET", "/v1/plan", who="viewer").json()
    assert [action["action"] for action in everything["actions"]] == ["boot", "retire", "delete"]
    assert everything["failures"] == ["could not"]
    atlas = call("GET", "/v1/plan", who="atlas").json()
    assert [action["action"] for action in atlas["actions"]] == ["boot", "delete"]
    assert [verdict["demand"]["group"] for verdict in atlas["verdicts"]] == ["atlas"]
    assert atlas["failures"] == []


def test_explain_names_failing_clause_per_cloud(call: Client) -> None:
    job = replace(DEMAND, idle=1)
    call.engine.inputs = ExplainInputs("12.0", True, 1, job, WORLD)
    found = call("GET", "/v1/explain?job=12.0", who="atlas").json()
    assert found["status"] == "idle"
    assert found["summary"]
    (cloud,) = found["clouds"]
    assert (cloud["cloud"], cloud["reason"]) == ("victoria", "requirements_mismatch")
    assert "HasGpu" in cloud["mismatches"][0]["failures"][0]["clause"]
    assert call("GET", "/v1/explain?job=12.0", who="belle").status_code == 404


def test_explain_uses_last_plan_if_it_covers_job(call: Client) -> None:
    call.engine.inputs = ExplainInputs("12.0", True, 1, replace(DEMAND, idle=1, waiting_since=5.0), WORLD)
    verdict = Verdict(DEMAND, "victoria", Reason.LIMIT_REACHED, "all 4 cores of the quota are used", "m1")
    call.engine.plan = PlanRecord(1000.0, WORLD, Plan((), (verdict,)))
    (cloud,) = call("GET", "/v1/explain?job=12.0").json()["clouds"]
    assert (cloud["reason"], cloud["sentence"]) == ("limit_reached", "all 4 cores of the quota are used")


def test_explain_reports_boots_that_could_not_start(call: Client) -> None:
    """For example without the minter: every plan boots a worker, but no boot can start."""
    call.engine.inputs = ExplainInputs("12.0", True, 1, replace(DEMAND, idle=1), WORLD)
    verdicts = (
        Verdict(DEMAND, None, Reason.DEMAND, "2 workers ordered"),
        Verdict(DEMAND, "victoria", Reason.DEMAND, "victoria: 2 ordered"),
    )
    boots = [Boot(group, "victoria", "m1", "worker", SMALL.resources, None, Reason.DEMAND) for group in ("atlas", "atlas", "belle2")]
    call.engine.plan = PlanRecord(
        1000.0, WORLD, Plan(tuple(boots), verdicts), tuple(zip(boots, ("no minter", "no minter", "other"), strict=True))
    )
    answer = call("GET", "/v1/explain?job=12.0", who="atlas").json()
    assert answer["summary"] == "2 workers ordered; but not started: no minter"
    assert [cloud["sentence"] for cloud in answer["clouds"]] == ["victoria: 2 ordered; but not started: no minter"]


@pytest.mark.parametrize(("status", "message"), [(2, "running"), (4, "finished"), (5, "too hungry")])
def test_explain_reports_job_status_from_queue(call: Client, status: int, message: str) -> None:
    call.engine.inputs = ExplainInputs("12.0", True, status, DEMAND, WORLD, hold_reason="too hungry")
    assert message in call("GET", "/v1/explain?job=12.0").json()["summary"]


@pytest.mark.parametrize(("universe", "message"), [(7, "on the submit node"), (12, "on the submit node"), (9, "another system")])
def test_explain_reports_jobs_that_need_no_worker(call: Client, universe: int, message: str) -> None:
    call.engine.inputs = ExplainInputs("12.0", True, 1, DEMAND, WORLD, universe=universe)
    answer = call("GET", "/v1/explain?job=12.0", who="atlas").json()
    assert message in answer["summary"] and "needs no worker" in answer["summary"] and answer["clouds"] == []
    call.engine.inputs = replace(call.engine.inputs, status=5, hold_reason="too hungry")
    held = call("GET", "/v1/explain?job=12.0").json()["summary"]
    assert "too hungry" in held and message in held


def test_explain_hides_foreign_and_unknown_jobs(call: Client) -> None:
    assert call("GET", "/v1/explain?job=12.0").status_code == 404
    call.engine.inputs = ExplainInputs("12.0", True, 1, None, WORLD)
    assert call("GET", "/v1/explain?job=12.0").json()["clouds"] == []
    assert call("GET", "/v1/explain?job=12.0", who="atlas").status_code == 404
    assert call("GET", "/v1/explain", params={"job": "far.pool.test#12.0"}).status_code == 200
    for job in ("", "a", "1.", "1.0;true", "-1", "9" * 40, "#1.0", "a b#1.0", "a#b#1"):
        assert call("GET", "/v1/explain", params={"job": job}).status_code == 422


def test_unreachable_pool_returns_503(call: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(job: str) -> ExplainInputs:
        raise PoolUnavailable("schedd: no answer within 10 s")

    monkeypatch.setattr(call.engine, "explain_inputs", silent)
    answer = call("GET", "/v1/explain?job=12.0")
    assert answer.status_code == 503
    assert "schedd" in answer.json()["detail"]


def test_unavailable_database_returns_503(call: Client, tmp_path: Path) -> None:
    (tmp_path / "api.db").rename(tmp_path / "away.db")
    call.runner.run(call.api.database.close())
    for method, path, body in (("GET", "/v1/groups", None), ("PUT", "/v1/groups/new", {})):
        answer = call(method, path, body)
        assert answer.status_code == 503, answer.text
        assert answer.headers["retry-after"]


def test_every_v1_path_requires_a_token(call: Client) -> None:
    schema = call("GET", "/openapi.json", who=None).json()
    asked = 0
    for path, item in schema["paths"].items():
        for method in item:
            if path.startswith("/v1/"):
                filled = path.replace("{group}", "atlas").replace("{cloud}", "c").replace("{name}", "n").replace("{vm}", vm(1).id)
                assert call(method.upper(), filled, {} if method == "put" else None, who=None).status_code == 401, path
                asked += 1
    assert asked == 25
