"""Command line of the site report: `distcloud report render` writes it, `distcloud report show` prints it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..common.files import write_if_changed
from ..common.terminal import console
from . import page, summary, tables

_LATEST = 20

app = typer.Typer(no_args_is_help=True, help="The site report: as a page, as JSON, as tables.")


@app.callback()
def report() -> None:
    """The site report: as a page, as JSON, as tables."""


@app.command()
def render(
    raw: Annotated[
        typer.FileBinaryRead, typer.Argument(help="Collected facts as JSON (see distcloud.report.summary.build); - is standard input.")
    ],
    out: Annotated[Path, typer.Argument(help="Directory to write summary.json and index.html to.")],
) -> None:
    """Write summary and page; an unchanged file is not rewritten."""
    name = getattr(raw, "name", "<stdin>")
    try:
        made = summary.build(_parsed(raw.read, name))
    except summary.SummaryError as error:
        raise typer.BadParameter(f"{name}: {error}") from None
    text = {"summary.json": json.dumps(made, indent=2, sort_keys=True) + "\n", "index.html": page.render(made)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        changed = [write_if_changed(out / file, content) for file, content in text.items()]
    except OSError as error:
        raise typer.BadParameter(f"{out}: cannot be written: {error.strerror}") from None
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
    # A pipe has no width: lines stay unbroken for grep.
    tables.show(loaded, console(), limit=_LATEST if sys.stdout.isatty() and not show_all else None)


def _load(path: Path) -> dict[str, Any]:
    try:
        return _parsed(path.read_bytes, str(path))
    except FileNotFoundError:
        raise typer.BadParameter(f"{path} does not exist; run `make site` or `make status` to write it") from None


def _parsed(read: Callable[[], bytes], name: str) -> dict[str, Any]:
    try:
        loaded = json.loads(read().decode("utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise typer.BadParameter(f"{name}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{name} is not UTF-8 text (byte {error.start})") from None
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{name} is not JSON: {error}") from None
    if not isinstance(loaded, dict):
        raise typer.BadParameter(f"{name}: should be a JSON object")
    return loaded
