"""Print a site's summary as tables: colored on a terminal, plain when piped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..common.text import printable
from ..common.times import duration
from .formatting import cell, count, size

_GOOD, _BAD, _QUIET = "green", "bold red", "dim"
_NO_WRAP = ("job", "worker", "waited", "lived", "state", "size")


def show(summary: Mapping[str, Any], console: Console, *, limit: int | None = None) -> None:
    """Print all tables of the summary to the console; at most the last `limit` finished jobs and workers that are gone."""
    pool = summary["pool"]
    console.print(Text(f"Site {printable(summary['site']['name'])}", "bold"))
    for problem in summary["problems"]:
        console.print(Text(f"! {printable(problem['name'])}: {printable(problem['what'])}", _BAD))
    for table in (_regions(summary), _images(summary), _jobs(summary, limit), _vms(summary, limit), *_engines(summary, limit)):
        console.print(table)
        console.print()
    for address in summary["addresses"]:
        # Not in a table: folding would break an address that is copied.
        console.print(Text(f"{printable(address['name'])}: {printable(address['what'])}", _QUIET), soft_wrap=True)
        console.print(Text(f"  {printable(address['url'])}"), soft_wrap=True)
    console.print(
        Text(
            f"Pool {printable(pool['domain'])}: {count(pool['workers'])} workers, {count(pool['slots_claimed'])} claimed slots; jobs: "
            f"{count(pool['jobs_idle'])} idle, {count(pool['jobs_running'])} running, {count(pool['jobs_held'])} held, "
            f"{count(pool['jobs_done'])} of the latest {'?' if pool['jobs_done'] is None else len(summary['jobs'])} done"
        )
    )


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> Table:
    # As Text, here and below: in a plain string rich would interpret markup.
    heading = Text(printable(title), "bold")
    table = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        # Names that are copied are never folded; on a narrow terminal the other columns are.
        table.add_column(Text(printable(column)), overflow="fold", no_wrap=column in _NO_WRAP)
    for row in rows:
        table.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))
    return table


def _latest(title: str, found: Sequence[Any], limit: int | None) -> tuple[str, Sequence[Any]]:
    if limit is None or len(found) <= limit:
        return title, found
    return f"{title}: the last {limit} of {len(found)}, --all shows all", found[-limit:]


def _regions(summary: Mapping[str, Any]) -> Table:
    rows = [
        (
            region["name"],
            Text("up", _GOOD) if region["reachable"] else Text("DOWN", _BAD),
            ", ".join(f"{cloud['group']}/{cloud['name']}{'' if cloud['enabled'] else ' (disabled)'}" for cloud in region["clouds"]),
            f"{count(region['vms_now'])} / {count(region['vms_ever'])}",
            region["auth_url"],
        )
        for region in summary["regions"]
    ]
    return _table("Regions", ("region", "state", "clouds", "workers now / ever", "address"), rows)


def _images(summary: Mapping[str, Any]) -> Table:
    rows = [(image["name"], image["region"], size(image["size"]), image["sha512"][:16]) for image in summary["images"]]
    return _table("Images", ("image", "region", "size", "sha512"), rows)


def _jobs(summary: Mapping[str, Any], limit: int | None) -> Table:
    title, jobs = _latest("Finished jobs", summary["jobs"], limit)
    rows = [(job["id"], job["owner"], job["region"] or "-", job["vm"] or "-", duration(job["waited_s"]), _outcome(job)) for job in jobs]
    return _table(title, ("job", "owner", "region", "worker", "waited", "exit code"), rows)


def _outcome(job: Mapping[str, Any]) -> Text:
    if job["exit_code"] is None:
        return Text(job["ended"], _QUIET)
    return Text(str(job["exit_code"]), _GOOD if job["exit_code"] == 0 else _BAD)


def _vms(summary: Mapping[str, Any], limit: int | None) -> Table:
    title, gone = _latest(f"Workers ({_vm_counts(summary)})", [vm for vm in summary["vms"] if vm["state"] == "gone"], limit)
    rows = [
        (
            vm["id"],
            vm["region"],
            vm["flavor"],
            Text(vm["state"], _BAD if vm["state"] == "error" else ""),
            duration(None if vm["gone_at"] is None else vm["gone_at"] - vm["requested_at"]),
            vm["reason"],
        )
        for vm in [*gone, *(vm for vm in summary["vms"] if vm["state"] != "gone")]
    ]
    return _table(title, ("worker", "region", "flavor", "state", "lived", "reason"), rows)


def _vm_counts(summary: Mapping[str, Any]) -> str:
    """The number of workers in each state: only the latest of those that are gone are listed."""
    if summary["vms_now"] is None:
        return f"? now, {count(summary['vms_ever'])} ever"
    counts: dict[str, int | None] = dict(Counter(vm["state"] for vm in summary["vms"] if vm["state"] != "gone"))
    ever, listed = summary["vms_ever"], len(summary["vms"])
    counts["gone"] = None if ever is None else max(ever, listed) - summary["vms_now"]
    return ", ".join(f"{count(number)} {state}" for state, number in sorted(counts.items()) if number != 0) or "none"


def _engines(summary: Mapping[str, Any], limit: int | None) -> Iterator[Table]:
    for engine in summary["engines"]:
        for found in engine["tables"]:
            title, rows = _latest(f"{engine['title']}: {found['title']}", found["rows"], limit)
            yield _table(title, found["columns"], [[cell(value) for value in row] for row in rows])
