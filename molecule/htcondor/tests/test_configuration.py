"""Changes of the configuration: what they touch of what runs, what is refused, and what is done about changes made by hand."""

from __future__ import annotations

import pytest
from lab_access import wait

testinfra_hosts = ["ansible://ht-central"]

FOLDER = "/etc/condor/config.d"
DAEMONS = "condor_master,condor_collector,condor_negotiator,condor_schedd,condor_shared_port,condor_startd"
TAKEN_UP = "Reconfigure HTCondor"
RESTARTED = "Restart HTCondor"
LAID = f"ht-central: Files of config.d ({FOLDER}/90-test.conf)"


def running(host):
    """Number, name and start of each daemon; without the forks in which daemons answer questions."""
    told = host.check_output(f"ps -o pid=,ppid=,comm=,lstart= -C {DAEMONS}")
    lines = [line.split(maxsplit=3) for line in told.split("\n")]
    names = {pid: name for pid, _parent, name, _start in lines}
    return sorted(f"{pid} {name} {start}" for pid, parent, name, start in lines if names.get(parent) != name)


def taken_up(host, seconds):
    """The negotiator reads its configuration again some time after it was told to."""
    wait("the negotiator knows", lambda: host.check_output("condor_config_val -negotiator NEGOTIATOR_INTERVAL") == seconds, 60)


def extra(text):
    return {"htcondor_extra_configuration": {"90-test.conf": text}}


@pytest.mark.long
def test_a_comment_touches_nothing_that_runs(host, converge):
    before = running(host)
    assert converge.run("--limit=ht-central", **extra("# one\n")).changed == [LAID]
    assert running(host) == before


def test_a_parameter_is_taken_up_by_daemons_that_run_on(host, converge):
    before = running(host)
    changed = converge.run("--limit=ht-central", **extra("NEGOTIATOR_INTERVAL = 7\n")).changed
    assert changed == [LAID, f"ht-central: {TAKEN_UP}"]
    assert running(host) == before
    taken_up(host, "7")


@pytest.mark.long
def test_an_entry_taken_out_takes_its_file_away_and_no_other(host, converge):
    converge.run("--limit=ht-central", **extra("NEGOTIATOR_INTERVAL = 7\n"))
    host.check_output(f"echo '# of the admin' > {FOLDER}/91-admin.conf")
    try:
        gone = "ht-central: Files that the inventory no longer asks for (90-test.conf)"
        assert converge.mends("--limit=ht-central") == [gone, f"ht-central: {TAKEN_UP}"]
        assert not host.file(f"{FOLDER}/90-test.conf").exists
        assert host.file(f"{FOLDER}/91-admin.conf").exists
        taken_up(host, "5")
    finally:
        host.check_output(f"rm -f {FOLDER}/91-admin.conf")


@pytest.mark.long
def test_a_run_that_broke_off_is_completed_by_the_next(host, converge):
    """The packet filter refuses its ports after the configuration is laid and before anything takes it up."""
    before, wish = running(host), extra("NEGOTIATOR_INTERVAL = 9\n")
    cut = converge.run("--limit=ht-central", host_firewall_tcp_ports=[99999], **wish)
    assert "Write the base rules" in cut.failures["ht-central"]
    assert cut.changed == [LAID]
    assert host.check_output("condor_config_val NEGOTIATOR_INTERVAL") == "9"
    assert host.check_output("condor_config_val -negotiator NEGOTIATOR_INTERVAL") != "9"
    left = "ht-central: Configuration that an earlier run did not take up"
    assert converge.mends("--limit=ht-central", **wish) == [left, f"ht-central: {TAKEN_UP}"]
    taken_up(host, "9")
    assert running(host) == before


@pytest.mark.long
def test_tokens_that_are_of_no_use_are_replaced(on, converge):
    """A key that was made after them, as on a central manager that was made anew; and a token of other authorizations."""
    worker = on("ht-worker-2")
    old = worker.check_output("cat /etc/condor/tokens.d/worker")
    key = "/etc/condor/passwords.d/POOL"
    made = on("ht-central").check_output(f"stat --format=%Y {key}")
    other = on("ht-central").check_output(
        "condor_token_create -key POOL -identity worker-ht-worker-2@distcloud.lab -authz READ -lifetime 9999"
    )
    replaced = "ht-worker-2: Token for root alone"
    try:
        worker.check_output("printf %%s %s > /etc/condor/tokens.d/worker", other)
        assert converge.mends("--limit=ht-worker-2") == [replaced]
        on("ht-central").check_output(f"touch {key}")
        assert converge.mends("--limit=ht-worker-2") == [replaced]
    finally:
        on("ht-central").check_output(f"touch --date=@{made} {key}")
    assert worker.check_output("cat /etc/condor/tokens.d/worker") != old


def test_a_wrong_set_is_refused_and_nothing_is_changed(host, converge):
    before = running(host), host.check_output(f"sha256sum {FOLDER}/*")
    told = converge.refuses("--limit=ht-central", **extra("COLLECTOR_REQUIREMENTS = (MyType =?= \n"))
    assert "COLLECTOR_REQUIREMENTS is not a ClassAd expression" in told
    assert "nothing was changed" in told
    told = converge.refuses("--limit=ht-central", **extra("use role:Nonsense\n"))
    assert "cannot be read, nothing was changed" in told
    assert (running(host), host.check_output(f"sha256sum {FOLDER}/*")) == before


@pytest.mark.long
def test_the_number_of_cores_needs_a_restart(on, converge):
    worker = on("ht-worker-2")
    before = running(worker)
    wish = {"group": "atlas", "cloud": "static", "region": "static", "flavor": "static", "cores": 1, "memory_mib": 1000}
    changed = converge.run("--limit=ht-worker-2", htcondor_worker={**wish, "update_interval": 10, "claim_worklife": 0}).changed
    assert changed[-1] == f"ht-worker-2: {RESTARTED}"
    assert all("Files of the worker" in one for one in changed[:-1])
    assert not set(running(worker)) & set(before)
    assert worker.check_output("condor_config_val NUM_CPUS") == "1"


def test_bad_input_is_named_all_at_once(converge):
    told = converge.refuses(
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
        assert words in told
    assert "not so those of atlas" in converge.refuses("--limit=ht-central", htcondor_groups={"atlas": "alice"})


def test_drift_is_predicted_and_mended(on, converge):
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
    assert converge.mends(settled=False) == [
        "ht-central: Folders of keys and tokens (passwords.d)",
        f"ht-central: Files of config.d ({FOLDER}/50-fair-share.conf)",
        "ht-central: Load the packet filter",
        f"ht-central: {TAKEN_UP}",
        "ht-submit: Unix accounts of the users (alice)",
        f"ht-submit: Files of config.d ({FOLDER}/40-groups.conf)",
        "ht-submit: Maps of users to groups and of certificates to users (/etc/condor/distcloud-groups.map)",
        "ht-submit: Token for root alone",
        "ht-submit: Key of this submit node",
        "ht-submit: Read the maps of HTCondor again",
        "ht-central: Timer of the tokens, and tokens now where one is missing (distcloud-scheduler-token.service)",
        "ht-central: Timer of the tokens, and tokens now where one is missing (distcloud-scheduler-token.timer)",
        f"ht-worker-2: Files of the worker ({FOLDER}/50-distcloud-worker.conf)",
        "ht-worker-1: HTCondor runs and starts at boot",
        f"ht-worker-2: {RESTARTED}",
    ]


@pytest.mark.long
def test_what_was_mended_is_settled(converge):
    after = converge.run("--check")
    assert (after.changes, after.failures) == ([], {})
