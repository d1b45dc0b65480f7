"""The command `distcloud`: one subcommand per engine, imported only when it is used."""

from __future__ import annotations

import importlib
import sys

import typer

from . import __version__
from .common.terminal import escape_unencodable

ENGINES = {"scheduler": "distcloud.scheduler.cli", "report": "distcloud.report.cli"}

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Engines of hep.distcloud.", pretty_exceptions_show_locals=False)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Engines of hep.distcloud."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point. Only the engine named by the first argument is imported: others may need packages that are not installed."""
    named = sys.argv[1] if len(sys.argv) > 1 else ""
    for name, module in ENGINES.items():
        if named == name or named not in ENGINES:
            app.add_typer(importlib.import_module(module).app, name=name)
    escape_unencodable()
    app()
