"""How the roles engine and scheduler repair manual changes and refuse bad input."""

from __future__ import annotations

import pytest

testinfra_hosts = ["ansible://scratch"]

NAME = "mol-scheduler"
ENGINES = "--tags=engines"


def test_drift_is_predicted_and_repaired(host, converge):
    for drift in (
        # role engine
        "chmod 0777 /etc/distcloud; usermod --shell /bin/bash distcloud-scheduler",
        "rm /usr/local/bin/distcloud; ln -sfn /usr /opt/distcloud/scheduler",
        "chmod 0755 /var/lib/distcloud/scheduler/condor/tokens.d; chmod 0644 /etc/distcloud/scheduler/encryption.key",
        "rm /etc/distcloud/scheduler/cli.yml; echo x > /etc/distcloud/scheduler/cli.token",
        "chmod 0777 /etc/distcloud-public/scheduler; rm /etc/distcloud-public/scheduler/cli.token",
        "echo x > /etc/distcloud-public/scheduler/cli.yml; systemctl disable distcloud-scheduler",
        "sed -i 's/ProtectHome=true/ProtectHome=false/' /etc/systemd/system/distcloud-scheduler.service",
        "nft flush chain inet distcloud input; nft add rule inet distcloud input tcp dport != 8443 accept",
        # role scheduler
        "sed -i 's/cycle_seconds.*/cycle_seconds: 6/' /etc/distcloud/scheduler/scheduler.yml",
        "echo {} > /etc/distcloud/minter.json; systemctl disable --now distcloud-minter.socket",
    ):
        host.check_output(drift)
    began = started(host)
    assert converge.repairs_drift(ENGINES, settled=False) == [
        f"{NAME}: {change}"
        for change in (
            "Create the user of scheduler",
            "Create the directories of the engines (/etc/distcloud)",
            "Create the state directories of scheduler (/var/lib/distcloud/scheduler/condor/tokens.d)",
            "Restrict access to the encryption key of scheduler",
            "Configure scheduler",
            "Write the CLI token of scheduler",
            "Configure the CLI of scheduler",
            "Create or remove the public CLI directory of scheduler",
            "Write the public CLI token of scheduler",
            "Configure the public CLI of scheduler",
            "Configure the minter",
            "Start or restart the minter socket",
            "Install the unit of scheduler (/etc/systemd/system/distcloud-scheduler.service)",
            "Load the packet filter",
            "Activate the release",
            "Link the distcloud command",
            "Start or restart scheduler",
        )
    ]
    assert started(host) != began, "the service runs with its own configuration again"
    assert host.check_output("systemctl show distcloud-scheduler -p ProtectHome --value") == "yes"


@pytest.mark.long
def test_repair_is_idempotent(converge):
    after = converge.run("--check", ENGINES)
    assert (after.changes, after.failures) == ([], {})


def test_stopped_service_is_started_once(host, converge):
    host.check_output("systemctl stop distcloud-scheduler; echo '# by hand' >> /etc/distcloud/scheduler/scheduler.yml")
    assert converge.run(ENGINES).changed == [f"{NAME}: Configure scheduler", f"{NAME}: Start or restart scheduler"]


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
            f"{NAME}: Configure scheduler",
            f"{NAME}: Install the units of the minter (/etc/systemd/system/distcloud-minter.socket)",
            f"{NAME}: Start or restart the minter socket",
        ]
        assert started(host) == began and host.check_output(socket) != listens
        assert converge.repairs_drift(ENGINES, **variables) == [f"{NAME}: Start or restart scheduler"]
        assert started(host) != began
    finally:
        converge.run(ENGINES)


@pytest.mark.security
@pytest.mark.long
def test_port_is_closed_when_disabled(host, converge):
    try:
        closed = [f"{NAME}: Close the ports of scheduler", f"{NAME}: Load the packet filter"]
        assert converge.repairs_drift(ENGINES, settled=False, scheduler_firewall=False) == closed
        assert "8443" not in host.check_output("nft list table inet distcloud")
    finally:
        converge.run(ENGINES)


@pytest.mark.long
def test_repaired_link_restarts_the_service(host, converge):
    """A link that is wrong and old: check mode sees it before the real run repairs it."""
    began = started(host)
    host.check_output("ln -sfn /usr /opt/distcloud/scheduler; touch --no-dereference --date=@1 /opt/distcloud/scheduler")
    assert converge.repairs_drift(ENGINES) == [f"{NAME}: {change}" for change in ("Activate the release", "Start or restart scheduler")]
    assert started(host) != began


@pytest.mark.long
def test_check_mode_predicts_the_wheelhouse(converge, tmp_path):
    dry = converge.run("--check", ENGINES, engine_wheelhouse_dir=str(tmp_path / "wheels"))
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
    assert "no wheel of the engines at '/nonexistent.whl'" in converge.refuses(ENGINES, engine_wheel="/nonexistent.whl")
    assert started(host) == began
