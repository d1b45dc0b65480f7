"""Plans even when something of one cloud, group or job makes planning fail: that alone is left out, and the others are served.

Input is untrusted, so the errors that it may cause are not enumerable. What causes one is found by planning for parts of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from ..domain.model import Cloud, Demand, Exclusion, Plan, PlanInputs, Reason, Resources, Verdict
from ..matching.bindings import MatchingUnavailable
from ..matching.matcher import Matcher
from .planner import plan_from

T = TypeVar("T")

_MAX_PROBES: Final = 300  # of one group, or of all groups together
_RETRY_SECONDS: Final = 60.0  # after which everything is planned again


@dataclass(frozen=True, slots=True)
class ContainedPlan:
    """A plan, what was left out of it, and the error that was the reason (None if nothing was left out)."""

    plan: Plan
    exclusions: tuple[Exclusion, ...] = ()
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Culprits:
    """What makes planning fail: whole groups, clouds by key, and single demands."""

    groups: frozenset[str] = frozenset()
    clouds: frozenset[tuple[str, str]] = frozenset()
    demands: tuple[Demand, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.groups or self.clouds or self.demands)

    def and_those(self, other: _Culprits) -> _Culprits:
        return _Culprits(self.groups | other.groups, self.clouds | other.clouds, (*self.demands, *other.demands))


class Bulkhead:
    """Plans cycle after cycle, and remembers for a while what has to be left out, because finding it costs many plans."""

    def __init__(self) -> None:
        self._culprits = _Culprits()
        self._error: Exception | None = None
        self._found_at = 0.0

    def plan(self, inputs: PlanInputs, matcher: Matcher) -> ContainedPlan:
        """Raises MatchingUnavailable, or the error itself if it is not due to anything that can be left out."""
        if self._culprits and 0 <= inputs.now - self._found_at < _RETRY_SECONDS:
            try:
                return self._contained(inputs, matcher)
            except MatchingUnavailable:
                raise
            except Exception:
                self._culprits = _Culprits()  # there are new ones
        try:
            found = ContainedPlan(plan_from(inputs, matcher))
        except MatchingUnavailable:
            raise
        except Exception as error:
            self._culprits = _Search(inputs, matcher).culprits()
            self._error, self._found_at = error, inputs.now
            if not self._culprits:
                raise
            return self._contained(inputs, matcher)
        self._culprits, self._error = _Culprits(), None
        return found

    def _contained(self, inputs: PlanInputs, matcher: Matcher) -> ContainedPlan:
        reason = f"{type(self._error).__name__}; see the log"
        try:
            plan = plan_from(_without(inputs, self._culprits, reason, keep_clouds=True), matcher)
        except MatchingUnavailable:
            raise
        except Exception:  # it is not what the clouds are used for, but the clouds themselves or their VMs
            plan = plan_from(_without(inputs, self._culprits, reason, keep_clouds=False), matcher)
        known = {(id(verdict.demand), verdict.cloud) for verdict in plan.verdicts}
        verdicts = (verdict for verdict in _verdicts(inputs, self._culprits, reason) if (id(verdict.demand), verdict.cloud) not in known)
        exclusions = tuple(_exclusions(self._culprits, reason))
        return ContainedPlan(replace(plan, verdicts=(*plan.verdicts, *verdicts)), exclusions, self._error)


@dataclass(slots=True)
class _Search:
    """Finds what makes planning fail. Mutable: it counts its plans for one group, and gives up when there were too many."""

    inputs: PlanInputs
    matcher: Matcher
    probes: int = field(default=0)

    def culprits(self) -> _Culprits:
        inputs = self.inputs
        names = {group.name for group in inputs.groups} | {cloud.group for cloud in inputs.clouds}
        names |= {vm.group for vm in inputs.vms} | {each.group for each in inputs.demand}
        found = _Culprits()
        for name in self._failing(sorted(names), lambda some: _of_groups(inputs, some)):
            found = found.and_those(self._in_group(name, _of_groups(inputs, (name,))))
        return found

    def _in_group(self, name: str, inputs: PlanInputs) -> _Culprits:
        """The demands or clouds of a group that cannot be planned; the whole group if these cannot be told apart, or are too many."""
        self.probes = 0
        found = _Culprits(
            clouds=_keys(self._failing(inputs.clouds, lambda some: _of_clouds(replace(inputs, demand=_harmless(some)), some))),
            demands=_kinds(self._failing(inputs.demand, lambda some: replace(inputs, clouds=(), vms=(), demand=tuple(some)))),
        )
        rest = _without(inputs, found, "", keep_clouds=False)
        if not self._fails(rest) and self.probes <= _MAX_PROBES:
            return found
        # Only a demand together with a cloud fails: the side with fewer members is the cause.
        demands = self._failing(rest.demand, lambda some: replace(rest, demand=tuple(some)))
        clouds = self._failing(rest.clouds, lambda some: _of_clouds(rest, some))
        jobs_remain, clouds_remain = len(demands) < len(rest.demand), len(clouds) < len(rest.clouds)
        by_demand = _Culprits(demands=_kinds(demands))
        by_cloud = _Culprits(clouds=_keys(clouds))
        prefer_demand = (len(demands), clouds_remain and not jobs_remain) <= (len(clouds), False)
        for choice in (by_demand, by_cloud) if prefer_demand else (by_cloud, by_demand):
            both = found.and_those(choice)
            if choice and not self._fails(_without(inputs, both, "", keep_clouds=False)) and self.probes <= _MAX_PROBES:
                return both
        return _Culprits(groups=frozenset((name,)))

    def _failing(self, items: Iterable[T], only: Callable[[Sequence[T]], PlanInputs]) -> list[T]:
        """The items with which planning fails, each alone."""
        found: list[T] = []
        left = [[*items]]
        while left:
            some = left.pop()
            if not some or not self._fails(only(some)):
                continue
            if len(some) == 1:
                found += some
            else:
                left += [some[len(some) // 2 :], some[: len(some) // 2]]
        return found

    def _fails(self, inputs: PlanInputs) -> bool:
        self.probes += 1
        if self.probes > _MAX_PROBES:
            return False  # the whole group will be left out
        try:
            plan_from(inputs, self.matcher)
        except MatchingUnavailable:
            raise
        except Exception:
            return True
        return False


def _kinds(demands: Iterable[Demand]) -> tuple[Demand, ...]:
    return tuple(_kind(demand) for demand in demands)


def _harmless(clouds: Iterable[Cloud]) -> tuple[Demand, ...]:
    """Jobs that could run on these clouds and are not to blame for anything."""
    images = sorted({(cloud.group, min(cloud.images)) for cloud in clouds if cloud.images})
    return tuple(Demand(group, "", "true", Resources(1, 1, 0.0), idle=1, image=image) for group, image in images)


def _keys(clouds: Iterable[Cloud]) -> frozenset[tuple[str, str]]:
    return frozenset((cloud.group, cloud.name) for cloud in clouds)


def _of_groups(inputs: PlanInputs, names: Sequence[str]) -> PlanInputs:
    chosen = frozenset(names)
    return replace(
        inputs,
        demand=tuple(each for each in inputs.demand if each.group in chosen),
        vms=tuple(vm for vm in inputs.vms if vm.group in chosen),
        clouds=tuple(cloud for cloud in inputs.clouds if cloud.group in chosen),
        groups=tuple(group for group in inputs.groups if group.name in chosen),
    )


def _of_clouds(inputs: PlanInputs, clouds: Sequence[Cloud]) -> PlanInputs:
    keys = _keys(clouds)
    return replace(inputs, clouds=tuple(clouds), vms=tuple(vm for vm in inputs.vms if (vm.group, vm.cloud) in keys))


def _without(inputs: PlanInputs, culprits: _Culprits, reason: str, *, keep_clouds: bool) -> PlanInputs:
    """The inputs without the culprits. With `keep_clouds`, clouds are kept for the VMs that they have, but nothing is booted there."""
    clouds: list[Cloud] = []
    for cloud in inputs.clouds:
        if (cloud.group, cloud.name) not in culprits.clouds:
            clouds.append(cloud)
        elif keep_clouds:
            excluded = f"planning fails for it: {reason}"
            clouds.append(replace(cloud, excluded=excluded, attributes={}, flavors=(), images=frozenset(), networks=None))
    dropped = frozenset() if keep_clouds else culprits.clouds
    return replace(
        inputs,
        demand=tuple(each for each in inputs.demand if each.group not in culprits.groups and _kind(each) not in culprits.demands),
        vms=tuple(vm for vm in inputs.vms if vm.group not in culprits.groups and (vm.group, vm.cloud) not in dropped),
        clouds=tuple(cloud for cloud in clouds if cloud.group not in culprits.groups),
        groups=tuple(group for group in inputs.groups if group.name not in culprits.groups),
    )


def _kind(demand: Demand) -> Demand:
    """The demand without what changes from cycle to cycle."""
    return replace(demand, idle=0, running=0, waiting_since=None)


def _verdicts(inputs: PlanInputs, culprits: _Culprits, reason: str) -> Iterable[Verdict]:
    for demand in inputs.demand:
        if demand.idle <= 0:
            continue
        if demand.group in culprits.groups:
            yield Verdict(demand, None, Reason.EXCLUDED, f"planning fails for group {demand.group}: {reason}")
        elif _kind(demand) in culprits.demands:
            yield Verdict(demand, None, Reason.EXCLUDED, f"planning fails for jobs like this one: {reason}")
        else:
            for group, cloud in sorted(culprits.clouds):
                if group == demand.group:
                    yield Verdict(demand, cloud, Reason.EXCLUDED, f"{cloud}: planning fails for it: {reason}")


def _exclusions(culprits: _Culprits, reason: str) -> Iterable[Exclusion]:
    for group in sorted(culprits.groups):
        yield Exclusion(group, None, "planning for the group", reason)
    for group, cloud in sorted(culprits.clouds):
        yield Exclusion(group, cloud, "planning for the cloud", reason)
    for demand in culprits.demands:
        yield Exclusion(demand.group, None, f"planning for jobs of {demand.owner}", reason)
