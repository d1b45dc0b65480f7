"""The hosts of a site can be reached on the declared ports only; everything else listens on loopback or is behind the host's firewall."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator

import pytest
from running_lab import Lab

# By inventory group. A lab region has no firewall, so that nothing may even listen on another port there.
DECLARED = {
    "central_managers": {"ssh": 22, "condor": 9618, "scheduler": 8443},
    "submit": {"ssh": 22, "condor": 9618},
    "lab_regions": {"ssh": 22, "identity": 5000, "compute": 8774, "placement": 8778, "image": 9292, "network": 9696},
}
FIREWALL = "nft list chain inet distcloud input 2>/dev/null || true"


def declared(lab: Lab) -> Iterator[tuple[str, set[int]]]:
    """Each host of the groups with the ports of all its groups."""
    hosts: dict[str, set[int]] = {}
    for group, ports in DECLARED.items():
        for host in lab.inventory.get(group, {}).get("hosts", []):
            hosts.setdefault(host, set()).update(ports.values())
    yield from hosts.items()


def listeners(text: str) -> dict[tuple[str, int], str]:
    """(protocol, port) -> process, of the output of `ss -Hltunp`, without what listens on loopback only."""
    found = {}
    for line in text.splitlines():
        protocol, _state, _received, _sent, local, _peer, *process = line.split()
        address, _colon, port = local.rpartition(":")
        address = address.strip("[]").partition("%")[0]
        if address == "*" or not ipaddress.ip_address(address).is_loopback:
            found[protocol, int(port)] = " ".join(process)
    return found


def answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False


@pytest.mark.security
def test_hosts_answer_on_declared_ports_only(lab: Lab) -> None:
    wrong = {}
    for host, ports in declared(lab):
        listening = listeners(lab.run(host, "ss -Hltunp"))
        undeclared = {key: process for key, process in listening.items() if key[0] != "tcp" or key[1] not in ports}
        if "policy drop" in lab.run(host, FIREWALL):
            # The schedd and the collector listen on further ports, for processes of the same host.
            undeclared = {key: process for key, process in undeclared.items() if key[0] == "tcp" and answers(lab.address(host), key[1])}
        if undeclared:
            wrong[host] = undeclared
        assert ports <= {port for protocol, port in listening if protocol == "tcp"}, f"{host} does not serve what this test declares"
    assert not wrong, wrong
