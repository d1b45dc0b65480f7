"""The scheduler's section of the site report."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from ...common.http.auth import Caller
from ...common.http.report import Cell, Report, ReportLink, ReportProblem, ReportTable
from ...common.times import duration
from ..domain.records import VmDetail
from ..engine.view import EngineView
from .responses import status_response
from .schemas import StatusResponse

MAX_VMS = 1000
CLOUD_COLUMNS = ["group", "cloud", "region", "state", "VMs", "foreign VMs", "VM quota", "error"]
VM_COLUMNS = ["id", "state", "group", "cloud", "flavor", "age", "reason"]


async def scheduler_report(view: EngineView, caller: Caller) -> Report:
    """Problems, clouds and live VMs that the caller may read."""
    status = status_response(view.status(), caller)
    page = await view.vms(groups=None if caller.groups is None else sorted(caller.groups), limit=MAX_VMS)
    # What a cloud that has not been observed yet would report is unknown.
    clouds: list[list[Cell]] = [
        [
            cloud.group,
            cloud.cloud,
            cloud.region,
            cloud.condition,
            sum(cloud.vms.values()),
            "?" if cloud.observed_at is None else cloud.foreign_vms,
            "?" if cloud.observed_at is None else cloud.quota_vms,
            cloud.error,
        ]
        for cloud in status.clouds
    ]
    title = "Virtual machines" if page.cursor is None else f"Virtual machines (the newest {MAX_VMS})"
    return Report(
        title="Cloud Scheduler",
        problems=list(_problems(status)),
        tables=[
            ReportTable(title="Clouds", columns=CLOUD_COLUMNS, rows=clouds),
            ReportTable(title=title, columns=VM_COLUMNS, rows=_vm_rows(page.vms, time.time())),
        ],
        links=[ReportLink(text="API of the Cloud Scheduler", url="/docs"), ReportLink(text="Metrics", url="/metrics")],
    )


def _problems(status: StatusResponse) -> Iterator[ReportProblem]:
    """Whatever needs an operator. Disabled clouds are intended; a paused one has its reason in `error`."""
    if not status.healthy:
        yield ReportProblem(name="engine", detail=status.problem)
    if not status.pool.reachable:
        yield ReportProblem(name="pool", detail=status.pool.error or "not queried yet")
    if status.minter:
        yield ReportProblem(name="minter", detail=status.minter)
    for name, error in sorted(status.pool.unreachable_queues.items()):
        yield ReportProblem(name=f"queue {name}", detail=error)
    for cloud in status.clouds:
        if cloud.enabled and (cloud.error or not cloud.reachable):
            yield ReportProblem(name=f"cloud {cloud.group}/{cloud.cloud}", detail=cloud.error or "unreachable")
    for each in status.exclusions:
        place = f"cloud {each.group}/{each.cloud}" if each.cloud else f"group {each.group}"
        yield ReportProblem(name=place, detail=f"left out: {each.subject}: {each.reason}")


def _vm_rows(vms: Iterable[VmDetail], now: float) -> list[list[Cell]]:
    return [
        [
            found.vm.id,
            found.vm.state.value,
            found.vm.group,
            found.vm.cloud,
            found.vm.flavor,
            duration(now - found.vm.requested_at),
            found.vm.reason,
        ]
        for found in vms
    ]
