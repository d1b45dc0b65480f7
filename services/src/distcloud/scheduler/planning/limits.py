"""Bounds on a cloud: the own limit, the project's quota and its soft limit, each with what is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from distcloud.scheduler.model import Cloud, Limits, Resources, Usage
from distcloud.scheduler.planning.situation import CloudKey, ProjectKey, Situation, added, of_server, project_of

DIMENSIONS = (("vms", "VMs"), ("cores", "cores"), ("ram_mib", "MiB of memory"))


@dataclass(frozen=True, slots=True)
class Bound:
    """One bound in one dimension: `limit` for our VMs (what others use is taken off already) and what ours `used`."""

    name: str  # the bound's, for people
    dimension: str  # field of Usage
    unit: str
    stated: int  # as the cloud or the admin gave it
    limit: int
    used: int
    others: int
    project: ProjectKey | None  # None: of the cloud alone


def bounds(cloud: Cloud, used: Usage, used_in_project: Usage) -> Iterator[Bound]:
    """All bounds that hold for our VMs on the cloud; those that are unbounded are left out."""
    for name, limits, counted, others, project in (
        ("limit of the cloud", cloud.limits, used, Usage(), None),
        ("quota of the project", cloud.quota, used_in_project, cloud.foreign, project_of(cloud)),
        ("soft limit of the project", cloud.soft_limits, used_in_project, cloud.foreign, project_of(cloud)),
    ):
        if limits == Limits():
            continue
        for dimension, unit in DIMENSIONS:
            limit: int | None = getattr(limits, dimension)
            if limit is not None:
                other: int = getattr(others, dimension)
                yield Bound(name, dimension, unit, limit, max(0, limit - other), getattr(counted, dimension), other, project)


class Rooms:
    """What may still be ordered, cloud by cloud, while a plan grows. Quotas that move by policy would be set here."""

    def __init__(self, situation: Situation) -> None:
        self._situation = situation
        self._used = dict(situation.used)
        self._in_project = dict(situation.used_in_project)

    def refusal(self, cloud: Cloud, server: Resources) -> str:
        """Why one more server of that size may not be ordered; empty if it may."""
        key, wanted = (cloud.group, cloud.name), of_server(server)
        for bound in bounds(cloud, self._used[key], self._in_project[project_of(cloud)]):
            more: int = getattr(wanted, bound.dimension)
            if bound.used + more > bound.limit:
                others = f" and others {bound.others}" if bound.others else ""
                used = f"ours use {bound.used}{others}, one more needs {more}"
                return f"{cloud.name}: the {bound.name} is {bound.stated} {bound.unit}; {used}"
        return ""

    def take(self, cloud: Cloud, server: Resources) -> None:
        key: CloudKey = (cloud.group, cloud.name)
        project = project_of(cloud)
        self._used[key] = added(self._used[key], of_server(server))
        self._in_project[project] = added(self._in_project[project], of_server(server))

    def servers(self, cloud: Cloud) -> int:
        """Our servers there, those ordered by this plan included."""
        return self._used[cloud.group, cloud.name].vms
