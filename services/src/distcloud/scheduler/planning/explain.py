"""Why a job waits: the planner's verdicts, with the clauses of its requirements that fail on each cloud."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..domain.model import Cloud, Demand, Flavor, Group, Plan, Reason, Verdict
from ..matching.clauses import Failure
from ..matching.matcher import Matcher
from .eligibility import value_for_cloud


@dataclass(frozen=True, slots=True)
class FlavorMismatch:
    """The clauses that fail on workers of one flavor."""

    flavor: str
    failures: tuple[Failure, ...]
    error: str = ""  # the requirements cannot be parsed


@dataclass(frozen=True, slots=True)
class Explanation:
    """One cloud's verdict on a job: the planner's reason, a sentence for people and, for a mismatch, what fails on each flavor."""

    cloud: str
    reason: Reason
    sentence: str
    flavor: str | None = None
    mismatches: tuple[FlavorMismatch, ...] = ()


def explain(demand: Demand, plan: Plan, clouds: Iterable[Cloud], groups: Iterable[Group], matcher: Matcher) -> list[Explanation]:
    """One explanation per cloud of the demand's group, by name. `plan` must have been computed with this demand."""
    mine = sorted((cloud for cloud in clouds if cloud.group == demand.group), key=lambda cloud: cloud.name)
    verdicts = {verdict.cloud: verdict for verdict in plan.verdicts if verdict.demand == demand}
    image = {group.name: group.default_image for group in groups}.get(demand.group)
    return [_one(demand, cloud, verdicts.get(cloud.name), verdicts.get(None), image, matcher) for cloud in mine]


def summary(demand: Demand, plan: Plan) -> str:
    """The overall verdict in one sentence."""
    verdict = next((verdict for verdict in plan.verdicts if verdict.demand == demand and verdict.cloud is None), None)
    if verdict is None:
        return "no such job is waiting"
    return verdict.detail


def _one(
    demand: Demand, cloud: Cloud, verdict: Verdict | None, overall: Verdict | None, image: str | None, matcher: Matcher
) -> Explanation:
    if verdict is None:
        detail = overall.detail if overall else "no such job is waiting"
        return Explanation(cloud.name, overall.reason if overall else Reason.ENOUGH_CAPACITY, f"{cloud.name}: not evaluated; {detail}")
    if verdict.reason is not Reason.REQUIREMENTS_MISMATCH:
        return Explanation(cloud.name, verdict.reason, verdict.detail, verdict.flavor)
    image = value_for_cloud(demand.image, cloud.name) or cloud.default_image or image or ""
    mismatches = tuple(_mismatches(demand, cloud, image, matcher))
    return Explanation(cloud.name, verdict.reason, verdict.detail, verdict.flavor, mismatches)


def _mismatches(demand: Demand, cloud: Cloud, image: str, matcher: Matcher) -> Iterable[FlavorMismatch]:
    for flavor in sorted(cloud.flavors, key=_size):
        match = matcher.match(demand, cloud, flavor, demand.alias, image)
        if not match.ok:
            yield FlavorMismatch(flavor.name, match.failures, "" if match.failures else match.detail)


def _size(flavor: Flavor) -> tuple[int, int, float, str]:
    return (flavor.resources.cores, flavor.resources.ram_mib, flavor.resources.disk_gib, flavor.name)
