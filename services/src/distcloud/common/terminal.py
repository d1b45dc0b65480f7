"""Text and tables on a terminal; plain lines with tabs where the output is a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .text import printable


def escape_unencodable() -> None:
    """Let standard output and error escape what their encoding lacks (as \\u2192); it is an error by default."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def console() -> Console:
    """Standard output: as wide as the terminal, or unbounded and plain when piped."""
    if sys.stdout.isatty():
        return Console()
    # Variables such as FORCE_COLOR would make rich see a terminal in every pipe.
    return Console(file=sys.stdout, force_terminal=False, width=10_000, no_color=True, highlight=False, soft_wrap=True)


def print_rows(out: Console, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table, or tab-separated lines with the headings first."""
    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in [headings, *rows]]
    if not out.is_terminal:
        for row in cells:
            out.file.write("\t".join(row) + "\n")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    # As Text: in a plain string rich would interpret its markup.
    for heading in cells[0]:
        table.add_column(Text(heading))
    for row in cells[1:]:
        table.add_row(*[Text(cell) for cell in row])
    out.print(table)


def print_line(out: Console, text: str) -> None:
    """A line of text, without rich's markup."""
    out.print(Text(printable(text)), soft_wrap=True)
