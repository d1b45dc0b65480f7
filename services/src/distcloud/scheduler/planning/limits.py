"""Limits of a cloud: its own, the project's quota and the project's soft limit, with the headroom below them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..domain.model import Cloud, CloudKey, Limits, Resources, Usage
from .situation import Situation, add_usage, project_of, usage_of_server

DIMENSIONS = (("vms", "VMs"), ("cores", "cores"), ("ram_mib", "MiB of memory"))
_UNBOUNDED = Limits()


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit in one dimension: `limit` for our VMs (usage by others already subtracted) and `used` by our VMs."""

    name: str  # for messages
    dimension: str  # field of Usage
    unit: str
    stated: int  # as set by the cloud or the admin
    limit: int
    used: int
    others: int
    of_project: bool  # `used` counts the VMs of all clouds of the project
    soft: bool  # prevents boots, but never causes a removal


def bounds(situation: Situation, cloud: Cloud, used: Usage, used_in_project: Usage) -> Iterator[Bound]:
    """All limits that apply to our VMs on the cloud; dimensions without a limit are left out.

    A quota belongs to the project: what any cloud of the project reports prevents boots on all of them, but only what the cloud itself
    reports causes removals there. A soft limit is set per cloud and leaves capacity to the other users of the project.
    """
    yield from _of("limit of the cloud", cloud.limits, used, Usage())
    for member in situation.members[project_of(cloud)]:
        if member.reachable:  # otherwise its quota and foreign usage are outdated
            yield from _of("quota of the project", member.quota, used_in_project, member.foreign, of_project=True, soft=member is not cloud)
    yield from _of("soft limit of the project", cloud.soft_limits, used_in_project, cloud.foreign, of_project=True, soft=True)


def _of(name: str, limits: Limits, used: Usage, others: Usage, *, of_project: bool = False, soft: bool = False) -> Iterator[Bound]:
    if limits == _UNBOUNDED:
        return
    for dimension, unit in DIMENSIONS:
        stated: int | None = getattr(limits, dimension)
        if stated is not None:
            other: int = getattr(others, dimension)
            yield Bound(name, dimension, unit, stated, max(0, stated - other), getattr(used, dimension), other, of_project, soft)


class Headroom:
    """What may still be booted on each cloud while one plan is computed. Quotas set by policy would be added here.

    Mutable: `take` counts each boot of the plan, so that the next one sees what is left. It lives for one call of `plan`."""

    def __init__(self, situation: Situation) -> None:
        self._situation = situation
        self._used = dict(situation.used)
        self._in_project = dict(situation.used_in_project)
        self._refusals: dict[tuple[str, str, Resources], str] = {}  # valid until the next `take`

    def refusal(self, cloud: Cloud, server: Resources) -> str:
        """Why one more server of that size may not be booted; empty if it may."""
        question = (cloud.group, cloud.name, server)
        refusal = self._refusals.get(question)
        if refusal is None:
            self._refusals[question] = refusal = self._refusal(cloud, server)
        return refusal

    def _refusal(self, cloud: Cloud, server: Resources) -> str:
        key, wanted = (cloud.group, cloud.name), usage_of_server(server)
        for bound in bounds(self._situation, cloud, self._used[key], self._in_project[project_of(cloud)]):
            more: int = getattr(wanted, bound.dimension)
            if bound.used + more > bound.limit:
                others = f", others {bound.others}" if bound.others else ""
                used = f"our VMs use {bound.used}{others}, one more needs {more}"
                return f"{cloud.name}: the {bound.name} is {bound.stated} {bound.unit}; {used}"
        return ""

    def take(self, cloud: Cloud, server: Resources) -> None:
        """Count one more server on the cloud."""
        key: CloudKey = (cloud.group, cloud.name)
        project = project_of(cloud)
        self._refusals.clear()
        self._used[key] = add_usage(self._used[key], usage_of_server(server))
        self._in_project[project] = add_usage(self._in_project[project], usage_of_server(server))

    def servers(self, cloud: Cloud) -> int:
        """Number of our servers on the cloud, those booted by this plan included."""
        return self._used[cloud.group, cloud.name].vms
