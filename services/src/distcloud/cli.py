"""The command `distcloud`: one sub-command per engine, loaded only when it is asked for."""

from __future__ import annotations

import importlib
import sys

import typer

from . import __version__

ENGINES = {"scheduler": "distcloud.scheduler.cli", "report": "distcloud.report.cli"}

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Engines of hep.distcloud.", pretty_exceptions_show_locals=False)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    """Engines of hep.distcloud."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point. Only the engine named first is imported: the others may need what is not installed here."""
    named = sys.argv[1] if len(sys.argv) > 1 else ""
    for name, module in ENGINES.items():
        if named == name or named not in ENGINES:
            app.add_typer(importlib.import_module(module).app, name=name)
    app()
