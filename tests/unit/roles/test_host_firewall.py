"""Role host_firewall: which ports its rules leave open, and which file it does not replace."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from role_templates import render

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


def base_rules(**variables: Any) -> str:
    known = {"host_firewall_tcp_ports": [22], "ansible_managed": "by a test", **variables}
    templates = {"__host_firewall_tcp_ports": VARIABLES["__host_firewall_tcp_ports"]}
    return str(render((ROLE / "templates" / "nftables.conf.j2").read_text(), known, templates))


@pytest.mark.parametrize(
    ("variables", "ports"),
    [
        ({}, "22"),
        ({"ansible_port": "2222"}, "22, 2222"),
        ({"ansible_port": 22}, "22"),
        ({"host_firewall_tcp_ports": [80]}, "80"),
        ({"host_firewall_tcp_ports": [], "ansible_port": 2222}, "2222"),
    ],
)
def test_port_of_ansible_stays_open(variables: dict[str, Any], ports: str) -> None:
    assert f"\t\ttcp dport {{ {ports} }} accept\n\t}}\n" in base_rules(**variables)


def test_no_common_port_means_no_rule() -> None:
    text = base_rules(host_firewall_tcp_ports=[])
    assert "dport" not in text and "\t\tmeta l4proto { icmp, ipv6-icmp } accept\n\t}\n" in text


@pytest.mark.parametrize(("family", "path"), [("Debian", "/etc/nftables.conf"), ("RedHat", "/etc/sysconfig/nftables.conf")])
def test_rules_are_where_the_system_loads_them(family: str, path: str) -> None:
    assert render(VARIABLES["__host_firewall_file"], {"ansible_facts": {"os_family": family}}) == path


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
def test_admins_rules_are_recognized(text: str, own: bool) -> None:
    assert bool(re.search(VARIABLES["__host_firewall_rules"], text)) == own
