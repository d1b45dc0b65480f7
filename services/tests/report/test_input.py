"""Input of the report's commands that is unreadable or malformed: one error that names the file and the field."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from distcloud.report import cli, summary

CASES = {
    "not UTF-8": (b"\xff\xfe", "is not UTF-8 text"),
    "not JSON": (b"{", "is not JSON"),
    "nested": (b"[" * 100_000, "is not JSON"),
    "a list": (b"[]", "should be a JSON object"),
}


@pytest.mark.parametrize(("content", "message"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("verb", ["show", "render", "render from standard input"])
def test_malformed_input_is_named(tmp_path: Path, verb: str, content: bytes, message: str) -> None:
    file = tmp_path / "in.json"
    file.write_bytes(content)
    arguments = {"show": ["show", str(file)], "render": ["render", str(file), str(tmp_path / "out")]}.get(verb)
    done = CliRunner().invoke(cli.app, arguments or ["render", "-", str(tmp_path / "out")], input=content, env={"COLUMNS": "200"})
    assert done.exit_code == 2 and message in done.output
    assert ("in.json" if arguments else "<stdin>") in done.output


def test_directory_is_refused_as_input(tmp_path: Path) -> None:
    for arguments in (["show", str(tmp_path)], ["render", str(tmp_path), str(tmp_path / "out")]):
        done = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "200"})
        assert done.exit_code == 2 and "directory" in done.output.lower() and str(tmp_path) in done.output


def test_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text('{"site": "s", "made_at": 1}')
    (tmp_path / "file").touch()
    done = CliRunner().invoke(cli.app, ["render", str(tmp_path / "in.json"), str(tmp_path / "file")], env={"COLUMNS": "200"})
    assert done.exit_code == 2 and "cannot be written" in done.output and "file" in done.output


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{}", "site"),
        ('{"site": "s"}', "made_at"),
        ('{"site": 7, "made_at": 1}', "site"),
        ('{"site": "s", "made_at": 1, "answers": [{"rc": 0}]}', "answers.0.name"),
        ('{"site": "s", "made_at": 1, "engines": [{"name": "report"}]}', "engines.0.engine"),
        ('{"site": "s", "made_at": 1, "regions": [{"name": "r", "images": [{}]}]}', "regions.0.images.0.name"),
        ('{"site": "s", "made_at": 1, "pool": []}', "pool"),
    ],
)
def test_malformed_field_is_named(tmp_path: Path, text: str, field: str) -> None:
    (tmp_path / "in.json").write_text(text)
    done = CliRunner().invoke(cli.app, ["render", str(tmp_path / "in.json"), str(tmp_path / "out")], env={"COLUMNS": "300"})
    assert done.exit_code == 2 and f"field {field}: " in done.output and "in.json" in done.output


VALID: dict[str, Any] = {
    "site": "s",
    "made_at": 1.0,
    "regions": [{"name": "r", "auth_url": "", "error": "", "images": [{"name": "i", "sha512": "a" * 128, "size": 1}]}],
    "answers": [{"name": "queue", "host": "h", "rc": 0, "stdout": "[]", "stderr": "", "msg": ""}],
    "engines": [{"name": "report", "engine": "e", "url": "", "rc": 1, "stderr": "no"}],
    "pool": {"collector": "c"},
    "addresses": [{"name": "n", "url": "u", "what": "w"}],
}


def places(value: Any) -> list[tuple[Any, Any]]:
    items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    return [(value, key) for key, _ in items] + [place for _, inner in items for place in places(inner)]


@given(st.data(), st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just([]) | st.just({}) | st.just([[]]))
@settings(max_examples=200, deadline=None)
def test_any_value_in_any_place_is_accepted_or_named(data: st.DataObject, value: Any) -> None:
    raw = copy.deepcopy(VALID)
    holder, key = data.draw(st.sampled_from(places(raw)))
    holder[key] = value
    try:
        summary.build(raw)
    except summary.SummaryError as error:
        assert "field" in str(error)
