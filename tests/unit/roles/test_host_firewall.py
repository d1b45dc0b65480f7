"""Role host_firewall: which ports its rules leave open, and which file it does not replace."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLE = Path(__file__).resolve().parents[3] / "roles" / "host_firewall"
VARIABLES = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
DISTRIBUTIONS = """#!/usr/sbin/nft -f

flush ruleset

# accept and drop stand in no rule
table inet filter {
\tchain input {
\t\ttype filter hook input priority filter; policy accept;
\t}
}
"""


@pytest.mark.parametrize(
    ("variables", "ports"),
    [({}, "22"), ({"ansible_port": "2222"}, "22, 2222"), ({"ansible_port": 22}, "22"), ({"host_firewall_tcp_ports": [80]}, "80")],
)
def test_the_way_of_ansible_stays_open(variables: dict[str, Any], ports: str) -> None:
    known = {"host_firewall_tcp_ports": [22], "ansible_managed": "by a test", **variables}
    known["__host_firewall_tcp_ports"] = trust_as_template(VARIABLES["__host_firewall_tcp_ports"])
    text = Templar(DataLoader(), variables=known).template(trust_as_template((ROLE / "templates" / "nftables.conf.j2").read_text()))
    assert f"tcp dport {{ {ports} }} accept" in text


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("", False),
        (DISTRIBUTIONS, False),
        (DISTRIBUTIONS.replace("policy accept", "policy drop"), True),
        (DISTRIBUTIONS.replace("policy accept;", "tcp dport 25 accept"), True),
        (DISTRIBUTIONS + 'include "/etc/nftables/*.nft"\n', True),
    ],
)
def test_rules_of_the_admins_own_are_told_from_the_distributions(text: str, own: bool) -> None:
    assert bool(re.search(VARIABLES["__host_firewall_rules"], text)) == own
