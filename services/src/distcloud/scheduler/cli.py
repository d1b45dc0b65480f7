"""`distcloud scheduler`: runs the service and queries a running one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from ..common.apiclient import ApiClient, CallError, client_settings
from ..common.config import ConfigError
from . import cli_tables
from .settings import DEFAULT_PATH, load_settings

MISCONFIGURED = 2
FAILED = 1

app = typer.Typer(no_args_is_help=True, help="The Cloud Scheduler: boots workers for waiting jobs.", pretty_exceptions_show_locals=False)

Config = Annotated[Path, typer.Option("--config", help="Configuration file of the service.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the response of the API as JSON.")]


@app.command()
def run(config: Config = DEFAULT_PATH) -> None:
    """Migrate the database, then run the service until it receives a stop signal."""
    with report_errors():
        _start("run", config)


@app.command()
def migrate(config: Config = DEFAULT_PATH) -> None:
    """Migrate the database to the schema of this version."""
    with report_errors():
        _start("migrate", config)


@app.command()
def check(config: Config = DEFAULT_PATH) -> None:
    """Validate a configuration file without reading the files that it names."""
    with report_errors():
        load_settings(config)


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show the status of the engine, the pool and each cloud."""
    _print(lambda api: api.get("/v1/status"), as_json, cli_tables.status)


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

    def fetch(api: ApiClient) -> dict[str, Any]:
        found: list[Any] = []
        cursor: str | None = None
        while len(found) < limit:
            page = api.get("/v1/vms", state=state, cloud=cloud, limit=min(1000, limit - len(found)), cursor=cursor)
            found += page["vms"]
            cursor = page["cursor"]
            if cursor is None:
                break
        return {"vms": found, "cursor": cursor}

    _print(fetch, as_json, cli_tables.vms)


@app.command()
def totals(as_json: AsJson = False) -> None:
    """Count the current and former VMs of each cloud."""
    _print(lambda api: api.get("/v1/totals"), as_json, cli_tables.totals)


@app.command()
def explain(job: Annotated[str, typer.Argument(help="CLUSTER.PROC, as condor_q shows it.")], as_json: AsJson = False) -> None:
    """Explain for each cloud why a job waits."""
    _print(lambda api: api.get("/v1/explain", job=job), as_json, cli_tables.explanation)


@app.command()
def retire(vm: Annotated[str, typer.Argument(help="Id of the VM (vm-...).")], as_json: AsJson = False) -> None:
    """Retire a VM: it finishes its jobs and is then deleted."""
    if not vm.startswith("vm-") or "/" in vm:
        raise typer.BadParameter("should be the id of a VM, such as vm-abcdefghijklmnop")
    _print(lambda api: api.post(f"/v1/vms/{vm}/retire"), as_json, cli_tables.retired)


def _print(fetch: Callable[[ApiClient], Any], as_json: bool, table: Callable[[Any, Console], None]) -> None:
    with report_errors(), ApiClient(client_settings()) as api:
        answer = fetch(api)
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
    else:
        table(answer, cli_tables.console())


def _start(what: Literal["run", "migrate"], config: Path) -> None:
    """Start the service. Its code is imported only here: it needs HTCondor's bindings, which the other commands do not."""
    from ..common.logs import configure

    settings = load_settings(config)
    configure(settings.log)
    from . import service

    try:
        service.run(settings) if what == "run" else service.migrate(settings)
    except service.ServiceError as error:
        raise ConfigError(str(error)) from error


@contextmanager
def report_errors() -> Iterator[None]:
    """Report expected errors on standard error instead of a traceback."""
    try:
        yield
    except ConfigError as error:
        typer.echo(f"distcloud: {error}", err=True)
        raise typer.Exit(MISCONFIGURED) from error
    except CallError as error:
        typer.echo(f"distcloud: {error}", err=True)
        raise typer.Exit(FAILED) from error
