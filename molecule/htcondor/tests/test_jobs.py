"""What jobs live through in a pool of role htcondor: workers that nobody can reach, drains, users of slots, fair shares."""

from __future__ import annotations

import re

import pytest
from htcondor_pool import DOMAIN, DRAIN_SECONDS, Drain, Pool
from lab_access import wait


def test_job_runs_as_slot_user_and_records_worker(pool: Pool) -> None:
    cluster = pool.cluster("alice", "output = whoami.out", executable="/usr/bin/id", arguments="-un")
    ended = wait("the job ends", lambda: [row for row in pool.attribute(cluster, "JobStatus", "ExitCode") if row[0] == "4"], 180)
    assert ended == [["4", "0"]]
    assert re.fullmatch(r"slotu[0-9]+", pool.submit_node.ok("cat ~alice/whoami.out"))
    names = [f"MachineAttr{name}0" for name in ("DistcloudRegion", "DistcloudVm", "cloud_name", "flavor")]
    where = pool.attribute(cluster, *names)[0]
    assert where[0] == "static"
    assert where[1] in [worker.name for worker in pool.workers]
    assert "undefined" not in where


@pytest.mark.security
def test_a_worker_takes_only_jobs_of_its_group(pool: Pool) -> None:
    stranger = pool.cluster("bob")
    cluster = pool.cluster("alice")
    wait("alice's job ends", lambda: pool.attribute(cluster, "JobStatus") == [["4"]], 180)
    assert pool.attribute(stranger, "JobStatus") == [["1"]]
    pool.clear()


@pytest.mark.security
def test_job_over_its_disk_is_held_and_others_go_on(pool: Pool) -> None:
    """What a job writes to /tmp counts, and the job beside it is not disturbed."""
    only = f'requirements = Machine == "{pool.workers[1].fqdn}"'
    script = "dd if=/dev/zero of=/tmp/large bs=1M count=60 status=none; sleep 600"
    beside = pool.cluster("alice", only, "request_disk = 20M", arguments="600")
    wait("the job beside it runs", lambda: pool.attribute(beside, "JobStatus") == [["2"]], 180)
    large = pool.cluster(
        "alice", only, "request_disk = 20M", "transfer_executable = false", executable="/bin/sh", arguments=f"\"-c '{script}'\""
    )
    codes = ("JobStatus", "HoldReasonCode", "HoldReasonSubCode")
    wait("the large job is held", lambda: pool.attribute(large, *codes) == [["5", "21", "104"]], 240)
    reason = pool.attribute(large, "HoldReason")[0][0]
    assert re.search(r"disk usage of 6[0-9] MiB exceeds request_disk = 2[0-9] MiB", reason), reason
    assert pool.attribute(beside, "JobStatus", "NumShadowStarts") == [["2", "1"]]
    pool.clear()


def test_job_without_a_disk_request_has_its_share(pool: Pool) -> None:
    only = f'requirements = Machine == "{pool.workers[1].fqdn}"'
    script = "dd if=/dev/zero of=large bs=1M count=40 status=none; sleep 15"
    cluster = pool.cluster("alice", only, "transfer_executable = false", executable="/bin/sh", arguments=f"\"-c '{script}'\"")
    wait("the job ends", lambda: pool.attribute(cluster, "JobStatus", "ExitCode", "HoldReason") == [["4", "0", "undefined"]], 240)


@pytest.mark.security
def test_job_cannot_take_the_processes_of_others(pool: Pool) -> None:
    only = f'requirements = Machine == "{pool.workers[1].fqdn}"'
    cluster = pool.cluster("alice", only, "output = limits.out", executable="/usr/bin/grep", arguments="processes /proc/self/limits")
    wait("the job ends", lambda: pool.attribute(cluster, "JobStatus") == [["4"]], 180)
    assert pool.submit_node.ok("cat ~alice/limits.out").split() == ["Max", "processes", "4096", "4096", "processes"]


