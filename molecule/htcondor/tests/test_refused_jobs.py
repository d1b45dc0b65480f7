"""What a user may not submit, or change afterwards: whose job it is, of which group, on whose account, and how it is run."""

from __future__ import annotations

import pytest
from htcondor_pool import Pool
from lab_access import wait

pytestmark = pytest.mark.security


@pytest.mark.parametrize(
    ("user", "lines", "words"),
    [
        ("bob", ('+DistcloudGroup = "atlas"',), "user bob is not a member of group atlas; yours: belle"),
        ("bob", ('requirements = group_name =?= "atlas"',), "user bob is not a member of group atlas; yours: belle"),
        ("bob", ('+DistcloudGroup = "Belle"',), "user bob is not a member of group Belle; yours: belle"),
        ("alice", ('+DistcloudGroup = "atlas"', 'requirements = TARGET.group_name == "belle"'), "name one"),
        ("bob", ("accounting_group_user = alice",), "use is accounted to you, bob"),
        ("bob", ("accounting_group = fresh",), "use is accounted to you, bob"),
        # Expressions, which could have another value later.
        ("bob", ("+AccountingGroup = Owner",), "use is accounted to you, bob"),
        ("bob", ('+AccountingGroup = ifThenElse(JobStatus == 1, "fresh", "bob")',), "use is accounted to you, bob"),
        ("bob", ('+AcctGroupUser = strcat("bo", "b")',), "use is accounted to you, bob"),
        ("bob", ('+DistcloudGroup = TARGET.group_name ?: "belle"',), "name of a group in quotes"),
        ("bob", ('+DistcloudGroup = strcat("be", "lle")',), "name of a group in quotes"),
        ("bob", ('+DistcloudGroup = {"belle"}',), "name of a group in quotes"),
        ("bob", ("+JobUniverse = 11",), "universes vanilla, scheduler and local"),
        ("bob", ("+WantParallelScheduling = true",), "cannot be set so"),
        ("bob", ("+JobStatus = 2",), "cannot be set so"),
        ("bob", ("+JobUniverse = ifThenElse(time() > 0, 5, 7)",), "cannot be set so"),
        ("bob", ('+FlockTo = "192.0.2.1:9618"',), "cannot be set so"),
        ("bob", ("nice_user = true",), "nice_user out"),
        ("bob", ("+DistcloudPlain = true", '+DistcloudGroup = TARGET.group_name ?: "belle"'), "name of a group in quotes"),
        ("bob", ("+DistcloudOwnAccount = true", "accounting_group = fresh"), "use is accounted to you, bob"),
        ("bob", ("max_materialize = 1", '+DistcloudGroup = "atlas"'), "user bob is not a member of group atlas; yours: belle"),
    ],
)
def test_user_cannot_claim_another_group_or_user(pool: Pool, user: str, lines: tuple[str, ...], words: str) -> None:
    done = pool.submit(user, *lines)
    assert done.code != 0, done.text
    assert words in done.text


