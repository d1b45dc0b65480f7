"""Why a job waits, explained by the planner's verdicts."""

from __future__ import annotations

from dataclasses import asdict, replace

from distcloud.scheduler.domain.model import Cloud, Demand, Flavor, Limits, Policy, Reason, Resources
from distcloud.scheduler.matching.matcher import Matcher
from distcloud.scheduler.planning.explain import explain, summary
from distcloud.scheduler.planning.planner import plan

from ..support.strategies import NOW, SUBMIT, cloud, demand, group, slot, vm

MATCHER = Matcher()
LAB = (Flavor("w512", Resources(1, 512, 2.0)), Flavor("w1024", Resources(2, 1024, 4.0)))


def explained(wanted: Demand, clouds: list[Cloud]) -> tuple[str, dict[str, tuple[Reason, str]]]:
    answer = plan([wanted], [], [], clouds, [group()], Policy(), NOW, matcher=MATCHER)
    explanations = explain(wanted, answer, clouds, [group()], MATCHER)
    return summary(wanted, answer), {each.cloud: (each.reason, each.sentence) for each in explanations}


def test_unmatchable_job_gets_failing_clause_per_cloud() -> None:
    wanted = demand(requirements=f"{SUBMIT} && (TARGET.Memory >= 4096) && (HasGPU)", request=Resources(1, 300, 0.5))
    clouds = [cloud("region-a", flavors=LAB), cloud("region-b", flavors=LAB[:1]), cloud("region-c", enabled=False), cloud("x", "belle")]
    whole, each = explained(wanted, clouds)
    assert list(each) == ["region-a", "region-b", "region-c"]
    assert each["region-a"] == (
        Reason.REQUIREMENTS_MISMATCH,
        "region-a/w1024: TARGET.Memory >= 4096 is false: the worker has 960 MiB; "
        "region-a/w1024: HasGPU is undefined: the worker does not define HasGPU",
    )
    assert each["region-b"][1].startswith("region-b/w512: TARGET.Memory >= 4096 is false: the worker has 448 MiB")
    assert each["region-c"] == (Reason.CLOUD_DISABLED, "region-c is disabled; a cloud_admin may enable it")
    assert "region-a/w1024" in whole and "region-b/w512" in whole


def test_mismatches_list_failing_clauses_per_flavor() -> None:
    wanted = demand(requirements="TARGET.Memory >= 900 && Site == 1")
    clouds = [cloud("region-a", flavors=LAB)]
    answer = plan([wanted], [], [], clouds, [group()], Policy(), NOW, matcher=MATCHER)
    (explanation,) = explain(wanted, answer, clouds, [group()], MATCHER)
    assert [(each.flavor, [failure.clause for failure in each.failures]) for each in explanation.mismatches] == [
        ("w512", ["TARGET.Memory >= 900", "Site == 1"]),
        ("w1024", ["Site == 1"]),
    ]
    assert asdict(explanation)["mismatches"][1]["failures"][0]["outcome"] == "undefined"


def test_malformed_requirements_are_reported() -> None:
    wanted = demand(requirements="((")
    answer = plan([wanted], [], [], [cloud()], [group()], Policy(), NOW, matcher=MATCHER)
    (explanation,) = explain(wanted, answer, [cloud()], [group()], MATCHER)
    assert explanation.mismatches[0].error == "the job's Requirements is not a valid ClassAd expression: (("


def test_job_with_a_requested_or_existing_worker() -> None:
    whole, each = explained(demand(), [cloud()])
    assert whole == "1 worker requested; 1 of 1 jobs have a worker"
    assert each["a"] == (Reason.DEMAND, "a: 1 worker of flavor small requested")
    here = vm()
    answer = plan([demand()], [slot(here)], [here], [cloud()], [group()], Policy(), NOW, matcher=MATCHER)
    (explanation,) = explain(demand(), answer, [cloud()], [group()], MATCHER)
    assert explanation.reason is Reason.ENOUGH_CAPACITY
    assert summary(demand(), answer).startswith("all 1 jobs fit on workers")


def test_limits_are_reported_with_numbers() -> None:
    _, each = explained(demand(), [cloud(limits=Limits(cores=0))])
    assert each["a"] == (Reason.LIMIT_REACHED, "a: the limit of the cloud is 0 cores; our VMs use 0, one more needs 1")


def test_demand_missing_from_the_plan() -> None:
    other = replace(demand(), owner="nobody")
    answer = plan([demand()], [], [], [cloud()], [group()], Policy(), NOW, matcher=MATCHER)
    assert summary(other, answer) == "no such job is waiting"
    assert "not evaluated" in explain(other, answer, [cloud()], [group()], MATCHER)[0].sentence
