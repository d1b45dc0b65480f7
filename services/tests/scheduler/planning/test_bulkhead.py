"""Planning when something of one cloud, group or job raises an error: it alone is left out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distcloud.scheduler.domain.model import Boot, Cloud, Demand, Flavor, PlanInputs, Reason, Resources, Vm
from distcloud.scheduler.matching.ad_matcher import InProcessMatcher
from distcloud.scheduler.matching.bindings import MatchingUnavailable
from distcloud.scheduler.matching.matcher import JobAd, Matcher, WorkerAd
from distcloud.scheduler.planning.bulkhead import Bulkhead

from ..support.strategies import NOW, cloud, demand, group, vm


class FragileMatcher(Matcher):
    """Raises an error for a cloud, a job, or a pair of both that is named evil."""

    error: type[Exception] = RecursionError

    def worker(self, cloud: Cloud, flavor: Flavor, alias: str | None = None, image: str = "", offer: Resources | None = None) -> WorkerAd:
        if "evil" in cloud.attributes:
            raise self.error("evil cloud")
        return super().worker(cloud, flavor, alias, image, offer)

    def job(self, demand: Demand, now: float | None = None) -> JobAd:
        if demand.owner == "evil":
            raise self.error("evil job")
        return super().job(demand, now)


class _PairMatcher(InProcessMatcher):
    def matches(self, owner: str, job: str, worker: str) -> bool:
        if owner == "pair" and "pair" in worker:
            raise ValueError("evil pair")
        return super().matches(owner, job, worker)


def world(*, clouds: list[Cloud], demands: list[Demand], vms: tuple[Vm, ...] = ()) -> PlanInputs:
    names = sorted({each.group for each in clouds} | {each.group for each in demands})
    groups = tuple(group(name=name) for name in names)
    return PlanInputs(demand=tuple(demands), clouds=tuple(clouds), groups=groups, vms=vms, now=NOW)


def booted(inputs: PlanInputs, matcher: Matcher | None = None) -> tuple[set[tuple[str, str]], list[tuple[str, str | None, str]]]:
    contained = Bulkhead().plan(inputs, matcher or FragileMatcher())
    boots = {(action.group, action.cloud) for action in contained.plan.actions if isinstance(action, Boot)}
    return boots, [(each.group, each.cloud, each.subject) for each in contained.exclusions]


EVIL = {"evil": "yes"}


def test_evil_cloud_excludes_only_itself() -> None:
    clouds = [cloud(name="a", attributes=EVIL, priority=9), cloud(name="b"), cloud(name="a", group="other")]
    demands = [demand(idle=1), demand(idle=1, group="other")]
    inputs = world(clouds=clouds, demands=demands)
    assert booted(inputs) == ({(clouds[1].group, "b"), ("other", "a")}, [(clouds[0].group, "a", "planning for the cloud")])
    verdicts = {(verdict.demand.group, verdict.cloud): verdict for verdict in Bulkhead().plan(inputs, FragileMatcher()).plan.verdicts}
    evil = verdicts[clouds[0].group, "a"]
    assert evil.reason is Reason.EXCLUDED and "RecursionError" in evil.detail


def test_vms_of_evil_cloud_are_still_retired() -> None:
    evil = cloud(attributes=EVIL)
    old = vm(group=evil.group, cloud=evil.name, requested_at=0.0, changed_at=0.0)
    contained = Bulkhead().plan(world(clouds=[evil], demands=[demand(idle=1)], vms=(old,)), FragileMatcher())
    assert [action.vm_id for action in contained.plan.actions if not isinstance(action, Boot)] == [old.id]


def test_evil_job_excludes_only_itself() -> None:
    clouds = [cloud(), cloud(group="other")]
    demands = [demand(idle=3, owner="evil"), demand(idle=1, owner="good"), demand(idle=1, owner="good", group="other")]
    boots, excluded = booted(world(clouds=clouds, demands=demands))
    assert boots == {(each.group, each.name) for each in clouds}
    assert excluded == [(clouds[0].group, None, "planning for jobs of evil")]


def test_pair_of_job_and_cloud_excludes_only_the_job() -> None:
    clouds = [cloud(name="a", attributes={"pair": "pair"}), cloud(name="b")]
    demands = [demand(idle=1, owner="pair"), demand(idle=1, owner="good")]
    boots, excluded = booted(world(clouds=clouds, demands=demands), Matcher(ad_matcher=_PairMatcher()))
    assert boots and excluded == [(clouds[0].group, None, "planning for jobs of pair")]
    only = world(clouds=clouds, demands=demands[:1])
    boots, excluded = booted(only, Matcher(ad_matcher=_PairMatcher()))
    assert boots == {(clouds[1].group, "b")} and excluded == [(clouds[0].group, "a", "planning for the cloud")]


def test_group_with_too_many_evil_jobs_is_excluded_as_a_whole() -> None:
    clouds = [cloud(), cloud(group="other")]
    evil = [demand(idle=1, owner="evil", priority=number) for number in range(400)]
    boots, excluded = booted(world(clouds=clouds, demands=[*evil, demand(idle=1, group="other")]))
    assert boots == {("other", clouds[1].name)} and excluded == [(clouds[0].group, None, "planning for the group")]


def test_error_that_concerns_everything_is_raised() -> None:
    inputs = world(clouds=[cloud()], demands=[demand(idle=1)])

    class Unavailable(FragileMatcher):
        error = MatchingUnavailable

    with pytest.raises(MatchingUnavailable):
        Bulkhead().plan(replace(inputs, clouds=(cloud(attributes=EVIL),)), Unavailable())

    class Broken(Matcher):
        def job(self, *_: object) -> None:  # type: ignore[override]
            raise ValueError("always")

    contained = Bulkhead().plan(inputs, Broken())
    assert not contained.plan.actions and contained.exclusions, "all jobs are excluded"


def test_exclusion_is_remembered_for_a_while() -> None:
    """Finding what to leave out costs many plans."""
    matcher, bulkhead = FragileMatcher(), Bulkhead()
    calls = 0
    usual = matcher.job

    def counted(demand: Demand, now: float | None = None) -> JobAd:
        nonlocal calls
        calls += 1
        return usual(demand, now)

    matcher.job = counted  # type: ignore[method-assign]
    evil, good = demand(idle=1, owner="evil"), demand(idle=1, owner="good")
    inputs = world(clouds=[cloud()], demands=[evil, good])
    assert bulkhead.plan(inputs, matcher).exclusions
    first, calls = calls, 0
    again = bulkhead.plan(replace(inputs, demand=(replace(evil, idle=7), good), now=inputs.now + 30), matcher)
    assert again.exclusions and calls == 1 < first
    fixed = replace(inputs, demand=(good,), now=inputs.now + 61)
    assert not bulkhead.plan(fixed, matcher).exclusions
