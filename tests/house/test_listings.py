"""Pure helpers of the site and lab tests: they detect differences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from outer_machine import COUNTED, left_behind, marks, rules
from site_listings import Listings, Seen


def row(vm: str, server: str | None, state: str = "running", region: str = "region-a") -> dict[str, Any]:
    return {"id": vm, "server_id": server, "state": state, "region": region}


WELL = Listings(
    ledger=[row("vm-a", "1"), row("vm-b", "2", "starting", "region-b")],
    servers=[("region-b", "vm-b", "2"), ("region-a", "vm-a", "1")],
    ports=[("region-a", "1"), ("region-b", "2")],
    slots={"vm-a"},
)


def test_equal_listings_have_no_difference() -> None:
    assert WELL.differences() == []
    assert Listings([], [], [], set()).differences() == []
    retiring = replace(WELL, ledger=[row("vm-a", "1", "retiring"), WELL.ledger[1]])
    assert retiring.differences() == replace(retiring, slots=set()).differences() == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (replace(WELL, servers=WELL.servers[1:]), "in the ledger and not in Nova: ('region-b', 'vm-b', '2')"),
        (replace(WELL, ledger=WELL.ledger[:1]), "in Nova and not in the ledger: ('region-b', 'vm-b', '2')"),
        (replace(WELL, servers=[*WELL.servers, ("region-a", "vm-a", "3")]), "in Nova and not in the ledger: ('region-a', 'vm-a', '3')"),
        (replace(WELL, ledger=[row("vm-a", None), WELL.ledger[1]]), "in the ledger and not in Nova: ('region-a', 'vm-a', None)"),
        (replace(WELL, ports=WELL.ports[:1]), "a server without a port: ('region-b', '2')"),
        (replace(WELL, ports=[*WELL.ports, WELL.ports[0]]), "one too many: ('region-a', '1')"),
        (replace(WELL, slots=set()), "the pool does not: vm-a"),
        (replace(WELL, slots={"vm-a", "vm-c"}), "a slot ad of no worker: vm-c"),
    ],
)
def test_each_difference_is_named(wrong: Listings, words: str) -> None:
    assert words in "\n".join(wrong.differences())


def test_counts_are_summed() -> None:
    seen = Seen()
    for listings in (Listings([], [], [], set()), replace(WELL, slots=set()), WELL):
        seen.add(listings)
    assert (seen.settled, seen.highest, len(seen.servers)) == (1, {"region-a": 1, "region-b": 1}, 2)
    assert seen.differed == ["the ledger has it in the pool, the pool does not: vm-a"]


KINDS = ("sysctl", "nftables", "mounts", "links", "addresses", "routes", "connections", "cgroups", "processes", "folders", "labs")
BEFORE: dict[str, list[str]] = {kind: [] for kind in KINDS} | {"sysctl": ["net.ipv4.ip_forward = 0"], "nftables": ["table inet mine"]}
OURS = marks(["test"], ["central"], "dclab0", "10.203.0.0/24")


@pytest.mark.parametrize(
    ("after", "left"),
    [
        ({}, {}),
        ({"sysctl": ["net.bridge.new = 1", "net.ipv4.ip_forward = 0"]}, {}),
        ({"sysctl": ["net.ipv4.ip_forward = 1"]}, {"sysctl": ["net.ipv4.ip_forward = 1, was 0"]}),
        ({"nftables": []}, {"nftables": ["gone: table inet mine"]}),
        ({"links": ["dclab0", "other0"]}, {"links": ["dclab0", "other0"]}),
        # If another lab runs too, only our own lines count.
        ({"links": ["dclab0", "other0"], "labs": ["distcloud-lab-site-central"]}, {"links": ["dclab0"]}),
        ({"labs": ["distcloud-lab-test-central"]}, {"labs": ["distcloud-lab-test-central"]}),
    ],
)
def test_remains_of_a_lab_are_reported(after: dict[str, list[str]], left: dict[str, list[str]]) -> None:
    assert left_behind(BEFORE, BEFORE | after, OURS) == left


def test_rules_name_their_table_and_chain() -> None:
    ruleset = (
        "table ip lab {\n\tchain out {\n\t\ttype nat hook output priority 0; policy accept;\n\t\tip saddr 10.0.0.0/8 masquerade\n\t}\n}\n"
    )
    assert rules(ruleset.splitlines())[1:] == [
        "table ip lab / chain out",
        "table ip lab / chain out / type nat hook output priority 0; policy accept;",
        "table ip lab / chain out / ip saddr 10.0.0.0/8 masquerade",
    ]


def test_self_changing_counters_are_ignored() -> None:
    for name, counted in (
        ("net.netfilter.nf_conntrack_count", True),
        ("net.ipv4.conf.eth0.forwarding", True),
        ("net.ipv4.conf.all.forwarding", False),
        ("net.ipv4.ip_forward", False),
    ):
        assert bool(COUNTED.match(name + " = 1")) is counted, name
