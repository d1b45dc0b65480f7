"""The command line that every engine has: `run`, `migrate`, `check` and `create-key`, and helpers for calls of the API."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import BaseModel

from ..config import ConfigError, EngineSettings, config_path, load
from ..text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from .apiclient import ApiClient

FAILED = 1
MISCONFIGURED = 2
INCOMPATIBLE = os.EX_CONFIG  # the unit of an engine does not restart it after this one

Config = Annotated[Path, typer.Option("--config", help="Configuration of the service.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the response as JSON.")]

Model = TypeVar("Model", bound=BaseModel)


class CommandError(Exception):
    """The command failed for a reason that the message explains to its user."""


class IncompatibleError(Exception):
    """This release cannot use what it found on the host; an operator has to act."""


def engine_app(help: str, settings: type[EngineSettings], service: str) -> typer.Typer:
    """The Typer application of an engine.

    `service` names the module whose `service` is the engine's `Service`. It is imported only by commands that need it: the others
    work on a host without the engine's libraries.
    """
    app = typer.Typer(no_args_is_help=True, help=help, pretty_exceptions_show_locals=False)
    default = config_path(settings.ENGINE)

    @app.command()
    def run(config: Config = default) -> None:
        """Migrate the database, then run the service until SIGTERM."""
        with report_errors():
            _call(service, "run", config, settings)

    @app.command()
    def migrate(config: Config = default) -> None:
        """Migrate the database to the schema of this version."""
        with report_errors():
            _call(service, "migrate", config, settings)

    @app.command()
    def check(config: Config = default) -> None:
        """Check a configuration file, without reading the files that it names."""
        with report_errors():
            load(config, settings)

    @app.command()
    def create_key(file: Annotated[Path, typer.Argument(help="File to create, with mode 0600.")]) -> None:
        """Create an encryption key for the secrets in the database; an existing file is never replaced."""
        from ..secretbox import SecretBox

        with report_errors():
            try:
                SecretBox.create_file(file)
            except FileExistsError as error:
                raise CommandError(f"{file}: exists already; secrets encrypted with another key could not be decrypted") from error
            except OSError as error:
                raise CommandError(f"{file}: cannot be created: {error.strerror}") from error

    @app.command()
    def report(as_json: AsJson = False) -> None:
        """Show the engine's section of the site report: problems, tables and links."""
        from ..http.report import Report, print_report

        show(settings.ENGINE, lambda api: api.get("/v1/report", Report), as_json, print_report)

    return app


def _call(service: str, method: str, config: Path, settings: type[EngineSettings]) -> None:
    from ..logs import configure

    loaded = load(config, settings)
    configure(loaded.log)
    from ..service import IncompatibleDatabase, ServiceError

    try:
        getattr(importlib.import_module(service).service, method)(loaded)
    except IncompatibleDatabase as error:
        raise IncompatibleError(str(error)) from error
    except ServiceError as error:
        raise ConfigError(str(error)) from error


def show(engine: str, ask: Callable[[ApiClient], Model], as_json: bool, table: Callable[[Model, Console], None]) -> None:
    """Call the API of an engine and print the response, as JSON or by `table`."""
    from ..terminal import console
    from .apiclient import ApiClient, client_settings

    with report_errors(), ApiClient(engine, client_settings(engine)) as api:
        response = ask(api)
    if as_json:
        # Escaped to ASCII: a terminal would obey some characters that users wrote.
        typer.echo(json.dumps(response.model_dump(mode="json", by_alias=True), indent=2))
    else:
        table(response, console())


@contextmanager
def report_errors() -> Iterator[None]:
    """Print errors that the user can fix on standard error instead of a traceback; sets the exit code."""
    from .apiclient import CallError

    codes: dict[type[Exception], Any] = {
        ConfigError: MISCONFIGURED,
        IncompatibleError: INCOMPATIBLE,
        CallError: FAILED,
        CommandError: FAILED,
    }
    try:
        yield
    except tuple(codes) as error:
        # A service's message may quote what others wrote, which a terminal would obey: it gets one line and no control characters.
        lines = [str(error)] if isinstance(error, CallError) else str(error).splitlines()
        typer.echo("distcloud: " + "\n".join(printable(line) for line in lines), err=True)
        raise typer.Exit(codes[type(error)]) from error
