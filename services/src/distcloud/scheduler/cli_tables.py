"""Print responses of the API: as tables on a terminal, as tab-separated lines into a pipe."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..common.terminal import harmless


def console() -> Console:
    """A console on standard output: as wide as the terminal, or of unlimited width and plain when piped."""
    if sys.stdout.isatty():
        return Console()
    return Console(file=sys.stdout, width=10_000, no_color=True, highlight=False, soft_wrap=True)


def rows(out: Console, headings: list[str], lines: list[list[Any]]) -> None:
    """Print a table, or tab-separated lines with the headings first."""
    cells = [["" if cell is None else harmless(str(cell)) for cell in line] for line in lines]
    if not out.is_terminal:
        for line in [headings, *cells]:
            out.file.write("\t".join(line) + "\n")
        return
    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for line in cells:
        table.add_row(*[Text(cell) for cell in line])
    out.print(table)


def print_line(out: Console, text: str) -> None:
    """Print a line of text without interpreting markup."""
    out.print(Text(harmless(text)), soft_wrap=True)


def status(answer: dict[str, Any], out: Console) -> None:
    pool = answer["pool"]
    health = "healthy" if answer["healthy"] else f"unhealthy: {answer['problem']}"
    print_line(out, f"Engine: {health}; cycle {answer['cycle']}, last finished at {answer['last_cycle_at'] or 'no time yet'}")
    unreachable = "" if pool["reachable"] else f" (unreachable: {pool['error']})"
    jobs = f"{pool['idle_jobs']} jobs idle, {pool['running_jobs']} running, {pool['slots']} workers"
    print_line(out, f"Pool: {jobs}{unreachable}")
    for name, why in sorted(pool["unreachable_queues"].items()):
        print_line(out, f"Queue {name}: unreachable: its jobs are not scheduled and no worker is retired ({why})")
    print_line(out, f"VMs: {_counts(answer['vms'])}")
    lines = [
        [cloud["group"], cloud["cloud"], cloud["region"], _state(cloud), _counts(cloud["vms"]), cloud["foreign_vms"], cloud["error"]]
        for cloud in answer["clouds"]
    ]
    rows(out, ["GROUP", "CLOUD", "REGION", "STATE", "VMS", "FOREIGN", "ERROR"], lines)


def vms(answer: dict[str, Any], out: Console) -> None:
    lines = [
        [vm["id"], vm["state"], vm["group"], vm["cloud"], vm["flavor"], _age(vm["requested_at"]), vm["reason"]] for vm in answer["vms"]
    ]
    rows(out, ["ID", "STATE", "GROUP", "CLOUD", "FLAVOR", "AGE", "REASON"], lines)
    if answer["cursor"]:
        print("more VMs exist; increase --limit", file=sys.stderr)  # noqa: T201


def totals(answer: dict[str, Any], out: Console) -> None:
    lines = [[row["group"], row["cloud"], row["region"], sum(row["vms"].values()), _counts(row["vms"])] for row in answer["vms"]]
    rows(out, ["GROUP", "CLOUD", "REGION", "VMS", "BY STATE"], lines)


def explanation(answer: dict[str, Any], out: Console) -> None:
    print_line(out, f"Job {answer['job']}: {answer['status']}. {answer['summary']}")
    lines = []
    for cloud in answer["clouds"]:
        lines.append([cloud["cloud"], cloud["reason"], cloud["flavor"], cloud["sentence"]])
        for mismatch in cloud["mismatches"]:
            whys = [mismatch["error"]] if mismatch["error"] else [_clause(failure) for failure in mismatch["failures"]]
            lines += [["", "", mismatch["flavor"], why] for why in whys]
    if lines:
        rows(out, ["CLOUD", "REASON", "FLAVOR", "WHY"], lines)


def retired(answer: dict[str, Any], out: Console) -> None:
    state = answer["after"]["state"]
    print_line(out, f"the VM is now {state}" if answer["changed"] else f"nothing to do: the VM is already {state}")


def _state(cloud: dict[str, Any]) -> str:
    if not cloud["enabled"]:
        return "disabled"
    if cloud["frozen"]:
        return "frozen"
    if not cloud["reachable"]:
        return "unreachable"
    return "paused" if cloud["boots_paused_until"] else "ok"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()) if count) or "none"


def _clause(failure: dict[str, Any]) -> str:
    because = f": {failure['because']}" if failure["because"] else ""
    return f"{failure['clause']} is {failure['outcome']}{because}"


def _age(moment: str | None) -> str:
    if moment is None:
        return ""
    seconds = int((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{max(0, seconds)} s"
