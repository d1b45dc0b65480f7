"""Free capacity of workers, and the search for the workers that a job fits on."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from ..domain.model import CloudKey, Resources, VmState
from ..matching.matcher import WorkerAd


@dataclass(slots=True)
class WorkerCapacity:
    """The free capacity of one worker; `vm_id` None: the worker is booted by this plan.

    Mutable: `put` subtracts the jobs that this plan assigns, so that the next demand sees what is left. It lives for one call of `plan`."""

    worker: WorkerAd
    cloud: CloudKey
    vm_id: str | None
    state: VmState
    cores: int
    ram_mib: int
    disk_gib: float
    taken: int = 0  # jobs assigned by this plan

    def fits(self, request: Resources) -> bool:
        """Whether there is room for one such job."""
        return self.cores >= request.cores and self.ram_mib >= request.ram_mib and self.disk_gib >= request.disk_gib

    def put(self, request: Resources, count: int) -> int:
        """Assign as many of `count` jobs as fit; returns their number."""
        fits = count
        if request.cores > 0:
            fits = min(fits, self.cores // request.cores)
        if request.ram_mib > 0:
            fits = min(fits, self.ram_mib // request.ram_mib)
        if request.disk_gib > 0:
            fits = min(fits, int(self.disk_gib / request.disk_gib + 1e-9))
        if fits <= 0:
            return 0
        self.cores -= fits * request.cores
        self.ram_mib -= fits * request.ram_mib
        self.disk_gib -= fits * request.disk_gib
        self.taken += fits
        return fits


_Amounts = tuple[int, int, float]
_EXHAUSTED: _Amounts = (0, 0, -1.0)  # less than any request


def _amounts(capacity: WorkerCapacity) -> _Amounts:
    """What a worker has free; one without a free core or memory takes no job, even if the job requests none."""
    if capacity.cores <= 0 or capacity.ram_mib <= 0:
        return _EXHAUSTED
    return (capacity.cores, capacity.ram_mib, capacity.disk_gib)


class CapacityTree:
    """Workers in a fixed order; finds those with enough capacity without a look at each of them.

    A binary tree over the workers holds the largest cores, memory and disk of each subtree. A search skips the subtrees where one of
    the three is too small, so it usually takes a number of steps logarithmic in the workers for each one found. Mutable: call `update`
    after a worker's capacity has changed. It lives for one call of `plan`."""

    def __init__(self, workers: Sequence[WorkerCapacity]) -> None:
        self._workers = workers
        self._leaves = 1 << (len(workers) - 1).bit_length()
        self._most = [_EXHAUSTED] * (2 * self._leaves)
        for index, capacity in enumerate(workers):
            self._most[self._leaves + index] = _amounts(capacity)
        for node in range(self._leaves - 1, 0, -1):
            self._most[node] = self._larger(node)

    def may_fit(self, request: Resources) -> bool:
        """False if no worker has room for one such job."""
        return self._has_room(1, request)

    def fitting(self, request: Resources) -> Iterator[int]:
        """Indices of the workers with room for one such job, in order; capacity behind the current one may change meanwhile."""
        stack = [1]
        while stack:
            node = stack.pop()
            if not self._has_room(node, request):
                continue
            if node < self._leaves:
                stack += (2 * node + 1, 2 * node)
            elif node - self._leaves < len(self._workers):
                yield node - self._leaves

    def update(self, index: int) -> None:
        """Take over the changed capacity of one worker."""
        node = self._leaves + index
        self._most[node] = _amounts(self._workers[index])
        while node > 1:
            node //= 2
            most = self._larger(node)
            if most == self._most[node]:
                return
            self._most[node] = most

    def _has_room(self, node: int, request: Resources) -> bool:
        cores, ram_mib, disk_gib = self._most[node]
        return cores >= request.cores and ram_mib >= request.ram_mib and disk_gib >= request.disk_gib

    def _larger(self, node: int) -> _Amounts:
        one, other = self._most[2 * node], self._most[2 * node + 1]
        return (max(one[0], other[0]), max(one[1], other[1]), max(one[2], other[2]))


class WorkerIndex:
    """The workers of one group in the order in which jobs are assigned to them, by kind (workers that share a slot ad)."""

    def __init__(self, workers: Sequence[WorkerCapacity]) -> None:
        kinds: dict[int, list[tuple[int, WorkerCapacity]]] = {}
        for position, capacity in enumerate(workers):
            kinds.setdefault(id(capacity.worker), []).append((position, capacity))
        self._kinds = [(each[0][1].worker, each, CapacityTree([capacity for _, capacity in each])) for each in kinds.values()]

    def fill(self, request: Resources, count: int, matches: Callable[[WorkerAd], bool]) -> int:
        """Assign as many of `count` jobs as possible to the first workers that they fit on and match; returns their number."""
        left = count
        if left <= 0:
            return 0
        for _, index, kind in self._candidates(request, matches):
            _, workers, tree = self._kinds[kind]
            left -= workers[index][1].put(request, left)
            tree.update(index)
            if left <= 0:
                break
        return count - left

    def _candidates(self, request: Resources, matches: Callable[[WorkerAd], bool]) -> Iterator[tuple[int, int, int]]:
        """Position, index within its kind, and kind of each worker that fits and matches, by position."""
        found = [self._of_kind(kind, request, matches) for kind, each in enumerate(self._kinds) if each[2].may_fit(request)]
        return heapq.merge(*found, key=itemgetter(0))

    def _of_kind(self, kind: int, request: Resources, matches: Callable[[WorkerAd], bool]) -> Iterator[tuple[int, int, int]]:
        worker, workers, tree = self._kinds[kind]
        for number, index in enumerate(tree.fitting(request)):
            if number == 0 and not matches(worker):
                return
            yield workers[index][0], index, kind
