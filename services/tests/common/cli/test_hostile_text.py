"""Text of servers and files on a terminal: it moves no cursor, forges no line and is not interpreted as markup."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from distcloud.common import terminal
from distcloud.common.cli import apiclient
from distcloud.common.cli.apiclient import ApiClient, CallError, ClientSettings
from distcloud.common.cli.commands import CommandError, show
from distcloud.common.config import ConfigError
from distcloud.common.http.report import Report, ReportLink, ReportProblem, ReportTable
from distcloud.report import cli as report_cli
from distcloud.scheduler.cli import app as scheduler_app

# ESC, BEL, CR, backspace, an 8-bit CSI, NEL, bidi override and isolate, a line separator, rich's markup.
CONTROLS = "\x1b\x07\r\x08\x9b\x85\u202e\u2066\u2028"
HOSTILE = f"[red]a{'b'.join(CONTROLS)}c"
REPORT = Report(
    title=HOSTILE,
    problems=[ReportProblem(name=HOSTILE, detail=f"x\n{HOSTILE}")],
    tables=[ReportTable(title=HOSTILE, columns=[HOSTILE, "B"], rows=[[HOSTILE, 1]])],
    links=[ReportLink(text=HOSTILE, url=HOSTILE)],
)


def harmless(text: str) -> bool:
    """Whether a text has only printable characters and the line ends and tabs of our own."""
    return all(sign.isprintable() or sign in "\n\t" for sign in text)


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs the command of an engine whose service gives this response, or raises this error."""
    (tmp_path / "token").write_text("t\n")
    monkeypatch.setattr(apiclient, "client_settings", lambda _: ClientSettings(url="https://demo", token_file=tmp_path / "token"))

    def run(answer: Report | Exception, as_json: bool = False) -> None:
        def respond(_: ApiClient) -> Report:
            if isinstance(answer, Exception):
                raise answer
            return answer

        from distcloud.common.http.report import print_report

        show("demo", respond, as_json, print_report)

    return run


@pytest.mark.parametrize("is_terminal", [False, True])
def test_report_of_server_prints_no_control(
    ask: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    out = io.StringIO()
    # Without colors rich itself writes no escape sequence.
    monkeypatch.setattr(terminal, "console", lambda: Console(file=out, width=400, force_terminal=is_terminal, color_system=None))
    ask(REPORT)
    text = out.getvalue()
    assert harmless(text) and text.lower().count("[red]a") == 8, "markup is shown as it is"
    assert len(text.splitlines()) == 6
    assert capsys.readouterr().err == ""


def test_report_as_json_is_escaped_json(ask: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    ask(REPORT, as_json=True)
    text = capsys.readouterr().out
    assert harmless(text) and json.loads(text) == REPORT.model_dump(mode="json")


@pytest.mark.parametrize("error", [CallError, CommandError, ConfigError])
def test_errors_print_no_control(ask: Callable[..., None], capsys: pytest.CaptureFixture[str], error: type[Exception]) -> None:
    with pytest.raises(typer.Exit):
        ask(error(HOSTILE))
    printed = capsys.readouterr()
    assert printed.out == "" and harmless(printed.err) and printed.err.startswith("distcloud: [red]a")


def test_message_of_server_forges_no_line(ask: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        ask(CallError("refused\ndistcloud: everything is fine"))
    assert capsys.readouterr().err == "distcloud: refused distcloud: everything is fine\n"


def test_text_of_configuration_prints_no_control(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.yml"
    path.write_text('"\\e[2J\\x9b\\u202e\\r\\a": 1\n')
    checked = CliRunner().invoke(scheduler_app, ["check", "--config", str(path)])
    assert checked.exit_code == 2 and harmless(checked.output) and "?[2J" in checked.output


@pytest.mark.parametrize("text", ["\x1b[2J", json.dumps({"site": HOSTILE}), json.dumps({HOSTILE: HOSTILE}), '{"\x9b": 1'])
def test_text_of_summary_prints_no_control(tmp_path: Path, text: str) -> None:
    path = tmp_path / "summary.json"
    path.write_text(text, "utf-8")
    done = CliRunner().invoke(report_cli.app, ["show", str(path)])
    assert done.exit_code == 2 and harmless(done.output)


def test_summary_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_bytes(b"\xff\xfe")
    for command in (["show", str(path)], ["render", str(path), str(tmp_path / "out")]):
        done: Any = CliRunner().invoke(report_cli.app, command)
        assert done.exit_code == 2 and "is not UTF 8 text" in " ".join(re.findall(r"\w+", done.output))
