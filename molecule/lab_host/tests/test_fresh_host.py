"""A fresh lab host has everything that a role expects of a managed host."""

from __future__ import annotations

testinfra_hosts = ["ansible://scratch"]


def test_systemd_runs(host):
    assert host.run("systemctl is-system-running").stdout.strip() == "running"


def test_host_has_full_name(host):
    assert host.check_output("hostname -f") == host.check_output("hostname") + ".distcloud.lab"
