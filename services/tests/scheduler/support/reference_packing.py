"""The obvious way to pack, in time proportional to demands times workers: what `planning.packing` must give the same result as."""

from __future__ import annotations

from distcloud.scheduler.planning.capacity import WorkerCapacity
from distcloud.scheduler.planning.packing import RANK, fill
from distcloud.scheduler.planning.situation import PendingDemand, Situation


def pack(situation: Situation, pending_demands: list[PendingDemand], by_group: dict[str, list[WorkerCapacity]]) -> None:
    """Assign jobs to free capacity, big jobs first; looks at every worker for every demand. Updates both arguments."""
    for each in by_group.values():
        _sort_least_wanted_first(situation, pending_demands, each)
    for pending in sorted(pending_demands, key=lambda pending: (-pending.demand.request.cores, -pending.demand.request.ram_mib)):
        workers = by_group.get(pending.demand.group)
        if workers:
            pending.placed += fill(situation, pending, workers)
            by_group[pending.demand.group] = [capacity for capacity in workers if capacity.cores > 0 and capacity.ram_mib > 0]


def _sort_least_wanted_first(situation: Situation, pending_demands: list[PendingDemand], workers: list[WorkerCapacity]) -> None:
    """Among workers of the same rank, put those first that the fewest pending demands can use.

    Otherwise a job that can run anywhere would take the worker that was booted for a job that cannot, and another worker would be booted.
    """
    kinds = {id(capacity.worker): capacity.worker for capacity in workers}  # few: workers of one cloud, flavor, image and alias share it
    if len(kinds) < 2:
        return
    group = [pending.job for pending in pending_demands if pending.unplaced > 0 and pending.demand.group == workers[0].cloud[0]]
    wanted = {kind: sum(situation.matcher.matches(job, worker) for job in group) for kind, worker in kinds.items()}
    workers.sort(key=lambda capacity: (RANK[capacity.state], wanted[id(capacity.worker)]))
