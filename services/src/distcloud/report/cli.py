"""Command line of the site report: `distcloud report render` writes it, `distcloud report show` prints it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..common.files import write_if_changed
from . import page, summary, tables

_LATEST = 20

app = typer.Typer(no_args_is_help=True, help="The site report: as a page, as JSON, as tables.")


@app.callback()
def report() -> None:
    """The site report: as a page, as JSON, as tables."""


@app.command()
def render(
    raw: Annotated[
        typer.FileText, typer.Argument(help="Collected facts as JSON (see distcloud.report.summary.build); - is standard input.")
    ],
    out: Annotated[Path, typer.Argument(help="Directory to write summary.json and index.html to.")],
) -> None:
    """Write summary and page; an unchanged file is not rewritten."""
    try:
        made = summary.build(_parsed(raw.read, raw.name))
    except summary.SummaryError as error:
        raise typer.BadParameter(str(error)) from None
    out.mkdir(parents=True, exist_ok=True)
    changed = [
        write_if_changed(out / "summary.json", json.dumps(made, indent=2, sort_keys=True) + "\n"),
        write_if_changed(out / "index.html", page.render(made)),
    ]
    typer.echo("changed" if any(changed) else "unchanged")


@app.command()
def show(
    made: Annotated[Path, typer.Argument(help="Path of a summary.json.")],
    show_all: Annotated[bool, typer.Option("--all", help="Print every finished job and worker, even on a terminal.")] = False,
) -> None:
    """Print the summary as tables; a terminal gets only the latest of many rows."""
    loaded = _load(made)
    try:
        summary.check(loaded)
    except summary.SummaryError as error:
        raise typer.BadParameter(f"{made} was written by another version ({error}); run `make status` to write it again") from None
    if sys.stdout.isatty():
        tables.show(loaded, Console(), limit=None if show_all else _LATEST)
    else:
        # A pipe has no width: lines stay unbroken for grep.
        tables.show(loaded, Console(width=10_000))


def _load(path: Path) -> dict[str, Any]:
    try:
        return _parsed(lambda: path.read_text("utf-8"), str(path))
    except FileNotFoundError:
        raise typer.BadParameter(f"{path} does not exist; run `make site` or `make status` to write it") from None


def _parsed(read: Callable[[], str], name: str) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = json.loads(read())
    except ValueError as error:  # also for bytes that are not UTF-8
        raise typer.BadParameter(f"{name} is not JSON: {error}") from None
    return loaded
