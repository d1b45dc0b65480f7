"""Who is refused what in a pool of role htcondor: each refusal beside the same act by someone who may."""

from __future__ import annotations

import json

import pytest
from htcondor_pool import DOMAIN, NOWHERE, Done, Host, Pool
from lab_access import wait

pytestmark = pytest.mark.security

REFUSED = "/etc/condor/config.d/60-refused-workers.conf"
CA = "$(ls /usr/local/share/ca-certificates/distcloud-*.crt)"


class Expression(str):
    """An attribute's value that is not a constant."""


def send(pool: Pool, host: Host, command: str, **attributes: str | int) -> Done:
    """Send an ad with the host's identity. The sender does not learn whether the ad was accepted."""
    ad = {"MyAddress": NOWHERE, **attributes}
    texts = {name: value if isinstance(value, Expression) else json.dumps(value) for name, value in ad.items()}
    host.write("/root/ad", "".join(f"{name} = {text}\n" for name, text in texts.items()))
    return pool.as_worker(host, f"condor_advertise -pool {pool.central.fqdn} -tcp {command} /root/ad")


# What the identity of both workers says of them.
NAMED = {"group_name": "atlas", "cloud_name": "static", "DistcloudRegion": "static"}


def slot(pool: Pool, worker: Host, name: str, machine: str, *, kind: str = "Machine") -> Done:
    """Send a slot ad with the worker's identity."""
    return send(pool, worker, "UPDATE_STARTD_AD", MyType=kind, TargetType="Job", Name=name, Machine=machine, State="Owner", **NAMED)


def advertise(pool: Pool, worker: Host, name: str, machine: str, *, kind: str = "Machine") -> None:
    """Send a slot ad as someone who may log in."""
    done = slot(pool, worker, name, machine, kind=kind)
    assert done.code == 0, done.text


def known(pool: Pool, name: str) -> bool:
    return pool.central.ok(f"condor_status -any -constraint 'Name == \"{name}\"' -af Name") != ""


def marked(pool: Pool, mark: str) -> list[str]:
    """The names of the ads of any kind that a test marked so."""
    return pool.central.ok(f"condor_status -any -constraint 'TestMark =?= \"{mark}\"' -af Name").split()


def test_access_requires_a_token(pool: Pool) -> None:
    worker = pool.workers[1]
    assert pool.as_worker(worker, f"condor_status -pool {pool.central.fqdn}").code == 0
    refused = pool.as_worker(worker, f"condor_status -pool {pool.central.fqdn}", token="")
    assert refused.code != 0
    assert "communication error" in refused.text.lower()


def test_address_and_remote_account_grant_nothing(pool: Pool) -> None:
    worker = pool.workers[1]
    done = worker.run(f"_CONDOR_SEC_TOKEN_SYSTEM_DIRECTORY=/nonexistent condor_status -pool {pool.central.fqdn}")
    assert done.code != 0


def test_an_expired_token_is_refused(pool: Pool) -> None:
    worker = pool.workers[1]
    ask = f"condor_status -pool {pool.central.fqdn}"
    for seconds in (15, 90):  # where all stands still for a while, the shorter one has ended before it is shown
        token = pool.token(f"worker-{worker.name}", "READ", lifetime=seconds)
        shown = pool.as_worker(worker, ask, token)
        if shown.code == 0:
            break
    assert shown.code == 0, shown.text
    wait("the token expires", lambda: pool.as_worker(worker, ask, token).code != 0, 180)
    assert pool.as_worker(worker, ask, pool.token(f"worker-{worker.name}", "READ")).code == 0


def test_a_token_of_another_key_is_refused(pool: Pool) -> None:
    worker = pool.workers[1]
    worker.ok("install -d -m 0700 /root/keys; head -c 48 /dev/urandom | base64 -w0 > /root/keys/POOL; chmod 600 /root/keys/POOL")
    token = worker.ok(
        "_CONDOR_SEC_PASSWORD_DIRECTORY=/root/keys _CONDOR_SEC_TOKEN_POOL_SIGNING_KEY_FILE=/root/keys/POOL "
        f"condor_token_create -key POOL -identity condor@{DOMAIN}"
    )
    assert pool.as_worker(worker, f"condor_status -pool {pool.central.fqdn}", token).code != 0


