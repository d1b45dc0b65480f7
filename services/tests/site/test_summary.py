"""The site's summary: from collected facts to valid JSON, page and tables."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from distcloud.site import cli, page, summary, tables

SHA = "a" * 128


def raw() -> dict[str, Any]:
    return {
        "site": "lab-test",
        "made_at": 1_790_000_000.0,
        "regions": [
            {
                "name": "region-a",
                "auth_url": "http://10.203.0.11:5000/v3",
                "error": "",
                "images": [{"name": "worker", "sha512": SHA, "size": 161_000_000}],
            },
            {"name": "region-b", "auth_url": "https://10.203.0.12:5000/v3", "error": "connection refused", "images": []},
        ],
        "status": {
            "clouds": [
                {
                    "group": "atlas",
                    "cloud": "region-a",
                    "region": "region-a",
                    "enabled": True,
                    "reachable": True,
                    "error": "",
                    "vms": {"idle": 2},
                    "quota_vms": 3,
                }
            ]
        },
        "vms": [
            {
                "id": "vm-b",
                "region": "region-a",
                "flavor": "s",
                "state": "gone",
                "requested_at": 20.0,
                "gone_at": 95.0,
                "group": "atlas",
                "reason": "drained",
            },
            {"id": "vm-a", "region": "region-a", "flavor": "s", "state": "idle", "requested_at": "2026-11-21T10:52:44.834Z"},
        ],
        "jobs": [
            {
                "ClusterId": 10,
                "ProcId": 0,
                "Owner": "bob",
                "QDate": 100,
                "JobStartDate": 145,
                "JobStatus": 4,
                "ExitCode": 3,
                "MachineAttrDistcloudRegion0": "region-a",
                "MachineAttrDistcloudVm0": "vm-a",
                "CompletionDate": 150,
            },
            {"ClusterId": 9, "ProcId": 1, "Owner": "<script>", "QDate": 100, "JobStatus": 3, "EnteredCurrentStatus": 120},
        ],
        "machines": [{"Machine": "m1", "State": "Claimed"}, {"Machine": "m1", "State": "Unclaimed"}],
        "queue": [{"JobStatus": 1}, {"JobStatus": 2}, {"JobStatus": 1}],
        "pool": {"collector": "central", "schedd": "central", "domain": "distcloud.lab"},
        "addresses": [
            {"name": "API", "url": "https://10.203.0.10:8443/docs", "what": "the scheduler"},
            {"name": "odd", "url": "javascript:alert(1)", "what": ""},
        ],
    }


def test_summary_has_exactly_the_promised_keys() -> None:
    made = summary.build(raw())
    assert {"regions", "images", "pool", "jobs", "vms", "addresses"} <= set(made)
    assert [job["id"] for job in made["jobs"]] == ["9.1", "10.0"]
    done = made["jobs"][1]
    assert {key: done[key] for key in ("owner", "region", "vm", "waited_s", "exit_code")} == {
        "owner": "bob",
        "region": "region-a",
        "vm": "vm-a",
        "waited_s": 45,
        "exit_code": 3,
    }
    assert made["jobs"][0]["exit_code"] is None and made["jobs"][0]["waited_s"] is None
    assert [vm["requested_at"] for vm in made["vms"]] == [20.0, 1795258364.834]
    assert made["pool"]["workers"] == 1 and made["pool"]["jobs_idle"] == 2
    assert made["images"] == [{"name": "worker", "region": "region-a", "sha512": SHA, "size": 161_000_000}]
    assert [region["reachable"] for region in made["regions"]] == [True, False]


def test_an_empty_site_makes_a_page_too() -> None:
    made = summary.build({"site": "new", "made_at": 0.0})
    assert "None yet" in page.render(made)


def test_bad_facts_are_named() -> None:
    facts = raw()
    facts["regions"][0]["images"][0]["sha512"] = "short"
    with pytest.raises(summary.SummaryError, match=r"images\.0\.sha512"):
        summary.build(facts)


def test_page_is_self_contained_and_escapes_what_users_wrote() -> None:
    text = page.render(summary.build(raw()))
    assert "<script" not in text and "&lt;script&gt;" in text
    assert 'href="javascript' not in text
    assert "src=" not in text and "@import" not in text and "prefers-color-scheme: dark" in text


def test_tables_are_plain_when_piped() -> None:
    out = io.StringIO()
    tables.show(summary.build(raw()), Console(file=out, width=160))
    assert "\x1b[" not in out.getvalue()
    assert "DOWN connection refused" in out.getvalue() and "region-a" in out.getvalue()


def test_documented_schema_is_the_one_in_use() -> None:
    documented = Path(__file__).parents[3] / "docs" / "site_summary.schema.json"
    assert json.loads(documented.read_text("utf-8")) == summary.schema()


def test_command_line_writes_once(tmp_path: Path) -> None:
    (tmp_path / "raw.json").write_text(json.dumps(raw()), "utf-8")
    runner = CliRunner()
    first = runner.invoke(cli.app, ["render", str(tmp_path / "raw.json"), str(tmp_path / "out")])
    assert first.exit_code == 0 and "changed" in first.output
    assert "unchanged" in runner.invoke(cli.app, ["render", str(tmp_path / "raw.json"), str(tmp_path / "out")]).output
    shown = runner.invoke(cli.app, ["show", str(tmp_path / "out" / "summary.json")])
    assert shown.exit_code == 0 and "region-b" in shown.output
    assert runner.invoke(cli.app, ["show", str(tmp_path / "nothing.json")]).exit_code == 2
