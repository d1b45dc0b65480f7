"""Explain why a job waits, from the engine's view of the job and the planner's decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from ...common.http.auth import Caller
from ...common.http.problems import Problem
from ..domain.model import Boot, Demand, Reason
from ..engine.view import EngineView, ExplainInputs, PlanRecord
from ..matching.bindings import MatchingUnavailable
from ..matching.matcher import Matcher
from ..planning.bulkhead import Bulkhead
from ..planning.explain import Explanation, explain, summary
from ..pool.base import PoolUnavailable
from ..pool.demand import GRID, LOCAL, SCHEDULER
from . import responses
from .schemas import ExplanationResponse

STATUS = {1: "idle", 2: "running", 3: "removed", 4: "completed", 5: "held", 6: "transferring output", 7: "suspended"}
_NO_WORKER = {
    SCHEDULER: "The job is in the scheduler universe: it runs on the submit node (as DAGMan does) and needs no worker.",
    GRID: "The job is in the grid universe: the submit node forwards it to another system, and it needs no worker here.",
    LOCAL: "The job is in the local universe: it runs on the submit node and needs no worker.",
}


class Explainer:
    """Explains one job at a time, in a thread: matching many clouds takes time and must not block the engine."""

    def __init__(self, view: EngineView, matcher: Matcher) -> None:
        self._view = view
        self._matcher = matcher
        self._lock = asyncio.Lock()

    async def explain(self, caller: Caller, job: str) -> ExplanationResponse:
        """Raises Problem 404 for a job that is unknown or of a group the caller may not read, 503 if the pool does not answer."""
        try:
            async with self._lock:  # the engine uses the same subprocess to query the queue
                inputs = await self._view.explain_inputs(job)
        except PoolUnavailable as error:
            raise Problem(503, "pool", f"the pool did not answer: {error}", headers={"Retry-After": "10"}) from error
        hidden = not caller.sees(inputs.demand.group) if inputs.demand is not None else caller.groups is not None
        if not inputs.found or hidden:
            detail = f"the queue has no job {job}, or it belongs to a group that you may not read; look it up in condor_history"
            raise Problem(404, "no-such-job", detail)
        sentence, judged = "", list[Explanation]()
        if inputs.demand is not None and inputs.universe not in _NO_WORKER:
            try:
                async with self._lock:
                    sentence, judged = await asyncio.to_thread(self._judge, inputs, inputs.demand, self._view.last_plan())
            except MatchingUnavailable as error:
                raise Problem(503, "matching", str(error), headers={"Retry-After": "10"}) from error
        return ExplanationResponse(
            job=inputs.job,
            status=STATUS.get(inputs.status or 0, "unknown"),
            demand=None if inputs.demand is None else responses.demand_response(inputs.demand),
            summary=_summary(inputs) or sentence,
            clouds=[responses.explanation_response(explanation) for explanation in judged],
        )

    def _judge(self, inputs: ExplainInputs, job: Demand, last: PlanRecord | None) -> tuple[str, list[Explanation]]:
        """The last plan's decision on jobs like this one; for a job that is newer than the plan, the result of a plan for it alone."""
        world, judged, demand = inputs.world, None, job
        not_started: dict[str, str] = {}
        if last is not None:
            demand = _matching_row(job, last.world.demand) or job
            if demand is not job:
                world, judged = last.world, last.plan
                boots = ((action, why) for action, why in last.failures if isinstance(action, Boot))
                not_started = {boot.cloud: f"; but not started: {why}" for boot, why in boots if boot.group == job.group}
        if judged is None:
            demand = replace(job, idle=max(1, job.idle))
            judged = Bulkhead().plan(replace(world, demand=(demand,)), self._matcher).plan
        explanations = explain(demand, judged, world.clouds, world.groups, self._matcher)
        failures = {
            each.cloud: not_started[each.cloud] for each in explanations if each.reason is Reason.DEMAND and each.cloud in not_started
        }
        explanations = [replace(each, sentence=each.sentence + failures.get(each.cloud, "")) for each in explanations]
        return summary(demand, judged) + "".join(dict.fromkeys(failures.values())), explanations


def _matching_row(job: Demand, rows: Sequence[Demand]) -> Demand | None:
    """The demand row that includes this job."""
    job_class = _job_class(job)
    return next((row for row in rows if _job_class(row) == job_class), None)


def _job_class(demand: Demand) -> Demand:
    return replace(demand, idle=0, running=0, waiting_since=None)


def _summary(inputs: ExplainInputs) -> str:
    """The explanation that follows from the queue alone; empty for a job that waits for a worker."""
    if inputs.universe in _NO_WORKER:
        held = f"The job is held: {inputs.hold_reason or 'no reason given'}. " if inputs.status == 5 else ""
        return held + _NO_WORKER[inputs.universe]
    if inputs.demand is None:
        return "The job is not for this scheduler: it names no group (DistcloudGroup, or group_name in its Requirements)."
    if inputs.status == 5:
        return f"The job is held: {inputs.hold_reason or 'no reason given'}. Release it (condor_release) and it can get a worker."
    if inputs.status == 2:
        return "The job is running."
    if inputs.status in (3, 4):
        return "The job is finished; it needs no worker."
    return ""