def test_pool_key_is_only_on_the_central_manager(pool: Pool) -> None:
    assert pool.central.ok("stat -c '%U %a' /etc/condor/passwords.d/POOL") == "root 600"
    assert pool.central.run("cat /etc/condor/passwords.d/POOL", user="distcloud-scheduler").code != 0
    for worker in pool.workers:
        assert worker.run("test -e /etc/condor/passwords.d/POOL").code != 0


def test_worker_advertises_only_itself(pool: Pool) -> None:
    other, worker = pool.workers
    own, forged = f"slot9@{worker.fqdn}", f"slot9@{other.fqdn}"
    advertise(pool, worker, own, worker.fqdn)
    wait("the worker's own ad is taken", lambda: known(pool, own), 60)
    advertise(pool, worker, forged, other.fqdn)
    advertise(pool, worker, forged, worker.fqdn)
    advertise(pool, worker, forged, other.fqdn, kind="Collector")
    # An ad of its own that is sent later has arrived, so the forged ones have been judged.
    last = f"slot8@{worker.fqdn}"
    advertise(pool, worker, last, worker.fqdn)
    wait("the last ad is taken", lambda: known(pool, last), 60)
    assert not known(pool, forged)


@pytest.mark.parametrize(
    "claimed",
    [
        {"group_name": "belle"},
        {"group_name": "Atlas"},
        {"group_name": Expression("undefined")},
        {"cloud_name": "victoria"},
        {"DistcloudRegion": "Victoria"},
        {"target_alias": "canada"},
        {"target_alias": Expression("JobUniverse")},
        {"group_name": Expression('ifThenElse(time() % 2 == 0, "atlas", "belle")')},
        {"group_name": Expression('strcat("at", "las")')},
    ],
    ids=str,
)
def test_a_worker_has_the_group_of_its_token(pool: Pool, claimed: dict[str, str]) -> None:
    """And the cloud, region and alias: other ads are refused, or matched to nothing if an expression hides the value."""
    worker = pool.workers[1]
    pool.forget(f'MyAddress == "{NOWHERE}"')
    false, true = f"slot9@{worker.fqdn}", f"slot8@{worker.fqdn}"
    ad: dict[str, str | int] = {"MyType": "Machine", "TargetType": "Job", "Machine": worker.fqdn, "State": "Owner"}
    for _attempt in range(3):  # an expression may have its value by chance
        send(pool, worker, "UPDATE_STARTD_AD", **ad | {"Name": false} | NAMED | claimed)
    send(pool, worker, "UPDATE_STARTD_AD", **ad | {"Name": true} | NAMED)
    matched = 'condor_status -constraint "$(condor_config_val NEGOTIATOR_SLOT_CONSTRAINT)" -af Name'
    wait("the ad with the values of the token is offered", lambda: true in pool.central.ok(matched).split(), 60)
    assert false not in pool.central.ok(matched).split()
    pool.forget(f'MyAddress == "{NOWHERE}"')


