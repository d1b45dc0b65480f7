"""Print responses of the API: as tables on a terminal, as tab-separated lines into a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from ..common.terminal import print_line, print_rows
from ..common.times import duration, parse_timestamp
from .api.schemas import (
    ClauseResponse,
    CloudStatusResponse,
    ExplanationResponse,
    RetireResponse,
    StatusResponse,
    TotalsResponse,
    VmListResponse,
)


def status(found: StatusResponse, out: Console) -> None:
    pool = found.pool
    health = "healthy" if found.healthy else f"unhealthy: {found.problem}"
    print_line(out, f"Engine: {health}; cycle {found.cycle}, last finished at {found.last_cycle_at or 'no time yet'}")
    unreachable = "" if pool.reachable else f" (unreachable: {pool.error})"
    idle, running, slots = ("?", "?", "?") if pool.asked_at is None else (pool.idle_jobs, pool.running_jobs, pool.slots)
    print_line(out, f"Pool: {idle} jobs idle, {running} running, {slots} workers{unreachable}")
    for name, why in sorted(pool.unreachable_queues.items()):
        print_line(out, f"Queue {name}: unreachable: its jobs are not scheduled and no worker is retired ({why})")
    print_line(out, f"VMs: {_counts(found.vms)}")
    for each in found.exclusions:
        print_line(out, f"Left out: {each.group}{'/' + each.cloud if each.cloud else ''}: {each.subject}: {each.reason}")
    rows = [
        [cloud.group, cloud.cloud, cloud.region, cloud.condition, _counts(cloud.vms), _foreign(cloud), cloud.error]
        for cloud in found.clouds
    ]
    print_rows(out, ["GROUP", "CLOUD", "REGION", "STATE", "VMS", "FOREIGN", "ERROR"], rows)


def vms(found: VmListResponse, out: Console) -> None:
    rows = [[vm.id, vm.state.value, vm.group, vm.cloud, vm.flavor, _age(vm.requested_at), vm.reason] for vm in found.vms]
    print_rows(out, ["ID", "STATE", "GROUP", "CLOUD", "FLAVOR", "AGE", "REASON"], rows)
    if found.cursor:
        print("more VMs exist; increase --limit", file=sys.stderr)  # noqa: T201


def totals(found: TotalsResponse, out: Console) -> None:
    rows = [[cloud.group, cloud.cloud, cloud.region, sum(cloud.vms.values()), _counts(cloud.vms)] for cloud in found.vms]
    print_rows(out, ["GROUP", "CLOUD", "REGION", "VMS", "BY STATE"], rows)


def explanation(found: ExplanationResponse, out: Console) -> None:
    print_line(out, f"Job {found.job}: {found.status}. {found.summary}")
    rows: list[list[Any]] = []
    for cloud in found.clouds:
        rows.append([cloud.cloud, cloud.reason.value, cloud.flavor, cloud.sentence])
        for mismatch in cloud.mismatches:
            whys = [mismatch.error] if mismatch.error else [_clause(failure) for failure in mismatch.failures]
            rows += [["", "", mismatch.flavor, why] for why in whys]
    if rows:
        print_rows(out, ["CLOUD", "REASON", "FLAVOR", "WHY"], rows)


def retired(found: RetireResponse, out: Console) -> None:
    state = found.after.state.value
    print_line(out, f"the VM is now {state}" if found.changed else f"nothing to do: the VM is already {state}")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()) if count) or "none"


def _foreign(cloud: CloudStatusResponse) -> int | str:
    return "?" if cloud.observed_at is None else cloud.foreign_vms


def _clause(failure: ClauseResponse) -> str:
    because = f": {failure.because}" if failure.because else ""
    return f"{failure.clause} is {failure.outcome}{because}"


def _age(moment: str | None) -> str:
    at = parse_timestamp(moment)
    return "" if at is None else duration(time.time() - at)
