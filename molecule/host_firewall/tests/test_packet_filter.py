"""A host's packet filter as role host_firewall leaves it, and what a run does about changes made by hand."""

from __future__ import annotations

import pytest

testinfra_hosts = ["ansible://scratch"]

NAME = "mol-firewall"
LOAD = f"{NAME}: Load the packet filter"


def rules(host):
    return host.check_output("nft list table inet distcloud")


@pytest.mark.security
def test_only_configured_ports_are_open(host):
    loaded = rules(host)
    assert "policy drop" in loaded
    for ports in ("tcp dport 22 accept", "tcp dport { 8080, 8443 } accept", "tcp dport 9000 accept"):
        assert ports in loaded
    assert host.service("nftables").is_enabled


@pytest.mark.parametrize(
    ("drift", "repaired"),
    [
        (
            "nft add rule inet distcloud input tcp dport 6667 accept; sed -i s/9000/9001/ /etc/nftables.d/other.nft;"
            "chmod 0666 /etc/nftables.conf",
            [f"{NAME}: Write the base rules", LOAD, f"{NAME}: Open the ports of other", LOAD],
        ),
        (
            "sed -i s/8080/8081/ /etc/nftables.d/web.nft; systemctl disable --now nftables",
            [f"{NAME}: Open the ports of web", LOAD, f"{NAME}: Enable the packet filter at boot"],
        ),
    ],
)
def test_drift_is_predicted_and_repaired(host, converge, drift, repaired):
    host.check_output("nft add table inet foreign")
    before = rules(host)
    host.check_output(drift)
    assert converge.repairs_drift() == repaired
    assert rules(host) == before
    if "disable" not in drift:  # stopping the unit flushes everything, by Debian's own ExecStop
        assert "inet foreign" in host.check_output("nft list tables")


@pytest.mark.security
def test_closed_service_loses_its_rules(host, converge):
    before = rules(host)
    try:
        assert converge.repairs_drift(firewall_other="close") == [f"{NAME}: Close the ports of other", LOAD]
        assert not host.file("/etc/nftables.d/other.nft").exists
        assert "9000" not in rules(host) and "8080" in rules(host)
        # Loaded rules as an interrupted run leaves them after removing the file, and no service that opens a port.
        host.check_output("nft add rule inet distcloud input tcp dport 9000 accept")
        assert converge.repairs_drift(firewall_web="close", firewall_other="close") == [f"{NAME}: Close the ports of web", LOAD]
        assert "8080" not in rules(host) and "9000" not in rules(host) and "tcp dport 22 accept" in rules(host)
    finally:
        converge.run()
    assert rules(host) == before


def test_host_may_have_no_common_port(host, converge):
    path = "/etc/nftables.d/admin.nft"
    host.check_output(f"echo 'table inet distcloud {{ chain input {{ tcp dport 22 accept comment \"admin\"; }}; }}' > {path}")
    try:
        assert converge.repairs_drift(host_firewall_tcp_ports=[]) == [f"{NAME}: Write the base rules", LOAD]
        assert "tcp dport 22 accept\n" not in rules(host) and "policy drop" in rules(host)
    finally:
        host.check_output(f"rm {path}")
        converge.run()


@pytest.mark.security
def test_bad_input_is_refused(host, converge):
    before = rules(host)
    assert "at least one port from 1 to 65535" in converge.refuses(firewall_web_ports=[0])
    assert "at least one port from 1 to 65535" in converge.refuses(firewall_web_ports=[])
    assert "host_firewall_service_tcp_ports" in converge.refuses(firewall_web_ports=["http"])
    assert rules(host) == before


@pytest.mark.security
def test_admins_rules_are_not_replaced(host, converge):
    before = rules(host)
    own = "table inet own { chain input { type filter hook input priority 1; tcp dport 25 drop; }; }"
    host.check_output(f"mv /etc/nftables.conf /etc/nftables.kept; echo '{own}' > /etc/nftables.conf")
    try:
        assert "/etc/nftables.conf has rules of its own" in converge.refuses()
        assert host.file("/etc/nftables.conf").content_string == own + "\n"
        assert rules(host) == before
    finally:
        host.check_output("mv /etc/nftables.kept /etc/nftables.conf")


def test_admins_file_is_loaded_and_kept(host, converge):
    path = "/etc/nftables.d/admin.nft"
    host.check_output(f"echo 'table inet distcloud {{ chain input {{ tcp dport 9100 accept; }}; }}' > {path}")
    try:
        assert converge.repairs_drift() == [LOAD]
        assert "tcp dport 9100 accept" in rules(host)
    finally:
        host.check_output(f"rm {path}")
        converge.run()
