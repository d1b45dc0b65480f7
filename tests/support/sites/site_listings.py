"""The workers that ledger, Nova, Neutron and pool list at one moment, and the differences; pure, no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Rows in these states say that the pool shows the worker. One that retires may have left the pool already.
IN_POOL = frozenset({"idle", "running"})


@dataclass(frozen=True)
class Listings:
    """`ledger` has the API's rows that are not gone; `servers` (region, name, id) of Nova; `ports` (region, server's id), once for each
    port of a server in Neutron; `slots` the workers that the pool's slot ads name."""

    ledger: Sequence[Mapping[str, Any]]
    servers: list[tuple[str, str, str]]
    ports: list[tuple[str, str]]
    slots: set[str]

    def differences(self) -> list[str]:
        """Descriptions of the differences; empty if all four have the same workers with the same ids."""
        rows = [(row["region"], row["id"], row["server_id"]) for row in self.ledger]
        known = {row["id"] for row in self.ledger}
        joined = {row["id"] for row in self.ledger if row["state"] in IN_POOL}
        found = [
            *_surplus("in the ledger and not in Nova", rows, self.servers),
            *_surplus("in Nova and not in the ledger", self.servers, rows),
        ]
        ids = [(region, server) for region, _name, server in self.servers]
        found += _surplus("a server without a port", ids, self.ports)
        found += _surplus("a port of no server, or one too many", self.ports, ids)
        found += _surplus("the ledger has it in the pool, the pool does not", joined, self.slots)
        found += _surplus("a slot ad of no worker", self.slots, known)
        return found


def _surplus(what: str, ours: Iterable[Any], theirs: Iterable[Any]) -> list[str]:
    return [f"{what}: {one}" for one in (Counter(ours) - Counter(theirs)).elements()]


@dataclass
class Seen:
    """Summary of repeated listings."""

    servers: set[tuple[str, str, str]] = field(default_factory=set)
    highest: dict[str, int] = field(default_factory=dict)  # the most servers that a region had at once
    settled: int = 0  # moments with workers in the pool in which all four agreed
    differed: list[str] = field(default_factory=list)  # where they did not agree, when they last did not

    def add(self, listings: Listings) -> None:
        self.servers |= set(listings.servers)
        for region, count in Counter(region for region, _name, _id in listings.servers).items():
            self.highest[region] = max(self.highest.get(region, 0), count)
        differences = listings.differences()
        if differences:
            self.differed = differences
        elif listings.slots:
            self.settled += 1
