"""Role scheduler: which units run with older files than there are."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles" / "scheduler"
SPEC = importlib.util.spec_from_file_location("older_files", ROLE / "files" / "older_files.py")
assert SPEC and SPEC.loader
older_files = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(older_files)

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
    assert older_files.parse_beginning("".join(f"{name}={value}\n" for name, value in shown.items())) == began


@pytest.mark.parametrize(("later", "found"), [(-1, []), (0, []), (1, ["unit"])])
def test_a_microsecond_decides(tmp_path: Path, later: int, found: list[str]) -> None:
    path = tmp_path / "file"
    path.write_text("")
    os.utime(path, ns=(0, (BEGAN + later) * 1000))
    assert older_files.behind({"unit": {str(path): ""}}, {"unit": BEGAN}.get) == found


def test_what_does_not_run_will_read_the_files_when_it_starts(tmp_path: Path) -> None:
    path = str(tmp_path / "absent")
    assert older_files.behind({"runs": {path: ""}, "stands": {path: ""}}, {"runs": BEGAN}.get) == ["runs"]


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
    assert older_files.behind({"unit": {str(link): release}}, {"unit": BEGAN}.get) == found


def test_the_files_are_those_that_the_role_lays() -> None:
    read = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["__scheduler_read"]
    laid = "".join((ROLE / "tasks" / f"{name}.yml").read_text() for name in ("configure", "service"))
    unit = (ROLE / "templates" / "distcloud-scheduler.service.j2").read_text()
    for name, files in read.items():
        assert f"/etc/systemd/system/{name}" in files
        for path in files:
            assert path in laid or f"ExecStart={path}/" in unit, f"nothing lays {path}"
    assert "--config /etc/distcloud/scheduler.yml" in unit and "/etc/distcloud/scheduler.yml" in read["distcloud-scheduler.service"]
