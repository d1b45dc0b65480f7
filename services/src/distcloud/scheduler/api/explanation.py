"""Answers why one job waits: asks the engine for the job, and the planner for its judgement of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...common.auth import Caller
from ...common.problems import Problem
from ..domain.model import Boot, Demand, Reason
from ..engine.view import EngineView, ExplainInputs, PlanRecord
from ..matching.bindings import MatchingUnavailable
from ..matching.matcher import Matcher
from ..planning.explain import Explanation, explain, summary
from ..planning.planner import plan_from
from ..pool.base import PoolUnavailable
from ..pool.demand import GRID, LOCAL, SCHEDULER
from . import responses as shapes

STATUS = {1: "idle", 2: "running", 3: "removed", 4: "completed", 5: "held", 6: "transferring output", 7: "suspended"}
_NO_WORKER = {
    SCHEDULER: "The job is of the scheduler universe: it runs on the submit node itself (as DAGMan does) and needs no worker.",
    GRID: "The job is of the grid universe: the submit node hands it to another system, and it needs no worker here.",
    LOCAL: "The job is of the local universe: it runs on the submit node itself and needs no worker.",
}


class Explainer:
    """Explains one job at a time, in a thread: matching many clouds takes a while and must not hold up the engine."""

    def __init__(self, view: EngineView, matcher: Matcher) -> None:
        self._view = view
        self._matcher = matcher
        self._turn = asyncio.Lock()

    async def explain(self, caller: Caller, job: str) -> dict[str, Any]:
        """Raises 404 for a job that is unknown or of a group the caller does not see, 503 when the pool does not answer."""
        try:
            async with self._turn:  # the queue is asked by the process that the engine needs as well
                inputs = await self._view.explain_inputs(job)
        except PoolUnavailable as error:
            raise Problem(503, "pool", f"the pool did not answer: {error}", headers={"Retry-After": "10"}) from error
        hidden = not caller.sees(inputs.demand.group) if inputs.demand is not None else caller.groups is not None
        if not inputs.found or hidden:
            detail = f"the queue has no job {job}, or it is of a group that is not yours; condor_history may know it"
            raise Problem(404, "no-such-job", detail)
        sentence, judged = "", list[Explanation]()
        if inputs.demand is not None and inputs.universe not in _NO_WORKER:
            try:
                async with self._turn:
                    sentence, judged = await asyncio.to_thread(self._judge, inputs, inputs.demand, self._view.last_plan())
            except MatchingUnavailable as error:
                raise Problem(503, "matching", str(error), headers={"Retry-After": "10"}) from error
        return {
            "job": inputs.job,
            "status": STATUS.get(inputs.status or 0, "unknown"),
            "demand": None if inputs.demand is None else shapes.demand(inputs.demand),
            "summary": _summary(inputs) or sentence,
            "clouds": [shapes.explanation(explanation) for explanation in judged],
        }

    def _judge(self, inputs: ExplainInputs, job: Demand, last: PlanRecord | None) -> tuple[str, list[Explanation]]:
        """What the last plan said of jobs like this one; for a job that came after it, what a plan for it alone would say."""
        world, judged, demand = inputs.world, None, job
        unbegun: dict[str, str] = {}
        if last is not None:
            demand = _alike(job, last.world.demand) or job
            if demand is not job:
                world, judged = last.world, last.plan
                boots = ((action, why) for action, why in last.failures if isinstance(action, Boot))
                unbegun = {boot.cloud: f"; but not begun: {why}" for boot, why in boots if boot.group == job.group}
        if judged is None:
            demand = replace(job, idle=max(1, job.idle))
            judged = plan_from(replace(world, demand=(demand,)), self._matcher)
        told = explain(demand, judged, world.clouds, world.groups, self._matcher)
        hindered = {each.cloud: unbegun[each.cloud] for each in told if each.reason is Reason.DEMAND and each.cloud in unbegun}
        told = [replace(each, sentence=each.sentence + hindered.get(each.cloud, "")) for each in told]
        return summary(demand, judged) + "".join(dict.fromkeys(hindered.values())), told


def _alike(job: Demand, rows: Sequence[Demand]) -> Demand | None:
    """The row that counts this job among its own."""
    kind = _kind(job)
    return next((row for row in rows if _kind(row) == kind), None)


def _kind(demand: Demand) -> Demand:
    return replace(demand, idle=0, running=0, waiting_since=None)


def _summary(inputs: ExplainInputs) -> str:
    """What the queue alone already says; empty for a job that waits for a worker."""
    if inputs.universe in _NO_WORKER:
        held = f"The job is held: {inputs.hold_reason or 'no reason given'}. " if inputs.status == 5 else ""
        return held + _NO_WORKER[inputs.universe]
    if inputs.demand is None:
        return "The job is not for this scheduler: it is in no group (DistcloudGroup, or group_name in its Requirements)."
    if inputs.status == 5:
        return f"The job is held: {inputs.hold_reason or 'no reason given'}. Release it (condor_release) and it can get a worker."
    if inputs.status == 2:
        return "The job is running."
    if inputs.status in (3, 4):
        return "The job is finished; it needs no worker."
    return ""