@pytest.mark.parametrize(
    ("user", "lines", "group"),
    [
        ("alice", (), "atlas"),
        ("carol", (), "atlas"),
        ("bob", (), "belle"),
        ("alice", ('+DistcloudGroup = "belle"',), "belle"),
        ("alice", ('requirements = (group_name =?= "belle") && (Memory > 1)',), "belle"),
    ],
)
def test_a_job_has_its_group(pool: Pool, user: str, lines: tuple[str, ...], group: str) -> None:
    cluster = pool.cluster(user, *lines, "hold = true")
    text = pool.submit_node.ok(f"condor_q -all {cluster} -af:r DistcloudGroup")
    assert text == f'"{group.strip(chr(34))}"'
    changed = pool.submit_node.run(f"condor_qedit {cluster} DistcloudGroup '\"other\"'", user=user)
    assert "not allowed" in changed.text
    assert pool.submit_node.ok(f"condor_q -all {cluster} -af:r DistcloudGroup") == text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JobUniverse", "7"),
        ("JobUniverse", "undefined"),
        ("WantParallelScheduling", "true"),
        ("JobStatus", "undefined"),
        ("JobStatus", "2"),
        ("Owner", '"carol"'),
        ("User", '"carol@distcloud.lab"'),
        ("AccountingGroup", '"fresh"'),
        ("NiceUser", "true"),
        ("GlobalJobId", '"x"'),
        ("AutoClusterId", "1"),
        ("AutoClusterAttrs", '"Owner"'),
        ("CurrentHosts", "5"),
        ("ClaimId", '"x"'),
        ("DistcloudOwnAccount", "false"),
        ("FlockTo", '"192.0.2.1:9618"'),
        ("KeepClaimIdle", "3600"),
    ],
)
def test_owner_cannot_change_how_a_job_is_run(pool: Pool, name: str, value: str) -> None:
    """By whom, and on whose account."""
    cluster = pool.cluster("alice", "hold = true")
    before = pool.submit_node.ok(f"condor_q -all {cluster} -af:r {name}")
    changed = pool.submit_node.run(f"condor_qedit {cluster} {name} {value}", user="alice")
    assert changed.code != 0 or "Failed" in changed.text or "not allowed" in changed.text, changed.text
    assert pool.submit_node.ok(f"condor_q -all {cluster} -af:r {name}") == before


def test_owner_may_still_change_what_a_job_needs(pool: Pool) -> None:
    cluster = pool.cluster("alice", "hold = true")
    for name, value in (("RequestMemory", "77"), ("Requirements", "TARGET.Memory > 5"), ("JobPrio", "3"), ("LeaveJobInQueue", "false")):
        pool.submit_node.ok(f"condor_qedit {cluster} {name} '{value}'", user="alice")
    assert pool.attribute(cluster, "RequestMemory", "JobPrio") == [["77", "3"]]


def test_owner_of_a_running_job_cannot_end_the_queue(pool: Pool) -> None:
    started = "condor_status -schedd -af DaemonStartTime"
    since = pool.central.ok(started)
    worker = pool.workers[1]
    cluster = pool.cluster("alice", f'requirements = Machine == "{worker.fqdn}"', arguments="600")
    wait("the job runs", lambda: pool.attribute(cluster, "JobCurrentStartExecutingDate") != [["undefined"]], 180)
    for name, value in (("JobUniverse", "7"), ("JobStatus", "undefined"), ("WantParallelScheduling", "true")):
        pool.submit_node.run(f"condor_qedit {cluster} {name} {value}", user="alice")
    pool.submit_node.ok(f"condor_vacate_job -fast {cluster}", user="alice")
    wait("the job has been started again", lambda: pool.attribute(cluster, "JobStatus", "NumShadowStarts") == [["2", "2"]], 180)
    assert pool.central.ok(started) == since
    pool.submit_node.ok(f"condor_rm {cluster}")
    wait("the slot is whole again", lambda: pool.slots(worker) == [f"slot1@{worker.fqdn}"], 180)


def test_a_job_cannot_change_its_own_ad(pool: Pool) -> None:
    chirp, home = "/usr/libexec/condor/condor_chirp", "/home/alice"
    calls = ("set_job_attr JobUniverse 7", "set_job_attr JobStatus undefined", "set_job_attr TestMark 1")
    script = "".join(f"{chirp} {call} && echo done\n" for call in calls)
    pool.submit_node.write(f"{home}/chirps", f"#!/bin/sh\n{script}{chirp} get_job_attr Owner && echo read\n", owner="alice", mode="0755")
    cluster = pool.cluster("alice", "+WantIOProxy = true", "output = chirps.out", executable=f"{home}/chirps")
    wait("the job ends", lambda: pool.attribute(cluster, "JobStatus") == [["4"]], 180)
    assert pool.attribute(cluster, "JobUniverse", "TestMark") == [["5", "undefined"]]
    text = pool.submit_node.ok(f"cat {home}/chirps.out")
    assert "done" not in text
    assert "read" in text, "chirp works, and reading is allowed"
