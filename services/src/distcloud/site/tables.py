"""Prints a site's summary as tables: coloured on a terminal, plain when piped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .words import duration, size

_GOOD, _BAD, _QUIET = "green", "bold red", "dim"


def show(summary: Mapping[str, Any], console: Console) -> None:
    """Print all tables of the summary to the console."""
    pool = summary["pool"]
    console.print(Text(f"Site {summary['site']['name']}", style="bold"))
    for table in (_regions(summary), _images(summary), _jobs(summary), _vms(summary), _addresses(summary)):
        console.print(table)
    console.print(
        f"Pool {pool['domain']}: {pool['workers']} workers, {pool['slots_claimed']} claimed slots; "
        f"jobs: {pool['jobs_idle']} idle, {pool['jobs_running']} running, {pool['jobs_held']} held, {pool['jobs_done']} done"
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _regions(summary: Mapping[str, Any]) -> Table:
    table = _table("Regions", "region", "state", "clouds", "workers now", "workers ever", "address")
    for region in summary["regions"]:
        state = Text("up", _GOOD) if region["reachable"] else Text(f"DOWN {region['error']}", _BAD)
        clouds = ", ".join(f"{cloud['group']}/{cloud['name']}{'' if cloud['enabled'] else ' (disabled)'}" for cloud in region["clouds"])
        now = sum(cloud["vms"] for cloud in region["clouds"])
        table.add_row(region["name"], state, clouds, str(now), str(region["vms_ever"]), region["auth_url"])
    return table


def _images(summary: Mapping[str, Any]) -> Table:
    table = _table("Images", "image", "region", "size", "sha512")
    for image in summary["images"]:
        table.add_row(image["name"], image["region"], size(image["size"]), image["sha512"][:16])
    return table


def _jobs(summary: Mapping[str, Any]) -> Table:
    table = _table("Jobs that ran", "job", "owner", "region", "worker", "waited", "exit code")
    for job in summary["jobs"]:
        code = Text("-", _QUIET) if job["exit_code"] is None else Text(str(job["exit_code"]), _GOOD if job["exit_code"] == 0 else _BAD)
        table.add_row(job["id"], job["owner"], job["region"] or "-", job["vm"] or "-", duration(job["waited_s"]), code)
    return table


def _vms(summary: Mapping[str, Any]) -> Table:
    counts = Counter(vm["state"] for vm in summary["vms"])
    title = "Workers (" + (", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "none yet") + ")"
    table = _table(title, "worker", "region", "flavor", "state", "lived", "reason")
    for vm in summary["vms"]:
        lived = None if vm["gone_at"] is None else vm["gone_at"] - vm["requested_at"]
        table.add_row(
            vm["id"], vm["region"], vm["flavor"], Text(vm["state"], _BAD if vm["state"] == "error" else ""), duration(lived), vm["reason"]
        )
    return table


def _addresses(summary: Mapping[str, Any]) -> Table:
    table = _table("Addresses", "name", "address", "what")
    for address in summary["addresses"]:
        table.add_row(address["name"], address["url"], address["what"])
    return table
