"""`distcloud scheduler`: runs the service and queries a running one."""

from __future__ import annotations

from typing import Annotated

import typer

from ..common.cli.apiclient import ApiClient
from ..common.cli.commands import AsJson, engine_app, show
from . import cli_tables
from .api.schemas import ExplanationResponse, RetireResponse, StatusResponse, TotalsResponse, VmListResponse, VmResponse
from .settings import SchedulerSettings

ENGINE = SchedulerSettings.ENGINE
PAGE = 1000

app = engine_app("The Cloud Scheduler: boots workers for waiting jobs.", SchedulerSettings, "distcloud.scheduler.service")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show the status of the engine, the pool and each cloud."""
    show(ENGINE, lambda api: api.get("/v1/status", StatusResponse), as_json, cli_tables.status)


@app.command()
def vms(
    state: Annotated[
        list[str] | None, typer.Option(help="Only VMs in this state; may be repeated. Default: every state except gone.")
    ] = None,
    cloud: Annotated[str | None, typer.Option(help="Only VMs on this cloud.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number of VMs to show.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """List VMs, newest first."""

    def fetch(api: ApiClient) -> VmListResponse:
        found: list[VmResponse] = []
        cursor: str | None = None
        while len(found) < limit:
            rest = min(PAGE, limit - len(found))
            page = api.get("/v1/vms", VmListResponse, state=state, cloud=cloud, limit=rest, cursor=cursor)
            found += page.vms
            cursor = page.cursor
            if cursor is None:
                break
        return VmListResponse(vms=found, cursor=cursor)

    show(ENGINE, fetch, as_json, cli_tables.vms)


@app.command()
def totals(as_json: AsJson = False) -> None:
    """Count the current and former VMs of each cloud."""
    show(ENGINE, lambda api: api.get("/v1/totals", TotalsResponse), as_json, cli_tables.totals)


@app.command()
def explain(job: Annotated[str, typer.Argument(help="CLUSTER.PROC, as condor_q shows it.")], as_json: AsJson = False) -> None:
    """Explain for each cloud why a job waits."""
    show(ENGINE, lambda api: api.get("/v1/explain", ExplanationResponse, job=job), as_json, cli_tables.explanation)


@app.command()
def retire(vm: Annotated[str, typer.Argument(help="Id of the VM (vm-...).")], as_json: AsJson = False) -> None:
    """Retire a VM: it finishes its jobs and is then deleted."""
    if not vm.startswith("vm-") or "/" in vm:
        raise typer.BadParameter("should be the id of a VM, such as vm-abcdefghijklmnop")
    show(ENGINE, lambda api: api.post(f"/v1/vms/{vm}/retire", RetireResponse), as_json, cli_tables.retired)
