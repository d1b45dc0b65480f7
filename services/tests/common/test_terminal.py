"""Text and tables on a terminal."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
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


SCRIPT = """
from distcloud.common.terminal import console, escape_unencodable, print_line, print_rows
escape_unencodable()
print_rows(console(), ["ID", "WHERE"], [["vm-1", "a\u2192\u00e9"], ["vm-2", None]])
print_line(console(), "[bold] \u2192")
"""


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"])
def test_pipe_gets_tabs_whatever_the_environment(variable: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], env={**os.environ, variable: "1"}, capture_output=True, check=True, timeout=60)
    assert done.stdout.decode() == "ID\tWHERE\nvm-1\ta\u2192\u00e9\nvm-2\t\n[bold] \u2192\n"


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}])
def test_signs_that_the_encoding_lacks_are_escaped(environment: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], env={**os.environ, **environment}, capture_output=True, check=True, timeout=60)
    assert b"vm-1\ta\\u2192" in done.stdout and b"[bold] \\u2192" in done.stdout
