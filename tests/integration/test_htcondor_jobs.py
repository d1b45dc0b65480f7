"""What jobs live through in a pool of role htcondor: workers that nobody can reach, drains, users of slots, fair shares."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
from htcondor_pool import DOMAIN, Pool, until

# A drain waits for the job however long it runs; `make test-long` uses 120 s.
DRAIN_SECONDS = int(os.environ.get("DISTCLOUD_DRAIN_SECONDS", "20"))
WALL = (
    "table inet test_wall { chain input { type filter hook input priority -10; policy drop; "
    "ct state established,related accept; iif lo accept; tcp dport 22 accept; }; }"
)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    found = Pool()
    found.clear()
    yield found
    found.clear()


def test_a_job_runs_as_a_slot_user_and_says_where_it_ran(pool: Pool) -> None:
    cluster = pool.cluster("alice", "output = whoami.out", executable="/usr/bin/id", arguments="-un")
    ended = until(lambda: [row for row in pool.attribute(cluster, "JobStatus", "ExitCode") if row[0] == "4"], 60, "the job ends")
    assert ended == [["4", "0"]]
    assert re.fullmatch(r"slotu[0-9]+", pool.central.ok("cat ~alice/whoami.out"))
    names = [f"MachineAttr{name}0" for name in ("DistcloudRegion", "DistcloudVm", "cloud_name", "flavor")]
    where = pool.attribute(cluster, *names)[0]
    assert where[0] == "static"
    assert where[1] in [worker.name for worker in pool.workers]
    assert "undefined" not in where


def test_a_worker_takes_only_jobs_of_its_group(pool: Pool) -> None:
    stranger = pool.cluster("bob")
    cluster = pool.cluster("alice")
    until(lambda: pool.attribute(cluster, "JobStatus") == [["4"]], 60, "alice's job ends")
    assert pool.attribute(stranger, "JobStatus") == [["1"]]
    pool.clear()


def test_a_worker_that_nobody_reaches_runs_a_job_and_drains(pool: Pool) -> None:
    """The worker drops every inbound connection; job and drain go through the collector, and the drain lets the job end."""
    worker = pool.workers[0]
    key_file = f"/etc/condor/passwords.d/{worker.name}"
    tokens = "/var/lib/distcloud/scheduler/condor/tokens.d"
    try:
        worker.ok("nft -f -", stdin=WALL)
        # As the scheduler does: a key that only this worker trusts, and a token signed with it.
        key = pool.central.ok("head -c 48 /dev/urandom | base64 -w0")
        worker.write(key_file, key)
        pool.central.ok("install -d -m 0700 -o distcloud /run/test-vmkeys")
        pool.central.write(f"/run/test-vmkeys/{worker.name}", key, owner="distcloud")
        signed = f"_CONDOR_SEC_PASSWORD_DIRECTORY=/run/test-vmkeys condor_token_create -key {worker.name} -identity scheduler@{DOMAIN}"
        pool.central.ok(f"umask 077; {signed} -authz ADMINISTRATOR -lifetime 600 > {tokens}/test-vm", user="distcloud")
        pool.forget(f'Machine == "{worker.fqdn}"')
        worker.ok("systemctl restart condor")
        reached = pool.central.run(f"timeout 5 bash -c '</dev/tcp/{worker.address}/9618'")
        assert reached.code != 0, "the worker can still be reached, so this test would prove nothing"
        until(lambda: f"slot1@{worker.fqdn}" in pool.slots(worker), 60, "the worker is in the pool")

        cluster = pool.cluster("alice", f'requirements = Machine == "{worker.fqdn}"', arguments=str(DRAIN_SECONDS))
        until(lambda: pool.attribute(cluster, "JobStatus") == [["2"]], 60, "the job runs")
        drained = pool.as_scheduler(f"condor_drain -exit-on-completion {worker.fqdn}")
        assert drained.code == 0, drained.text
        assert pool.attribute(cluster, "JobStatus") == [["2"]]
        later = pool.cluster("alice", f'requirements = Machine == "{worker.fqdn}"')
        until(lambda: pool.attribute(cluster, "JobStatus") == [["4"]], DRAIN_SECONDS + 60, "the job ends")
        starts, code, wall = pool.attribute(cluster, "NumJobStarts", "ExitCode", "RemoteWallClockTime")[0]
        assert (starts, code) == ("1", "0")
        assert float(wall) >= DRAIN_SECONDS
        until(lambda: not pool.slots(worker), 60, "the slot ads are gone")
        assert pool.attribute(later, "JobStatus") == [["1"]]
    finally:
        worker.run(f"nft delete table inet test_wall; rm -f {key_file}; systemctl restart condor")
        pool.central.run(f"rm -rf /run/test-vmkeys {tokens}/test-vm")
        pool.clear()
    until(lambda: pool.slots(worker), 60, "the worker is back")


def test_the_scheduler_drains_no_worker_without_its_key(pool: Pool) -> None:
    worker = pool.workers[1]
    assert pool.as_scheduler(f"condor_drain {worker.fqdn}").code != 0
    assert pool.central.ok(f"condor_status -constraint 'Machine == \"{worker.fqdn}\" && Draining' -af Name") == ""


def test_ten_claims_are_shared_equally(pool: Pool) -> None:
    """Who comes second gets as much of the next ten claims as who filled the queue first."""
    for user in ("alice", "carol"):
        pool.central.run(f"condor_userprio -delete {user}@{DOMAIN}")
    only = f'requirements = Machine == "{pool.workers[1].fqdn}"'
    first = pool.cluster("alice", only, arguments="4", count=20)
    until(lambda: ["2"] in pool.attribute(first, "JobStatus"), 60, "alice's first jobs run")
    second = pool.cluster("carol", only, arguments="4", count=20)
    began = float(pool.central.ok(f"condor_q -all {second}.0 -af QDate"))

    def started() -> list[tuple[float, str]]:
        rows = pool.attribute(first, "JobStartDate", "Owner") + pool.attribute(second, "JobStartDate", "Owner")
        # Claims that were given out before the second user came are no part of the contest.
        return sorted((float(row[0]), row[1]) for row in rows if row[0] != "undefined" and float(row[0]) > began)

    ten = until(lambda: started()[:10] if len(started()) >= 10 else [], 180, "ten claims have started")
    pool.clear()
    # Every job has one core and the same length: started core-seconds are in the ratio of the counts.
    shares = sorted([sum(1 for job, owner in ten if owner == user) for user in ("alice", "carol")])
    assert shares[0] / shares[1] >= 0.66, ten
