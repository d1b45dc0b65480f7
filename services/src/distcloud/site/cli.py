"""Command line of the site's summary: `distcloud site render` writes it, `distcloud site show` prints it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from . import page, summary, tables

app = typer.Typer(no_args_is_help=True, help="The summary of a site: as a page, as JSON, as tables.")


@app.callback()
def site() -> None:
    """Keep `render` and `show` as sub-commands."""


@app.command()
def render(
    raw: Annotated[Path, typer.Argument(help="What was collected, as JSON (see distcloud.site.summary.build).")],
    out: Annotated[Path, typer.Argument(help="Directory that gets summary.json and index.html.")],
) -> None:
    """Write the summary and its page; a file that would not change is left alone."""
    made = summary.build(_load(raw))
    out.mkdir(parents=True, exist_ok=True)
    changed = [
        _write(out / "summary.json", json.dumps(made, indent=2, sort_keys=True) + "\n"),
        _write(out / "index.html", page.render(made)),
    ]
    typer.echo("changed" if any(changed) else "unchanged")


@app.command()
def show(made: Annotated[Path, typer.Argument(help="A summary.json.")]) -> None:
    """Print the summary as tables."""
    loaded = _load(made)
    summary.check(loaded)
    # Piped, there is no width to fit into: lines stay whole for grep.
    tables.show(loaded, Console() if sys.stdout.isatty() else Console(width=200))


def _load(path: Path) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise typer.BadParameter(f"{path} does not exist; `make site` or `make status` makes it") from None
    except ValueError as error:
        raise typer.BadParameter(f"{path} is not JSON: {error}") from None
    return loaded


def _write(path: Path, text: str) -> bool:
    if path.exists() and path.read_text("utf-8") == text:
        return False
    new = path.with_name(path.name + ".new")
    new.write_text(text, "utf-8")
    new.replace(path)
    return True