def test_queue_gives_a_worker_jobs_of_its_group_only(pool: Pool) -> None:
    """Also where the collector takes every ad, and the negotiator matches it."""
    worker, extra = pool.workers[1], "/etc/condor/config.d/99-test.conf"
    try:
        pool.central.write(extra, "COLLECTOR_REQUIREMENTS = true\nNEGOTIATOR_SLOT_CONSTRAINT = true\n", mode="0644")
        pool.central.ok("condor_reconfig")
        worker.write(extra, 'group_name = "belle"\n', mode="0644")
        worker.ok("condor_reconfig")
        says = f"condor_status -constraint 'Name == \"slot1@{worker.fqdn}\"' -af group_name"
        wait("the worker says that it is of group belle", lambda: pool.central.ok(says) == "belle", 60)
        cluster = pool.cluster("bob", arguments="600")
        wait("a match is refused", lambda: pool.attribute(cluster, "LastRejMatchTime") != [["undefined"]], 60)
        assert pool.attribute(cluster, "JobStatus", "DistcloudGroup") == [["1", "belle"]]
        pool.submit_node.write(extra, "START_VANILLA_UNIVERSE = true\n", mode="0644")
        pool.submit_node.ok("condor_reconfig")
        wait("nothing else held it back", lambda: pool.attribute(cluster, "JobStatus") == [["2"]], 180)
        pool.submit_node.ok(f"condor_rm {cluster}")
        wait("the slot is whole again", lambda: pool.slots(worker) == [f"slot1@{worker.fqdn}"], 180)
    finally:
        for host in (pool.central, worker, pool.submit_node):
            host.ok(f"rm -f {extra}; condor_reconfig")
        pool.clear()


# Ads of daemons, and how they are sent and taken back.
DAEMONS = {"DaemonMaster": "MASTER_AD", "Scheduler": "SCHEDD_AD", "Submitter": "SUBMITTOR_AD"}


@pytest.mark.parametrize("kind", DAEMONS)
def test_worker_cannot_forge_a_daemon(pool: Pool, kind: str) -> None:
    """Its own master aside, which the pool knows already."""
    worker = pool.workers[1]
    victims = [pool.central, pool.submit_node, pool.workers[0]] + ([worker] if kind != "DaemonMaster" else [])
    for victim in victims:
        ad = {"MyType": kind, "Name": victim.fqdn, "Machine": victim.fqdn, "ScheddIpAddr": NOWHERE, "TestMark": "forged"}
        send(pool, worker, f"UPDATE_{DAEMONS[kind]}", **ad)
    last = f"slot6@{worker.fqdn}"
    advertise(pool, worker, last, worker.fqdn)
    wait("an ad that was sent later is taken", lambda: known(pool, last), 60)
    assert marked(pool, "forged") == []


@pytest.mark.parametrize("kind", DAEMONS)
def test_submit_node_advertises_only_itself(pool: Pool, kind: str) -> None:
    node = pool.submit_node
    ad: dict[str, str | int] = {"MyType": kind, "ScheddIpAddr": NOWHERE, "IdleJobs": 0, "RunningJobs": 0}
    try:
        for victim in (pool.central, pool.workers[1]):
            send(pool, node, f"UPDATE_{DAEMONS[kind]}", **ad, Name=victim.fqdn, Machine=victim.fqdn, TestMark="forged")
        own = send(pool, node, f"UPDATE_{DAEMONS[kind]}", **ad, Name=f"test@{node.fqdn}", Machine=node.fqdn, TestMark="own")
        assert own.code == 0, own.text
        wait("its own ad, sent later, is taken", lambda: marked(pool, "own") == [f"test@{node.fqdn}"], 60)
        assert marked(pool, "forged") == []
    finally:
        node.write("/root/forget", f'MyType = "Query"\nTargetType = "{kind}"\nRequirements = TestMark =?= "own"\n')
        pool.as_worker(node, f"condor_advertise -pool {pool.central.fqdn} -tcp INVALIDATE_{DAEMONS[kind]}S /root/forget")
    wait("its ad is taken back", lambda: marked(pool, "own") == [], 60)


def last_update(pool: Pool, worker: Host) -> int:
    """When the collector last took an update of the worker's first slot, in seconds since the epoch."""
    return int(pool.central.ok(f"condor_status -constraint 'Name == \"slot1@{worker.fqdn}\"' -af LastHeardFrom"))


