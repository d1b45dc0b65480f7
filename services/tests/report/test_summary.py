"""The site report: from collected facts to valid JSON, page and tables."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from distcloud.report import cli, page, summary, tables

from .facts import GONE, JOBS, SHA, STATUS, answer, raw


def test_summary_has_exactly_the_documented_keys() -> None:
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
    assert made["problems"] == [{"kind": "region", "name": "region-b", "what": "connection refused"}]
    assert made["jobs"][0]["ended"] == "removed" and made["jobs"][0]["exit_code"] is None and made["jobs"][0]["waited_s"] is None
    assert [vm["requested_at"] for vm in made["vms"]] == [20.0, 1795258364.834]
    assert made["pool"]["workers"] == 1 and made["pool"]["jobs_idle"] == 2
    assert made["images"] == [{"name": "worker", "region": "region-a", "sha512": SHA, "size": 161_000_000}]
    assert [region["reachable"] for region in made["regions"]] == [True, False]


def test_totals_come_from_ledger_not_from_list() -> None:
    facts = raw()
    made = summary.build(facts)
    assert made["vms_ever"] == 4323 and [region["vms_ever"] for region in made["regions"]] == [4322, 0]
    text = page.render(made)
    assert "<b>4323</b><span>workers ever</span>" in text and "the latest that are gone: 2 of 4323." in text
    assert "<b>0 of 2</b><span>latest jobs succeeded</span>" in text and "workers ever: 4322" in text
    out = io.StringIO()
    tables.show(made, Console(file=out, width=160))
    assert "Workers (4322 gone, 1 idle)" in out.getvalue() and "1 of the latest 2 done" in out.getvalue()
    assert "2 / 4322" in out.getvalue()


def test_worker_gone_during_collection_is_listed_once() -> None:
    facts = raw()
    facts["answers"][5] = answer("gone", {"vms": [*GONE, {**GONE[0], "id": "vm-a"}], "cursor": None})
    assert sorted((vm["id"], vm["state"]) for vm in summary.build(facts)["vms"]) == [("vm-a", "gone"), ("vm-b", "gone")]


def test_problems_are_named_and_missing_values_are_unknown() -> None:
    facts = raw()
    unreachable: dict[str, dict[str, Any]] = {
        "machines": {"rc": 1, "stderr": "Error: communication error\nCEDAR:6001:Failed to connect to <10.0.0.1:9618>"},
        "jobs": {"rc": 124, "msg": "non-zero return code"},
        "status": {"rc": None, "msg": "Failed to connect to the host via ssh: timed out"},
        "vms": {"rc": None, "msg": "Failed to connect to the host via ssh: timed out"},
        "gone": {"rc": None, "msg": "Failed to connect to the host via ssh: timed out"},
        "totals": {"rc": None, "msg": "Failed to connect to the host via ssh: timed out"},
    }
    facts["answers"] = [{**given, **unreachable.get(given["name"], {})} for given in facts["answers"]]
    facts["answers"][1] = answer("queue", [{"JobStatus": 5}])
    made = summary.build(facts)
    assert [(problem["kind"], problem["name"], problem["what"]) for problem in made["problems"]] == [
        ("region", "region-b", "connection refused"),
        ("pool", "pool", "Error: communication error CEDAR:6001:Failed to connect to <10.0.0.1:9618>"),
        ("pool", "pool", "no answer in time"),
        ("scheduler", "scheduler", "Failed to connect to the host via ssh: timed out"),
        ("jobs", "jobs", "1 held: run condor_q -hold -allusers on the submit node to see why"),
    ]
    assert made["pool"]["workers"] is None and made["pool"]["jobs_done"] is None and made["pool"]["jobs_held"] == 1
    text = page.render(made)
    assert made["vms_ever"] is None and made["regions"][0]["vms_ever"] is None and "<b>?</b><span>workers ever</span>" in text
    assert "the scheduler did not answer" in text and "the pool did not answer" in text and "None yet" not in text
    out = io.StringIO()
    tables.show(made, Console(file=out, width=80))
    assert "! region-b: connection refused" in out.getvalue() and "? workers" in out.getvalue()


def test_several_submit_nodes_are_merged() -> None:
    facts = raw()
    facts["answers"] += [
        {**answer("queue", [{"JobStatus": 1}]), "host": "submit-2"},
        {**answer("jobs", [{**JOBS[0], "ClusterId": 11}]), "host": "submit-2"},
    ]
    made = summary.build(facts)
    assert (made["pool"]["jobs_idle"], made["pool"]["jobs_running"], made["pool"]["jobs_done"]) == (3, 1, 2)
    assert [job["id"] for job in made["jobs"]] == ["9.1", "10.0", "11.0"]
    facts["answers"][-2] = {"name": "queue", "host": "submit-2", "rc": 1, "stderr": "no schedd"}
    made = summary.build(facts)
    assert made["pool"]["jobs_idle"] is None and made["pool"]["jobs_done"] == 2
    assert {"kind": "pool", "name": "pool", "what": "submit-2: no schedd"} in made["problems"]


def test_expiring_certificate_is_a_problem() -> None:
    facts = raw()
    ending = [{"host": "central", "path": "/etc/ssl/distcloud/condor.pem", "ends": 1_790_000_000}]
    facts["answers"] += [{**answer("certificates", ending), "host": "central"}, {**answer("certificates", ending), "host": "central"}]
    found = [problem for problem in summary.build(facts)["problems"] if problem["kind"] == "certificate"]
    assert [one["name"] for one in found] == ["central: /etc/ssl/distcloud/condor.pem"]
    assert found[0]["what"].startswith("expires on 2026-09-21: playbook site renews")


def test_unreachable_host_hides_no_other_certificate() -> None:
    facts = raw()
    ending = [{"host": "central", "path": "/etc/ssl/distcloud/condor.pem", "ends": None}]
    facts["answers"] += [
        {**answer("certificates", ending), "host": "central"},
        {"name": "certificates", "host": "submit", "rc": None, "stdout": "", "stderr": "", "msg": "Failed to connect to the host via ssh"},
        {"name": "certificates", "host": "other", "rc": 1, "stdout": "", "stderr": "No such file or directory: 'openssl'", "msg": ""},
    ]
    found = [(one["name"], one["what"][:21]) for one in summary.build(facts)["problems"] if one["kind"] == "certificate"]
    assert found == [("central: /etc/ssl/distcloud/condor.pem", "not a PEM certificate"), ("other", "not checked: No such ")]


def test_unhealthy_engine_and_invalid_json_are_problems() -> None:
    facts = raw()
    facts["answers"][3] = answer("status", {**STATUS, "healthy": False, "problem": "the database is locked", "clouds": []})
    facts["answers"][0]["stdout"] = "Traceback (most recent call last)"
    assert [problem["what"] for problem in summary.build(facts)["problems"]] == [
        "connection refused",
        "not JSON: Traceback (most recent call last)",
        "the database is locked",
    ]


def test_output_of_another_version_is_a_problem() -> None:
    facts = raw()
    facts["answers"][3] = answer("status", {**STATUS, "clouds": 5})
    problems = [problem["what"] for problem in summary.build(facts)["problems"]]
    assert any(what.startswith("unexpected output, field clouds: ") for what in problems)


def test_command_without_output_is_an_empty_result() -> None:
    facts = raw()
    facts["answers"][2]["stdout"] = "\n"
    made = summary.build(facts)
    assert made["jobs"] == [] and made["pool"]["jobs_done"] == 0


def test_new_site_renders_a_page() -> None:
    facts = raw() | {"regions": []}
    nothing: dict[str, Any] = {"vms": [], "cursor": None}
    empty = {"machines": [], "queue": [], "jobs": [], "vms": nothing, "gone": nothing}
    facts["answers"] = [answer("status", STATUS | {"clouds": []}), *(answer(name, output) for name, output in empty.items())]
    made = summary.build(facts)
    assert page.render(made).count("None yet") == 2 and not made["problems"]


def test_invalid_facts_name_the_field() -> None:
    facts = raw()
    facts["regions"][0]["images"][0]["sha512"] = "short"
    with pytest.raises(summary.SummaryError, match=r"images\.0\.sha512"):
        summary.build(facts)


def test_page_is_self_contained_and_escapes_user_input() -> None:
    text = page.render(summary.build(raw()))
    assert "<script" not in text and "&lt;script&gt;" in text
    assert 'href="javascript' not in text
    assert "src=" not in text and "@import" not in text and "prefers-color-scheme: dark" in text


@pytest.mark.parametrize("value", [5, -1, 1e18, float("nan"), True, [1], {"a": 1}, None, "/Expr(time())/", "x" * 5000])
def test_malformed_job_does_not_break_page(value: Any) -> None:
    """Any user can submit a job with these attributes and remove it before it runs."""
    names = ("QDate", "JobStartDate", "CompletionDate", "ExitCode", "MachineAttrDistcloudRegion0", "MachineAttrDistcloudVm0")
    for name in names:
        for job in JOBS:
            facts = raw()
            facts["answers"][2] = answer("jobs", [{**job, name: value}])
            made = summary.build(facts)
            assert len(made["jobs"]) == 1 and len(json.dumps(made["jobs"])) < 1000, name
            page.render(made)
            tables.show(made, Console(file=io.StringIO(), width=80))


def test_tables_are_plain_when_piped() -> None:
    out = io.StringIO()
    tables.show(summary.build(raw()), Console(file=out, width=160))
    assert "\x1b[" not in out.getvalue()
    assert "DOWN" in out.getvalue() and "! region-b: connection refused" in out.getvalue()


def test_engine_titles_and_columns_cannot_steer_terminal() -> None:
    hostile = "[red]a\x1b[2J\x07\r\x9b\u202e"
    section = SECTION | {"title": hostile, "tables": [{"title": hostile, "columns": [hostile], "rows": [[hostile]]}]}
    out = io.StringIO()
    tables.show(summary.build(raw() | {"engines": [engine_answer(section)]}), Console(file=out, width=400))
    assert all(sign.isprintable() or sign == "\n" for sign in out.getvalue())
    assert out.getvalue().count("[red]a?[2J") == 4


def test_tables_ignore_markup_in_user_input() -> None:
    out = io.StringIO()
    tables.show(summary.build(raw()), Console(file=out, width=160))
    assert "<script>[/bold]?[2J" in out.getvalue()


def test_terminal_shows_latest_rows_and_all_live_workers() -> None:
    facts = raw()
    facts["answers"][2] = answer("jobs", [{**JOBS[0], "ClusterId": cluster} for cluster in range(1, 51)])
    out = io.StringIO()
    tables.show(summary.build(facts), Console(file=out, width=160), limit=2)
    assert "the last 2 of 50" in out.getvalue() and "\n50.0 " in out.getvalue() and "\n48.0 " not in out.getvalue()
    assert "vm-a" in out.getvalue()


def test_documented_schema_equals_package_schema() -> None:
    documented = Path(__file__).parents[3] / "docs" / "site_summary.schema.json"
    assert json.loads(documented.read_text("utf-8")) == summary.schema()


def test_render_writes_only_changes(tmp_path: Path) -> None:
    runner = CliRunner()
    render = ["render", "-", str(tmp_path / "out")]
    assert runner.invoke(cli.app, render, input=json.dumps(raw())).output == "changed\n"
    assert runner.invoke(cli.app, render, input=json.dumps(raw())).output == "unchanged\n"
    assert runner.invoke(cli.app, render, input="{").exit_code == 2
    wrong = runner.invoke(cli.app, render, input=json.dumps(raw() | {"addresses": [{"name": "", "url": "x", "what": ""}]}))
    assert wrong.exit_code == 2 and "addresses.0.name" in wrong.output
    shown = runner.invoke(cli.app, ["show", str(tmp_path / "out" / "summary.json")])
    assert shown.exit_code == 0 and "region-b" in shown.output
    assert runner.invoke(cli.app, ["show", str(tmp_path / "nothing.json")]).exit_code == 2
    old = tmp_path / "old.json"
    old.write_text('{"site": {}}', "utf-8")
    refused = runner.invoke(cli.app, ["show", str(old)])
    assert refused.exit_code == 2 and "make status" in refused.output


SECTION = {
    "title": "Shoal",
    "problems": [{"name": "cache cache-a", "detail": "silent for 300 s"}],
    "tables": [
        {"title": "Caches", "columns": ["cache", "load", "verified"], "rows": [["<b>cache-a</b>", 0.5, True], ["cache-b", None, False]]}
    ],
    "links": [{"text": "API", "url": "/docs"}, {"text": "bad", "url": "javascript:alert(1)"}],
}


def engine_answer(section: Any = SECTION, **change: Any) -> dict[str, Any]:
    return answer("report", section) | {"engine": "shoal", "url": "https://services:8444", "host": "services"} | change


def test_any_engine_has_a_section() -> None:
    made = summary.build(raw() | {"engines": [engine_answer()]})
    assert {"kind": "shoal", "name": "shoal: cache cache-a", "what": "silent for 300 s"} in made["problems"]
    (section,) = made["engines"]
    assert (section["engine"], section["title"]) == ("shoal", "Shoal")
    assert section["links"][0] == {"text": "API", "url": "https://services:8444/docs"}
    html = page.render(made)
    assert "<h2>Shoal</h2>" in html and "&lt;b&gt;cache-a" in html and '<a href="https://services:8444/docs">API</a>' in html
    assert 'href="javascript' not in html
    out = io.StringIO()
    tables.show(made, Console(file=out, width=200))
    assert "Shoal: Caches" in out.getvalue() and "cache-b" in out.getvalue()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rc": 1, "stderr": "distcloud: connection refused"}, "connection refused"),
        ({"rc": None, "msg": "host is down"}, "host is down"),
        ({"stdout": "<html>"}, "not JSON"),
        ({"stdout": "[]"}, "unexpected output"),
        ({"stdout": json.dumps(SECTION | {"tables": [{"title": "T", "columns": ["a"], "rows": [["x", "y"]]}]})}, "one per column"),
    ],
)
def test_engine_without_a_valid_report_is_a_problem(change: dict[str, Any], words: str) -> None:
    made = summary.build(raw() | {"engines": [engine_answer(**change)]})
    assert made["engines"] == []
    (problem,) = [problem for problem in made["problems"] if problem["kind"] == "shoal"]
    assert words in problem["what"]
