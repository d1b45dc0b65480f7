"""Figures of a source that was not asked, or did not answer, are unknown in summary, page and tables: never 0."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from distcloud.report import page, summary, tables

from .facts import CLOUD, SHA, answer, raw

SCHEDULER = ("status", "vms", "gone", "totals")
POOL = ("machines", "queue", "jobs")


def without(*names: str, asked: bool) -> dict[str, Any]:
    """The summary of a site in which these commands were not run, or failed."""
    facts = raw()
    failed = {"rc": 1, "stdout": "", "stderr": "connection refused"}
    facts["answers"] = [
        {**given, **failed} if given["name"] in names else given for given in facts["answers"] if asked or given["name"] not in names
    ]
    return summary.build(facts)


def figures(text: str) -> dict[str, str]:
    """Label -> figure of the page's top line."""
    return {label: figure for figure, label in re.findall(r"<li><b>(.*?)</b><span>(.*?)</span>", text)}


def printed(made: dict[str, Any]) -> str:
    out = io.StringIO()
    tables.show(made, Console(file=out, width=200))
    return out.getvalue()


@pytest.mark.parametrize("asked", [False, True])
def test_workers_are_unknown_without_the_scheduler(asked: bool) -> None:
    made = without(*SCHEDULER, asked=asked)
    assert made["vms_now"] is None and made["vms_ever"] is None
    assert {(region["vms_now"], region["vms_ever"]) for region in made["regions"]} == {(None, None)}
    text = page.render(made)
    assert figures(text) == {
        "regions up": "1 of 2",
        "latest jobs succeeded": "0 of 2",
        "jobs waiting / running": "2 / 1",
        "workers now": "?",
        "workers ever": "?",
    }
    assert text.count("workers now: ?, workers ever: ?") == 2
    assert f"Unknown: the scheduler {'did not answer' if asked else 'was not asked'}." in text and "None yet" not in text
    assert "Workers (? now, ? ever)" in printed(made) and printed(made).count(" ? / ? ") == 2


@pytest.mark.parametrize("asked", [False, True])
def test_jobs_are_unknown_without_the_pool(asked: bool) -> None:
    made = without(*POOL, asked=asked)
    assert {made["pool"][name] for name in ("workers", "slots_claimed", "jobs_idle", "jobs_running", "jobs_held", "jobs_done")} == {None}
    text = page.render(made)
    assert figures(text)["latest jobs succeeded"] == "?" and figures(text)["jobs waiting / running"] == "? / ?"
    assert "workers: ?, claimed slots: ?, held jobs: ?" in text
    assert f"Unknown: the pool {'did not answer' if asked else 'was not asked'}." in text and "None yet" not in text
    assert "? workers, ? claimed slots; jobs: ? idle, ? running, ? held, ? of the latest ? done" in printed(made)


def test_list_without_live_workers_gives_no_total() -> None:
    made = without("vms", asked=True)
    assert made["vms_now"] is None and [vm["id"] for vm in made["vms"]] == ["vm-b"]
    text = page.render(made)
    assert figures(text)["workers now"] == "?" and figures(text)["workers ever"] == "4323"
    assert "Unknown: the scheduler did not answer." in text and "All live workers" not in text
    assert "Workers (? now, 4323 ever)" in printed(made)
    facts = raw()
    facts["answers"][4] = answer("vms", {"vms": [], "cursor": "more"})
    assert summary.build(facts)["vms_now"] is None


def test_workers_gone_are_unknown_without_totals() -> None:
    made = without("totals", asked=True)
    assert (made["vms_now"], made["vms_ever"]) == (1, None)
    assert "Workers (? gone, 1 idle)" in printed(made) and "2 / ?" in printed(made)


def test_site_without_any_answer_shows_no_figure() -> None:
    made = summary.build({"site": "new", "made_at": 0.0})
    text = page.render(made)
    assert set(figures(text).values()) == {"?", "? / ?"}
    assert not re.search(r"\b0\b", re.sub(r"<style>.*?</style>|<time>.*?</time>|<[^>]*>", "", text, flags=re.DOTALL))
    assert not re.search(r"\b0\b", printed(made))
    assert not made["problems"]


def test_images_are_unknown_unless_every_region_answered() -> None:
    facts = raw()
    facts["regions"][0]["images"] = []
    assert "Unknown: not all regions answered." in page.render(summary.build(facts))
    del facts["regions"][1]
    assert "Unknown: not all regions answered." not in page.render(summary.build(facts))


def test_image_without_size_has_none() -> None:
    facts = raw()
    facts["regions"][0]["images"] = [{"name": "worker", "sha512": SHA, "size": None}]
    made = summary.build(facts)
    assert made["images"][0]["size"] is None
    assert '<td class="n" data-name="size">?</td>' in page.render(made) and " MB" not in printed(made)


def test_answers_give_figures() -> None:
    made = summary.build(raw())
    assert (made["vms_now"], [region["vms_now"] for region in made["regions"]]) == (1, [sum(CLOUD.vms.values()), 0])
    assert "?" not in figures(page.render(made)).values() and "?" not in printed(made).replace("?[2J", "")