def test_refused_worker_has_no_access(pool: Pool) -> None:
    worker, ask = pool.workers[1], f"condor_status -pool {pool.central.fqdn}"
    before, name = pool.central.ok(f"cat {REFUSED}") + "\n", f"slot7@{worker.fqdn}"
    assert pool.as_worker(worker, ask).code == 0
    try:
        pool.central.write(
            REFUSED, f"REVOKED_WORKERS = worker-none@{DOMAIN}, worker-vm-x@{DOMAIN}, worker-{worker.name}@{DOMAIN}\n", mode="0644"
        )
        pool.central.ok("condor_reconfig")
        wait("the collector knows", lambda: worker.name in pool.central.ok("condor_config_val -collector COLLECTOR_REQUIREMENTS"), 60)
        refused_at = int(pool.central.ok("date +%s"))
        # A new log-in is refused, whatever it is for.
        assert pool.as_worker(worker, ask).code != 0
        slot(pool, worker, name, worker.fqdn)
        other = pool.workers[0]
        proof = f"slot7@{other.fqdn}"
        advertise(pool, other, proof, other.fqdn)
        wait("another worker's ad is taken", lambda: known(pool, proof), 60)
        assert not known(pool, name)
        # Its startd, which has been logged in all the time, speaks every ten seconds.
        wait("two updates are due", lambda: int(pool.central.ok("date +%s")) > refused_at + 20, 120)
        assert last_update(pool, worker) <= refused_at
    finally:
        pool.central.write(REFUSED, before, mode="0644")
        pool.central.ok("condor_reconfig")
    wait("the worker advertises again", lambda: slot(pool, worker, name, worker.fqdn).code == 0 and known(pool, name), 60)


def test_worker_cannot_read_the_queue(pool: Pool) -> None:
    worker = pool.workers[1]
    cluster = pool.cluster("alice", "hold = true")
    refused = pool.as_worker(worker, f"condor_q -pool {pool.central.fqdn} -name {pool.submit_node.fqdn} -all -af Owner")
    assert "alice" not in refused.text
    assert "Failed" in refused.text or "denied" in refused.text.lower(), refused.text
    assert pool.attribute(cluster, "Owner") == [["alice"]]


@pytest.mark.parametrize(
    "command", ["condor_token_fetch -lifetime 99999", "condor_token_request -identity condor@distcloud.lab -lifetime 99999"]
)
def test_worker_cannot_get_another_token(pool: Pool, command: str) -> None:
    worker = pool.workers[1]
    done = pool.as_worker(worker, f"timeout 60 {command} -pool {pool.central.fqdn} -type COLLECTOR")
    assert done.code not in (0, 124), f"refused at once, and not put off until somebody approves it: {done.text}"
    assert "eyJ" not in done.text
    assert worker.run("ls /root/.condor/tokens.d").out.strip() == ""


@pytest.mark.parametrize(
    "command",
    [
        "condor_hold -name {submit} -all",
        "condor_rm -name {submit} -all",
        "condor_qedit -name {submit} -constraint true JobPrio 5",
        "condor_off -name {submit} -daemon schedd",
        "condor_reconfig {submit}",
        "condor_off -name {central} -daemon negotiator",
        "condor_restart -name {central} -daemon collector",
        "condor_reconfig {central}",
        "condor_config_val -name {submit} -schedd -rset 'START_LOCAL_UNIVERSE = False'",
        "condor_userprio -setfactor alice@distcloud.lab 1000",
    ],
)
def test_scheduler_cannot_change_anything(pool: Pool, command: str) -> None:
    pool.clear()
    cluster = pool.cluster("alice", 'requirements = Machine == "nowhere"', arguments="600")
    daemons = (
        'condor_status -any -constraint \'member(MyType, {"Negotiator", "Collector", "Scheduler"})\' -af MyType DaemonStartTime | sort'
    )
    started = pool.central.ok(daemons)
    done = pool.as_scheduler(command.format(central=pool.central.fqdn, submit=pool.submit_node.fqdn))
    assert done.code != 0 or "denied" in done.text.lower() or "fail" in done.text.lower(), done.text
    assert pool.attribute(cluster, "JobStatus", "JobPrio") == [["1", "0"]]
    assert pool.central.ok(daemons) == started