def test_unreachable_worker_runs_a_job_and_drains(pool: Pool, drain: Drain) -> None:
    """The worker drops every inbound connection; job and drain go through the collector. The other tests run meanwhile."""
    assert pool.attribute(drain.job, "JobStatus") == [["2"]]
    wait("it drains", lambda: pool.central.ok(f"condor_status -constraint 'Machine == \"{drain.worker.fqdn}\" && Draining' -af Name"), 60)


@pytest.mark.security
def test_scheduler_cannot_drain_without_the_worker_key(pool: Pool) -> None:
    worker = pool.workers[1]
    assert pool.as_scheduler(f"condor_drain {worker.fqdn}").code != 0
    assert pool.central.ok(f"condor_status -constraint 'Machine == \"{worker.fqdn}\" && Draining' -af Name") == ""


def test_a_static_worker_splits_its_slot_among_jobs(pool: Pool) -> None:
    worker = pool.workers[1]
    whole = f"condor_status -constraint 'Machine == \"{worker.fqdn}\" && PartitionableSlot' -af Name TotalSlotCpus"
    assert pool.central.ok(whole) == f"slot1@{worker.fqdn} 2"
    only = f'requirements = Machine == "{worker.fqdn}"'
    cluster = pool.cluster("alice", only, "request_cpus = 1", arguments="600", count=2)
    wait("both jobs run at once", lambda: pool.attribute(cluster, "JobStatus") == [["2"], ["2"]], 180)
    parts = [row[0] for row in pool.attribute(cluster, "RemoteHost")]
    assert len(set(parts)) == 2, parts
    assert all(re.fullmatch(rf"slot1_[0-9]+@{re.escape(worker.fqdn)}", part) for part in parts), parts
    # Not by force: the queue would forget jobs that the worker goes on with.
    pool.submit_node.ok(f"condor_rm {cluster}")
    wait("the slot is whole again", lambda: pool.slots(worker) == [f"slot1@{worker.fqdn}"], 180)


def test_ten_claims_are_shared_equally(pool: Pool) -> None:
    """Who comes second gets as much of the next ten claims as who filled the queue first."""
    for user in ("alice", "carol"):
        pool.central.run(f"condor_userprio -delete {user}@{DOMAIN}")
    only, seconds = f'requirements = Machine == "{pool.workers[1].fqdn}"', 4
    first = pool.cluster("alice", only, arguments=str(seconds), count=20)
    wait("alice's first jobs run", lambda: ["2"] in pool.attribute(first, "JobStatus"), 180)
    second = pool.cluster("carol", only, arguments=str(seconds), count=20)
    began = float(pool.submit_node.ok(f"condor_q -all {second}.0 -af QDate"))

    def started() -> list[tuple[float, str, int]]:
        names = ("JobStartDate", "Owner", "RequestCpus")
        rows = pool.attribute(first, *names) + pool.attribute(second, *names)
        # Claims that were given out before the second user came are no part of the contest.
        return sorted((float(row[0]), row[1], int(row[2])) for row in rows if row[0] != "undefined" and float(row[0]) > began)

    ten = wait("ten claims have started", lambda: started()[:10] if len(started()) >= 10 else [], 180)
    pool.clear()
    # Core-seconds that were started; the last of the ten may run yet. An even ten can fall 4 to 6: two slots come free at a time.
    shares = sorted([sum(cores * seconds for _start, owner, cores in ten if owner == user) for user in ("alice", "carol")])
    assert shares[0] / shares[1] >= 0.66, ten


def test_a_drain_lets_the_job_end(pool: Pool, drain: Drain) -> None:
    wait("the job ends", lambda: pool.attribute(drain.job, "JobStatus") == [["4"]], DRAIN_SECONDS + 180)
    starts, code, wall = pool.attribute(drain.job, "NumJobStarts", "ExitCode", "RemoteWallClockTime")[0]
    assert (starts, code) == ("1", "0")
    assert float(wall) >= DRAIN_SECONDS
    wait("the slot ads are gone", lambda: not pool.slots(drain.worker), 180)
    assert pool.attribute(drain.later, "JobStatus") == [["1"]], "a draining worker takes no other job"
