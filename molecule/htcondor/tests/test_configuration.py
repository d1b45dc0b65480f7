"""Changes of the configuration: what they restart, what is refused, and how manual changes are repaired."""

from __future__ import annotations

import pytest
from lab_access import wait

testinfra_hosts = ["ansible://ht-central"]

FOLDER = "/etc/condor/config.d"
DAEMONS = "condor_master,condor_collector,condor_negotiator,condor_schedd,condor_shared_port,condor_startd"
RECONFIGURED = "Reconfigure HTCondor"
RESTARTED = "Restart HTCondor"
WRITTEN = f"ht-central: Write the configuration files ({FOLDER}/90-test.conf)"


def running(host):
    """Number, name and start of each daemon; without the forks in which daemons answer queries."""
    message = host.check_output(f"ps -o pid=,ppid=,comm=,lstart= -C {DAEMONS}")
    lines = [line.split(maxsplit=3) for line in message.split("\n")]
    names = {pid: name for pid, _parent, name, _start in lines}
    return sorted(f"{pid} {name} {start}" for pid, parent, name, start in lines if names.get(parent) != name)


def wait_for_interval(host, seconds):
    """The negotiator rereads its configuration some time after the command."""
    wait("the negotiator knows", lambda: host.check_output("condor_config_val -negotiator NEGOTIATOR_INTERVAL") == seconds, 60)


def extra(text):
    return {"htcondor_extra_configuration": {"90-test.conf": text}}


@pytest.mark.long
def test_comment_restarts_nothing(host, converge):
    before = running(host)
    assert converge.run("--limit=ht-central", **extra("# one\n")).changed == [WRITTEN]
    assert running(host) == before


def test_parameter_is_applied_without_restart(host, converge):
    before = running(host)
    changed = converge.run("--limit=ht-central", **extra("NEGOTIATOR_INTERVAL = 7\n")).changed
    assert changed == [WRITTEN, f"ht-central: {RECONFIGURED}"]
    assert running(host) == before
    wait_for_interval(host, "7")


@pytest.mark.long
def test_dropped_entry_removes_only_its_file(host, converge):
    converge.run("--limit=ht-central", **extra("NEGOTIATOR_INTERVAL = 7\n"))
    host.check_output(f"echo '# of the admin' > {FOLDER}/91-admin.conf")
    try:
        gone = "ht-central: Remove files dropped from the inventory (90-test.conf)"
        assert converge.repairs_drift("--limit=ht-central") == [gone, f"ht-central: {RECONFIGURED}"]
        assert not host.file(f"{FOLDER}/90-test.conf").exists
        assert host.file(f"{FOLDER}/91-admin.conf").exists
        wait_for_interval(host, "5")
    finally:
        host.check_output(f"rm -f {FOLDER}/91-admin.conf")


@pytest.mark.fault
@pytest.mark.long
def test_interrupted_run_is_completed_by_the_next(host, converge):
    """The packet filter fails after the configuration is written and before it is applied."""
    before, variables = running(host), extra("NEGOTIATOR_INTERVAL = 9\n")
    cut = converge.run("--limit=ht-central", host_firewall_tcp_ports=[99999], **variables)
    assert "Write the base rules" in cut.failures["ht-central"]
    assert cut.changed == [WRITTEN]
    assert host.check_output("condor_config_val NEGOTIATOR_INTERVAL") == "9"
    assert host.check_output("condor_config_val -negotiator NEGOTIATOR_INTERVAL") != "9"
    pending = "ht-central: Check the complete configuration"
    assert converge.repairs_drift("--limit=ht-central", **variables) == [pending, f"ht-central: {RECONFIGURED}"]
    wait_for_interval(host, "9")
    assert running(host) == before


@pytest.mark.security
@pytest.mark.long
def test_invalid_tokens_are_replaced(on, converge):
    """A key newer than the tokens, as on a recreated central manager; and a token with other authorizations."""
    worker = on("ht-worker-2")
    old = worker.check_output("cat /etc/condor/tokens.d/worker")
    key = "/etc/condor/passwords.d/POOL"
    made = on("ht-central").check_output(f"stat --format=%Y {key}")
    other = on("ht-central").check_output(
        "condor_token_create -key POOL -identity worker-ht-worker-2+atlas+static+static+-@distcloud.lab -authz READ -lifetime 9999"
    )
    replaced = "ht-worker-2: Write the token"
    try:
        worker.check_output("printf %%s %s > /etc/condor/tokens.d/worker", other)
        assert converge.repairs_drift("--limit=ht-worker-2") == [replaced]
        on("ht-central").check_output(f"touch {key}")
        assert converge.repairs_drift("--limit=ht-worker-2") == [replaced]
    finally:
        on("ht-central").check_output(f"touch --date=@{made} {key}")
    assert worker.check_output("cat /etc/condor/tokens.d/worker") != old