def test_scheduler_reads_pool_and_queue(pool: Pool) -> None:
    """The queue is on a host that does not have the pool's key: it knows the scheduler by a key of its own."""
    cluster = pool.cluster("alice", 'requirements = Machine == "nowhere"')
    assert str(cluster) in pool.as_scheduler(f"condor_q -name {pool.submit_node.fqdn} -all -af ClusterId").out.split()
    assert pool.workers[1].fqdn in pool.as_scheduler("condor_status -af Machine").out.split()


def test_submit_node_cannot_change_the_pool(pool: Pool) -> None:
    """Its key signs tokens that it believes itself and nobody else does."""
    node = pool.submit_node
    assert node.run("test -e /etc/condor/passwords.d/POOL").code != 0
    forged = node.ok(f"condor_token_create -key submit-{node.name} -identity condor@{DOMAIN} -lifetime 600")
    assert pool.as_worker(node, f"condor_status -pool {pool.central.fqdn}", forged).code != 0
    assert node.run(f"condor_off -pool {pool.central.fqdn} -name {pool.central.fqdn} -daemon negotiator").code != 0


def test_engine_account_cannot_submit(pool: Pool) -> None:
    done = pool.submit("engine")
    assert done.code != 0
    assert pool.submit_node.ok("condor_q -all -constraint 'Owner == \"engine\"' -af ClusterId") == ""
    remote = "cd /tmp && printf 'executable = /bin/true\\nqueue\\n' | condor_submit -"
    assert pool.as_scheduler(f"{remote} -remote {pool.submit_node.fqdn}").code != 0
    assert pool.central.run(remote, user="distcloud-scheduler").code != 0


def tls(path: str, ca: str = CA) -> str:
    """The environment of a tool that logs in by TLS with the certificate and key at that path."""
    files = f"_CONDOR_AUTH_SSL_CLIENT_CERTFILE={path}.pem _CONDOR_AUTH_SSL_CLIENT_KEYFILE={path}.key"
    believed = f"_CONDOR_AUTH_SSL_CLIENT_CAFILE={ca} _CONDOR_AUTH_SSL_CLIENT_USE_DEFAULT_CAS=False"
    return f"_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS=SSL {believed} {files}"


def self_signed(worker: Host, name: str) -> str:
    """The path of a new key and certificate that no CA of the site has signed."""
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    worker.ok(f"openssl req -x509 {key} -days 1 -subj /CN={name} -keyout /root/{name}.key -out /root/{name}.pem")
    return f"/root/{name}"


VISITOR, STRANGER = "/etc/ssl/distcloud/visitor", "/etc/ssl/distcloud/stranger"


def test_listed_certificate_may_only_read(pool: Pool) -> None:
    worker, central, submit = pool.workers[1], pool.central.fqdn, pool.submit_node.fqdn
    cluster = pool.cluster("alice", "hold = true")
    visitor = tls(VISITOR)
    assert submit in worker.ok(f"{visitor} condor_status -pool {central} -schedd -af Name")
    assert str(cluster) in worker.ok(f"{visitor} condor_q -pool {central} -name {submit} -all -af ClusterId").split()
    assert worker.run(f"{visitor} condor_hold -pool {central} -name {submit} -all").code != 0
    # condor_off ends with 0 all the same.
    assert "Failed to authenticate" in worker.run(f"{visitor} condor_off -pool {central} -name {central} -daemon negotiator").err


def test_other_certificates_have_no_access(pool: Pool) -> None:
    worker, ask = pool.workers[1], f"condor_status -pool {pool.central.fqdn}"
    assert worker.run(f"{tls(VISITOR)} {ask}").code == 0
    assert worker.run(f"{tls(STRANGER)} {ask}").code != 0, "of the site's CA, but in no list"
    assert worker.run(f"{tls(self_signed(worker, 'visitor'))} {ask}").code != 0, "the right name, of no CA of ours"


def test_client_rejects_a_server_of_another_ca(pool: Pool) -> None:
    worker = pool.workers[1]
    environment = tls(VISITOR, ca=f"{self_signed(worker, 'foreign')}.pem")
    assert worker.run(f"{environment} condor_status -pool {pool.central.fqdn}").code != 0
