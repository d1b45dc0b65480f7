"""Text and tables on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from distcloud.common.terminal import print_line, print_rows
from distcloud.common.text import printable


def test_control_characters_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2J\tb\r\nc\u202e") == "a?[2J b c?"


def test_piped_rows_are_separated_by_tabs() -> None:
    out = Console(file=io.StringIO(), width=20)
    print_rows(out, ["ID", "REASON"], [["vm-1", "a\tb [red]c"], [None, 7]])
    print_line(out, "[bold]x")
    assert out.file.getvalue() == "ID\tREASON\nvm-1\ta b [red]c\n\t7\n[bold]x\n"  # type: ignore[attr-defined]


def test_terminal_rows_show_markup_literally() -> None:
    out = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    print_rows(out, ["ID", "REASON"], [["vm-1", "[red]c"]])
    assert "vm-1  [red]c" in out.file.getvalue()  # type: ignore[attr-defined]