@pytest.mark.security
def test_invalid_configuration_is_refused(host, converge):
    before = running(host), host.check_output(f"sha256sum {FOLDER}/*")
    message = converge.refuses("--limit=ht-central", **extra("COLLECTOR_REQUIREMENTS = (MyType =?= \n"))
    assert "COLLECTOR_REQUIREMENTS is not a ClassAd expression" in message
    assert "nothing was changed" in message
    message = converge.refuses("--limit=ht-central", **extra("use role:Nonsense\n"))
    assert "cannot be read, nothing was changed" in message
    assert (running(host), host.check_output(f"sha256sum {FOLDER}/*")) == before


@pytest.mark.long
def test_number_of_cores_needs_a_restart(on, converge):
    worker = on("ht-worker-2")
    before = running(worker)
    variables = {"group": "atlas", "cloud": "static", "region": "static", "flavor": "static", "cores": 1, "memory_mib": 1000}
    changed = converge.run("--limit=ht-worker-2", htcondor_worker={**variables, "update_interval": 10, "claim_worklife": 0}).changed
    assert changed[-1] == f"ht-worker-2: {RESTARTED}"
    assert all("Write the worker's files" in one for one in changed[:-1])
    assert not set(running(worker)) & set(before)
    assert worker.check_output("condor_config_val NUM_CPUS") == "1"


def test_all_input_errors_are_reported(converge):
    message = converge.refuses(
        "--limit=ht-central",
        htcondor_domain="",
        htcondor_groups={"at las": ["alice"], "belle": ["bob", "bob"], "ams": ["Carol"]},
        htcondor_users=["alice", "alice"],
        htcondor_port=0,
        htcondor_submit_nodes=["ht submit"],
        htcondor_extra_configuration={"10-security.conf": ""},
    )
    for words in (
        'htcondor_domain is ""',
        'not so "at las"',
        "named twice in one group",
        '"Carol"',
        "htcondor_users names a user twice",
        "htcondor_port (0)",
        "short host names, not so ht submit",
        "not as the role's own",
    ):
        assert words in message
    assert "not so those of atlas" in converge.refuses("--limit=ht-central", htcondor_groups={"atlas": "alice"})


def test_drift_is_predicted_and_repaired(on, converge):
    central, submit, worker = on("ht-central"), on("ht-submit"), on("ht-worker-1")
    central.check_output(
        f"rm -f {FOLDER}/90-test.conf; sed -i 's/^PRIORITY_HALFLIFE.*/PRIORITY_HALFLIFE = 60/' {FOLDER}/50-fair-share.conf"
    )
    central.check_output(
        "chmod 0755 /etc/condor/passwords.d; nft flush chain inet distcloud input; nft add rule inet distcloud input accept"
    )
    # The timer fires some minutes after each hour: what it started just now would make the token again.
    central.check_output("systemctl disable --now distcloud-scheduler-token.timer; systemctl stop distcloud-scheduler-token")
    central.check_output("rm /var/lib/distcloud/scheduler/condor/tokens.d/pool")
    submit.check_output(f"echo '# by hand' >> {FOLDER}/40-groups.conf; echo '* mallory atlas' >> /etc/condor/distcloud-groups.map")
    submit.check_output("rm /etc/condor/tokens.d/submit; echo x > /etc/condor/passwords.d/submit-ht-submit; chsh -s /bin/sh alice")
    worker.check_output("systemctl disable --now condor")
    on("ht-worker-2").check_output(f"sed -i 's/^NUM_CPUS.*/NUM_CPUS = 1/' {FOLDER}/50-distcloud-worker.conf")
    assert converge.repairs_drift(settled=False) == [
        "ht-central: Create the directories of keys and tokens (passwords.d)",
        f"ht-central: Write the configuration files ({FOLDER}/50-fair-share.conf)",
        "ht-central: Load the packet filter",
        f"ht-central: {RECONFIGURED}",
        "ht-submit: Create the users' Unix accounts (alice)",
        f"ht-submit: Write the configuration files ({FOLDER}/40-groups.conf)",
        "ht-submit: Write the user maps (/etc/condor/distcloud-groups.map)",
        "ht-submit: Write the token",
        "ht-submit: Write the key of this submit node",
        "ht-submit: Reload the user maps of HTCondor",
        "ht-central: Start the renewal timer and replace invalid tokens (distcloud-scheduler-token.service)",
        "ht-central: Start the renewal timer and replace invalid tokens (distcloud-scheduler-token.timer)",
        f"ht-worker-2: Write the worker's files ({FOLDER}/50-distcloud-worker.conf)",
        "ht-worker-1: Start HTCondor and enable it at boot",
        f"ht-worker-2: {RESTARTED}",
    ]


@pytest.mark.long
def test_repair_is_idempotent(converge):
    after = converge.run("--check")
    assert (after.changes, after.failures) == ([], {})
