"""Helpers of the planner tests: compute one plan and select parts of it."""

from __future__ import annotations

from collections.abc import Sequence

from distcloud.scheduler.domain.model import Boot, Cloud, Delete, Demand, Group, Plan, Policy, PoolCoverage, Reason, Retire, Slot, Vm
from distcloud.scheduler.matching.matcher import Matcher
from distcloud.scheduler.planning.planner import plan

from .strategies import NOW, cloud, group

MATCHER = Matcher()
FULL_COVERAGE = PoolCoverage()
NO_THROTTLES = Policy(max_new_per_cloud_and_cycle=99, max_starting_per_cloud=99, max_idle_per_cloud=99)


def make_plan(
    wanted: Sequence[Demand] = (),
    vms: Sequence[Vm] = (),
    slots: Sequence[Slot] = (),
    clouds: Sequence[Cloud] = (),
    groups: Sequence[Group] = (),
    policy: Policy = NO_THROTTLES,
    coverage: PoolCoverage = FULL_COVERAGE,
) -> Plan:
    return plan(wanted, slots, vms, clouds or [cloud()], groups or [group()], policy, NOW, coverage=coverage, matcher=MATCHER)


def boots(answer: Plan) -> list[Boot]:
    return [action for action in answer.actions if isinstance(action, Boot)]


def reasons(answer: Plan) -> dict[str | None, Reason]:
    return {verdict.cloud: verdict.reason for verdict in answer.verdicts}


def only(answer: Plan) -> Retire | Delete:
    (action,) = answer.actions
    assert isinstance(action, Retire | Delete)
    return action
