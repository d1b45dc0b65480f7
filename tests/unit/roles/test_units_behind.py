"""Roles certificates and scheduler: which units run with older files than there are."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Collection
from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[3] / "roles"
SCHEDULER = ROLES / "scheduler"
SPEC = importlib.util.spec_from_file_location("units_behind", ROLES / "certificates" / "files" / "units_behind.py")
assert SPEC and SPEC.loader
units_behind = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(units_behind)

BEGAN = 1_700_000_000_250_000
EARLY, LATE = "Tue 2023-11-14 22:13:20.250000 UTC", "Tue 2023-11-14 22:13:29.000000 UTC"


@pytest.mark.parametrize(
    ("shown", "began"),
    [
        ({"MainPID": "7", "ExecMainStartTimestamp": EARLY, "ActiveState": "active", "ActiveEnterTimestamp": LATE}, BEGAN),
        ({"MainPID": "7", "ExecMainStartTimestamp": EARLY, "ActiveState": "activating", "ActiveEnterTimestamp": ""}, BEGAN),
        ({"MainPID": "0", "ExecMainStartTimestamp": EARLY, "ActiveState": "activating", "ActiveEnterTimestamp": LATE}, None),
        ({"MainPID": "0", "ExecMainStartTimestamp": "", "ActiveState": "inactive", "ActiveEnterTimestamp": ""}, None),
        ({"ActiveState": "active", "ActiveEnterTimestamp": EARLY}, BEGAN),
        ({"ActiveState": "inactive", "ActiveEnterTimestamp": EARLY}, None),
    ],
)
def test_what_systemd_says_is_read(shown: dict[str, str], began: int | None) -> None:
    assert parsed(shown, reload=False) == began
    assert parsed(shown, reload=True) == began


def parsed(shown: dict[str, str], *, reload: bool) -> int | None:
    found: int | None = units_behind.parse_reading("".join(f"{name}={value}\n" for name, value in shown.items()), reload)
    return found


@pytest.mark.parametrize(
    ("state", "can", "changed", "counts"),
    [
        ("active", "yes", LATE, True),
        ("active", "yes", EARLY, False),  # as it became active: nobody reloaded it since
        ("active", "no", LATE, False),
        ("reloading", "yes", LATE, False),  # not yet done
    ],
)
def test_a_reload_counts_where_it_reads_the_files(state: str, can: str, changed: str, counts: bool) -> None:
    begun = {"MainPID": "7", "ExecMainStartTimestamp": EARLY, "ActiveEnterTimestamp": EARLY}
    shown = {**begun, "ActiveState": state, "CanReload": can, "StateChangeTimestamp": changed}
    assert parsed(shown, reload=True) == (BEGAN + 8_750_000 if counts else BEGAN)
    assert parsed(shown, reload=False) == BEGAN


def test_a_unit_without_a_process_that_was_reloaded() -> None:
    shown = {"MainPID": "0", "ActiveState": "active", "ActiveEnterTimestamp": EARLY, "StateChangeTimestamp": LATE, "CanReload": "yes"}
    assert parsed(shown, reload=True) == BEGAN + 8_750_000
    assert parsed(shown, reload=False) == BEGAN


def behind(files: dict[str, dict[str, str]], runs: Collection[str] = ("unit",)) -> list[str]:
    """The units behind these files, of which some run since BEGAN."""
    wishes = {unit: {"files": paths, "reload": False} for unit, paths in files.items()}
    found: list[str] = units_behind.behind(wishes, lambda unit, _reload: BEGAN if unit in runs else None)
    return found


@pytest.mark.parametrize(("later", "found"), [(-1, []), (0, []), (1, ["unit"])])
def test_a_microsecond_decides(tmp_path: Path, later: int, found: list[str]) -> None:
    path = tmp_path / "file"
    path.write_text("")
    os.utime(path, ns=(0, (BEGAN + later) * 1000))
    assert behind({"unit": {str(path): ""}}) == found


def test_what_does_not_run_will_read_the_files_when_it_starts(tmp_path: Path) -> None:
    path = str(tmp_path / "absent")
    assert behind({"runs": {path: ""}, "stands": {path: ""}}, runs=["runs"]) == ["runs"]


@pytest.mark.parametrize(
    ("linked", "at", "found"),
    [
        ("one", BEGAN - 1, []),
        ("one", BEGAN + 1, ["unit"]),
        ("two", BEGAN - 1, ["unit"]),  # a dry run has not put it right
        ("gone", BEGAN - 1, []),
    ],
)
def test_a_link_counts_itself_and_by_where_it_leads(tmp_path: Path, linked: str, at: int, found: list[str]) -> None:
    for release in ("one", "two"):
        (tmp_path / release).mkdir()  # made just now, which is after the unit began
    link = tmp_path / "link"
    link.symlink_to(tmp_path / linked)
    os.utime(link, ns=(0, at * 1000), follow_symlinks=False)
    release = linked if linked == "gone" else "/one"
    assert behind({"unit": {str(link): release}}) == found


def test_the_files_are_those_that_the_role_lays() -> None:
    read = yaml.safe_load((SCHEDULER / "vars" / "main.yml").read_text())["__scheduler_read"]
    laid = "".join((SCHEDULER / "tasks" / f"{name}.yml").read_text() for name in ("configure", "service"))
    unit = (SCHEDULER / "templates" / "distcloud-scheduler.service.j2").read_text()
    for name, wish in read.items():
        files = wish["files"]
        assert f"/etc/systemd/system/{name}" in files
        for path in files:
            assert path in laid or f"ExecStart={path}/" in unit, f"nothing lays {path}"
    assert (
        "--config /etc/distcloud/scheduler.yml" in unit and "/etc/distcloud/scheduler.yml" in read["distcloud-scheduler.service"]["files"]
    )
