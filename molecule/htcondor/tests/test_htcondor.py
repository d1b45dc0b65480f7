"""The hosts of a pool as role htcondor leaves them: files, rights, units, ports."""

from __future__ import annotations

import pytest

testinfra_hosts = ["ansible://ht-central"]

FILES = ["10-security", "20-central-manager", "30-submit", "40-groups", "50-fair-share", "60-refused-workers"]


@pytest.mark.parametrize("name", FILES)
def test_one_file_per_concern(host, name):
    file = host.file(f"/etc/condor/config.d/{name}.conf")
    assert (file.user, file.group, file.mode) == ("root", "root", 0o644)


def test_the_service_runs_hardened_and_at_boot(host):
    unit = host.service("condor")
    journal = host.check_output("journalctl -u condor -n 20 --no-pager")
    assert unit.is_running, journal
    assert unit.is_enabled
    assert host.check_output("systemctl show condor -p ProtectSystem --value") == "full"


def test_one_port_is_open_and_no_more_are_needed(host):
    assert host.socket("tcp://0.0.0.0:9618").is_listening
    rules = host.check_output("nft list table inet distcloud")
    assert "tcp dport 9618 accept" in rules
    assert "policy drop" in rules


def test_nothing_is_granted_for_an_address(host):
    assert host.check_output("condor_config_val SEC_DEFAULT_AUTHENTICATION") == "REQUIRED"
    assert host.check_output("condor_config_val SEC_DEFAULT_AUTHENTICATION_METHODS") == "FS, IDTOKENS"
    assert host.run("condor_config_val SEC_ENABLE_TOKEN_FETCH").stdout.strip() == "False"


def test_the_schedulers_token_is_its_own_and_is_renewed(host):
    token = host.file("/var/lib/distcloud/scheduler/condor/tokens.d/pool")
    assert (token.user, token.mode) == ("distcloud", 0o600)
    assert host.run("python3 /usr/local/sbin/distcloud-scheduler-token --check").rc == 0
    assert host.service("distcloud-scheduler-token.timer").is_running
    host.run_expect([0], "rm /var/lib/distcloud/scheduler/condor/tokens.d/pool")
    assert host.run("python3 /usr/local/sbin/distcloud-scheduler-token --check").rc == 3
    host.run_expect([0], "systemctl start distcloud-scheduler-token.service")
    assert host.run("python3 /usr/local/sbin/distcloud-scheduler-token --check").rc == 0
    assert "eyJ" not in host.check_output("journalctl -u distcloud-scheduler-token.service --no-pager")


def test_the_key_of_the_certificate_is_for_root(host):
    assert host.file("/etc/ssl/distcloud/condor.key").mode == 0o600
    assert host.run("openssl verify /etc/ssl/distcloud/condor.pem").rc == 0
