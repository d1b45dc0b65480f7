"""Role host_firewall: which ports its rules leave open, and which file it does not replace."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

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
# In a process of its own: what is loaded for templates makes a controller of the process, in which modules no longer tell their warnings.
RENDER = """
import json, sys
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
wish = json.load(sys.stdin)
known = {**wish["variables"], **{name: trust_as_template(text) for name, text in wish["templates"].items()}}
print(Templar(DataLoader(), variables=known).template(trust_as_template(wish["text"])))
"""


@pytest.mark.parametrize(
    ("variables", "ports"),
    [({}, "22"), ({"ansible_port": "2222"}, "22, 2222"), ({"ansible_port": 22}, "22"), ({"host_firewall_tcp_ports": [80]}, "80")],
)
def test_the_way_of_ansible_stays_open(variables: dict[str, Any], ports: str) -> None:
    wish = {
        "variables": {"host_firewall_tcp_ports": [22], "ansible_managed": "by a test", **variables},
        "templates": {"__host_firewall_tcp_ports": VARIABLES["__host_firewall_tcp_ports"]},
        "text": (ROLE / "templates" / "nftables.conf.j2").read_text(),
    }
    text = subprocess.run([sys.executable, "-c", RENDER], input=json.dumps(wish), capture_output=True, text=True, check=True).stdout
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
