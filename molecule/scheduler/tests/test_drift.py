"""How the roles distcloud and scheduler repair manual changes and refuse bad input."""

from __future__ import annotations

import pytest

testinfra_hosts = ["ansible://scratch"]

NAME = "mol-scheduler"
ENGINES = "--tags=engines"


def test_drift_is_predicted_and_repaired(host, converge):
    for drift in (
        # role distcloud
        "chmod 0777 /etc/distcloud; usermod --shell /bin/bash distcloud; rm /usr/local/bin/distcloud; ln -sfn /usr /opt/distcloud",
        # role scheduler
        "sed -i 's/cycle_seconds.*/cycle_seconds: 6/' /etc/distcloud/scheduler.yml; chmod 0644 /etc/distcloud/scheduler.key",
        "echo {} > /etc/distcloud/minter.json; rm /etc/distcloud/cli.yml; echo x > /etc/distcloud/cli.token",
        "chmod 0777 /etc/distcloud-public; rm /etc/distcloud-public/cli.token; echo x > /etc/distcloud-public/cli.yml",
        "sed -i 's/ProtectHome=true/ProtectHome=false/' /etc/systemd/system/distcloud-scheduler.service",
        "chmod 0755 /var/lib/distcloud/scheduler/condor/tokens.d; systemctl disable --now distcloud-minter.socket",
        "systemctl disable distcloud-scheduler",
        "nft flush chain inet distcloud input; nft add rule inet distcloud input tcp dport != 8443 accept",
    ):
        host.check_output(drift)
    began = started(host)
    assert converge.mends(ENGINES, settled=False) == [
        f"{NAME}: {change}"
        for change in (
            "Create the engines' user",
            "Create the engines' directories (/etc/distcloud)",
            "Activate the release",
            "Link the distcloud command",
            "Create the scheduler's directories (/var/lib/distcloud/scheduler/condor/tokens.d)",
            "Restrict access to the encryption key",
            "Configure the scheduler",
            "Configure the minter",
            "Write the CLI token",
            "Configure the CLI",
            "Create the public CLI directory",
            "Write the public CLI token",
            "Configure the public CLI",
            "Install the units (/etc/systemd/system/distcloud-scheduler.service)",
            "Load the packet filter",
            "Start the minter socket",
            "Start the scheduler",
            "Restart the scheduler",
        )
    ]
    assert started(host) != began, "the service runs with its own configuration again"
    assert host.check_output("systemctl show distcloud-scheduler -p ProtectHome --value") == "yes"


@pytest.mark.long
def test_repair_is_idempotent(converge):
    after = converge.run("--check", ENGINES)
    assert (after.changes, after.failures) == ([], {})


def test_stopped_service_is_started_once(host, converge):
    host.check_output("systemctl stop distcloud-scheduler; echo '# by hand' >> /etc/distcloud/scheduler.yml")
    assert converge.run(ENGINES).changed == [f"{NAME}: Configure the scheduler", f"{NAME}: Start the scheduler"]


@pytest.mark.fault
@pytest.mark.long
def test_interrupted_run_is_completed_by_the_next(host, converge):
    """The packet filter fails after configuration and units are written and before they are applied."""
    began, variables = started(host), {"scheduler_cycle_seconds": 6}
    socket = "systemctl show distcloud-minter.socket -p ActiveEnterTimestampMonotonic --value"
    listens = host.check_output(socket)
    host.check_output("echo '# by hand' >> /etc/systemd/system/distcloud-minter.socket")
    try:
        cut = converge.run(ENGINES, host_firewall_tcp_ports=[99999], **variables)
        assert "Write the base rules" in cut.failures[NAME]
        assert cut.changed == [
            f"{NAME}: Configure the scheduler",
            f"{NAME}: Install the units (/etc/systemd/system/distcloud-minter.socket)",
        ]
        assert (started(host), host.check_output(socket)) == (began, listens)
        assert converge.mends(ENGINES, **variables) == [
            f"{NAME}: {change}"
            for change in (
                "Schedule a restart of the outdated minter socket",
                "Schedule a restart of the outdated scheduler",
                "Restart the minter socket",
                "Restart the scheduler",
            )
        ]
        assert started(host) != began and host.check_output(socket) != listens
    finally:
        converge.run(ENGINES)


@pytest.mark.security
@pytest.mark.long
def test_port_is_closed_when_disabled(host, converge):
    try:
        closed = [f"{NAME}: Close the ports of scheduler", f"{NAME}: Load the packet filter"]
        assert converge.mends(ENGINES, settled=False, scheduler_firewall=False) == closed
        assert "8443" not in host.check_output("nft list table inet distcloud")
    finally:
        converge.run(ENGINES)


@pytest.mark.long
def test_repaired_link_restarts_the_service(host, converge):
    """A link that is wrong and old: check mode sees it before the real run repairs it."""
    began = started(host)
    host.check_output("ln -sfn /usr /opt/distcloud; touch --no-dereference --date=@1 /opt/distcloud")
    assert converge.mends(ENGINES) == [
        f"{NAME}: {change}" for change in ("Activate the release", "Schedule a restart of the outdated scheduler", "Restart the scheduler")
    ]
    assert started(host) != began


@pytest.mark.long
def test_check_mode_predicts_the_wheelhouse(converge, tmp_path):
    dry = converge.run("--check", ENGINES, distcloud_wheelhouse_dir=str(tmp_path / "wheels"))
    assert (dry.changed, dry.failures) == ([f"{NAME}: Store the wheelhouse on the control node"], {})
    assert list(tmp_path.iterdir()) == []


def started(host):
    return host.check_output("systemctl show distcloud-scheduler -p ActiveEnterTimestampMonotonic --value")


@pytest.mark.security
def test_bad_input_is_refused(host, converge):
    began = started(host)
    one = {"name": "a", "scope": "viewer", "token": "t" * 20}
    message = converge.refuses(
        ENGINES, scheduler_tokens=[{**one, "token": "secret"}, {**one, "scope": "group_admin"}], scheduler_cli_public_token="admin"
    )
    for words in (
        "the token of a needs at least 20",
        "names must be unique, not a, a",
        "group_admin of a needs groups",
        "cli_token is viewer",
        "scheduler_cli_public_token is admin, which is not the name of a token of scope viewer",
    ):
        assert words in message
    assert "secret" not in message
    message = converge.refuses(ENGINES, scheduler_policy={"drain_timeot": 60})
    assert "scheduler_policy.drain_timeot" in message and "drain_timeout" in message
    message = converge.refuses(ENGINES, scheduler_policy={"build_timeout": -1, "max_vm_age": 60})
    assert "scheduler_policy.build_timeout is -1: it must be 0 or more; scheduler_policy.max_vm_age is 60: it must be greater" in message
    # What only the engine's own check finds is reported with file, key and expectation.
    message = converge.refuses(ENGINES, scheduler_domain="Not A Domain", scheduler_worker_token_lifetime=800000)
    assert "pool.domain: String should match pattern" in message
    message = converge.refuses(ENGINES, scheduler_policy={"max_vm_age": 655000})
    assert "scheduler_worker_token_lifetime is 700000 s: it must be at least 701800" in message
    assert "no wheel of the engines at '/nonexistent.whl'" in converge.refuses(ENGINES, distcloud_wheel="/nonexistent.whl")
    assert started(host) == began
