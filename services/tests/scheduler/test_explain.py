"""Why a job waits, explained by the planner's own verdicts."""

from __future__ import annotations

from dataclasses import asdict, replace

from distcloud.scheduler.domain.model import Cloud, Demand, Flavor, Limits, Policy, Reason, Resources
from distcloud.scheduler.matching.matcher import Matcher
from distcloud.scheduler.planning.explain import explain, summary
from distcloud.scheduler.planning.planner import plan

from .support.strategies import NOW, SUBMIT, cloud, demand, group, slot, vm

MATCHER = Matcher()
LAB = (Flavor("w512", Resources(1, 512, 2.0)), Flavor("w1024", Resources(2, 1024, 4.0)))


def explained(wanted: Demand, clouds: list[Cloud]) -> tuple[str, dict[str, tuple[Reason, str]]]:
    answer = plan([wanted], [], [], clouds, [group()], Policy(), NOW, matcher=MATCHER)
    explanations = explain(wanted, answer, clouds, [group()], MATCHER)
    return summary(wanted, answer), {each.cloud: (each.reason, each.sentence) for each in explanations}


def test_a_job_that_can_never_match_is_told_which_requirement_fails_on_which_cloud() -> None:
    wanted = demand(requirements=f"{SUBMIT} && (TARGET.Memory >= 4096) && (HasGPU)", request=Resources(1, 300, 0.5))
    clouds = [cloud("region-a", flavors=LAB), cloud("region-b", flavors=LAB[:1]), cloud("region-c", enabled=False), cloud("x", "belle")]
    whole, each = explained(wanted, clouds)
    assert list(each) == ["region-a", "region-b", "region-c"]
    assert each["region-a"] == (
        Reason.REQUIREMENTS_MISMATCH,
        "region-a/w1024: TARGET.Memory >= 4096 is false: the worker has 960 MiB; "
        "region-a/w1024: HasGPU is undefined: the worker does not say HasGPU",
    )
    assert each["region-b"][1].startswith("region-b/w512: TARGET.Memory >= 4096 is false: the worker has 448 MiB")
    assert each["region-c"] == (Reason.CLOUD_DISABLED, "region-c is disabled; a cloud_admin may enable it")
    assert "region-a/w1024" in whole and "region-b/w512" in whole


def test_each_flavor_is_told_with_its_clauses_as_plain_data() -> None:
    wanted = demand(requirements="TARGET.Memory >= 900 && Site == 1")
    clouds = [cloud("region-a", flavors=LAB)]
    answer = plan([wanted], [], [], clouds, [group()], Policy(), NOW, matcher=MATCHER)
    (explanation,) = explain(wanted, answer, clouds, [group()], MATCHER)
    assert [(each.flavor, [failure.clause for failure in each.failures]) for each in explanation.mismatches] == [
        ("w512", ["TARGET.Memory >= 900", "Site == 1"]),
        ("w1024", ["Site == 1"]),
    ]
    assert asdict(explanation)["mismatches"][1]["failures"][0]["outcome"] == "undefined"


def test_requirements_that_cannot_be_read_are_told_as_such() -> None:
    wanted = demand(requirements="((")
    answer = plan([wanted], [], [], [cloud()], [group()], Policy(), NOW, matcher=MATCHER)
    (explanation,) = explain(wanted, answer, [cloud()], [group()], MATCHER)
    assert explanation.mismatches[0].error == "the job's Requirements is no ClassAd expression: (("


def test_a_job_for_which_a_worker_was_ordered_or_is_there() -> None:
    whole, each = explained(demand(), [cloud()])
    assert whole == "1 worker ordered; 1 of 1 jobs have room or will"
    assert each["a"] == (Reason.DEMAND, "a: 1 worker of flavor small ordered")
    here = vm()
    answer = plan([demand()], [slot(here)], [here], [cloud()], [group()], Policy(), NOW, matcher=MATCHER)
    (explanation,) = explain(demand(), answer, [cloud()], [group()], MATCHER)
    assert explanation.reason is Reason.ENOUGH_CAPACITY
    assert summary(demand(), answer).startswith("all 1 jobs have room")


def test_limits_are_told_in_figures() -> None:
    _, each = explained(demand(), [cloud(limits=Limits(cores=0))])
    assert each["a"] == (Reason.LIMIT_REACHED, "a: the limit of the cloud is 0 cores; ours use 0, one more needs 1")


def test_a_demand_that_is_not_in_the_plan() -> None:
    other = replace(demand(), owner="nobody")
    answer = plan([demand()], [], [], [cloud()], [group()], Policy(), NOW, matcher=MATCHER)
    assert summary(other, answer) == "no job of this kind waits"
    assert "not asked" in explain(other, answer, [cloud()], [group()], MATCHER)[0].sentence
