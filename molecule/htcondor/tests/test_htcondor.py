"""The hosts of a pool as role htcondor leaves them: files, rights, units, ports."""

from __future__ import annotations

import re

import pytest

testinfra_hosts = ["ansible://ht-central"]

FILES = {
    "ht-central": ["10-security", "20-central-manager", "45-jobguard", "50-fair-share", "60-refused-workers"],
    "ht-submit": ["10-security", "30-submit", "40-groups", "45-jobguard"],
}


@pytest.mark.parametrize("name", FILES)
def test_one_file_per_concern(on, name):
    folder = "/etc/condor/config.d"
    ours = [f"{folder}/{one}.conf" for one in FILES[name]]
    for path in ours:
        file = on(name).file(path)
        assert (file.user, file.group, file.mode) == ("root", "root", 0o644)
    assert [path for path in sorted(on(name).check_output(f"ls {folder}/[1-6]*").split()) if path not in ours] == []


@pytest.mark.security
def test_the_service_runs_hardened_and_at_boot(host):
    unit = host.service("condor")
    journal = host.check_output("journalctl -u condor -n 20 --no-pager")
    assert unit.is_running, journal
    assert unit.is_enabled
    assert host.check_output("systemctl show condor -p ProtectSystem --value") == "full"


def opened(rules):
    """The TCP ports that nft's listing accepts; a set lists ports and ranges."""
    sets = [one.strip("{ }") for one in re.findall(r"tcp dport (\{[^}]*\}|\S+) accept", rules)]
    ranges = [part.partition("-") for one in sets for part in re.split(r",\s*", one.strip())]
    return {port for first, _dash, last in ranges for port in range(int(first), int(last or first) + 1)}


@pytest.mark.security
@pytest.mark.parametrize("name", FILES)
def test_only_these_ports_are_open(on, name):
    host = on(name)
    assert host.socket("tcp://0.0.0.0:9618").is_listening
    rules = host.check_output("nft list table inet distcloud")
    assert "policy drop" in rules
    assert opened(rules) == {22, 9618, *range(9700, 9720)}


@pytest.mark.security
def test_no_address_is_trusted(host):
    assert host.check_output("condor_config_val SEC_DEFAULT_AUTHENTICATION") == "REQUIRED"
    assert host.check_output("condor_config_val SEC_DEFAULT_AUTHENTICATION_METHODS") == "FS, IDTOKENS"
    assert host.run("condor_config_val SEC_ENABLE_TOKEN_FETCH").stdout.strip() == "False"


@pytest.mark.security
def test_schedulers_tokens_are_private_and_renewed(host):
    program, folder = "python3 /usr/local/sbin/distcloud-scheduler-token --check", "/var/lib/distcloud/scheduler/condor/tokens.d"
    for name in ("pool", "submit-ht-submit"):
        token = host.file(f"{folder}/{name}")
        assert (token.user, token.mode) == ("distcloud-scheduler", 0o600)
    assert host.run(program).rc == 0
    assert host.service("distcloud-scheduler-token.timer").is_running
    host.check_output(f"rm {folder}/pool {folder}/submit-ht-submit")
    assert host.run(program).rc == 3
    host.check_output("systemctl start distcloud-scheduler-token.service")
    assert host.run(program).rc == 0
    assert "eyJ" not in host.check_output("journalctl -u distcloud-scheduler-token.service --no-pager")


@pytest.mark.security
def test_the_key_of_the_certificate_is_for_root(host):
    assert host.file("/etc/ssl/distcloud/condor.key").mode == 0o600
    assert host.run("openssl verify /etc/ssl/distcloud/condor.pem").rc == 0


def test_unit_with_private_tmp_can_log_in(host):
    """The minter's way to condor_reconfig: a private /tmp, and of the rest of the machine only the folder of log-ins."""
    unit = "systemd-run --quiet --wait --pipe -p ProtectSystem=strict -p PrivateTmp=true"
    assert host.run(f"{unit} -p ReadWritePaths=/run/condor-login condor_reconfig").rc == 0
    assert host.run(f"{unit} condor_reconfig").rc != 0
