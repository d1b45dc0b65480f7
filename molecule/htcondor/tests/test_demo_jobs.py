"""Role demo: its jobs ran once, run again on request as check mode predicted, and missing users are named."""

from __future__ import annotations

from htcondor_pool import Pool
from playbook_changes import Playbook

testinfra_hosts = ["ansible://ht-submit"]

DEMO = "--tags=demo"


def jobs(pool: Pool) -> list[str]:
    """Owner, exit code and region of every demonstration job that ended, sorted."""
    found = pool.submit_node.ok("condor_history -constraint 'DistcloudDemo =?= true' -af Owner ExitCode MachineAttrDistcloudRegion0")
    return sorted(found.splitlines())


def test_jobs_of_every_user_ran(pool: Pool) -> None:
    ran = len(jobs(pool)) // 2
    assert ran % 2 == 0 and ran >= 2, "two of each user, each time"
    assert jobs(pool) == ["alice 0 static"] * ran + ["carol 0 static"] * ran
    output = pool.submit_node.ok("cat /home/carol/distcloud-demo.*.0.out", user="carol")
    assert output.startswith("hello from ht-worker-"), output


def test_check_mode_predicts_the_submission(pool: Pool, converge: Playbook) -> None:
    assert converge.run("--check", DEMO).changed == []
    pool.submit_node.ok("echo changed >>/usr/local/share/distcloud-demo/carol.sub")
    last = "condor_q -all -af ClusterId; condor_history -limit 1 -af ClusterId"
    before, ended = pool.submit_node.ok(last), jobs(pool)
    dry = converge.run("--check", DEMO, demo_again=True)
    assert not dry.failures and pool.submit_node.ok(last) == before
    assert dry.changed == [
        "ht-submit: Write the users' submit files (carol)",
        "ht-submit: Submit the jobs as the users (alice)",
        "ht-submit: Submit the jobs as the users (carol)",
    ]
    done = converge.run(DEMO, demo_again=True)
    assert not done.failures and done.changes == dry.changes
    assert jobs(pool) == sorted([*ended, *["alice 0 static", "carol 0 static"] * 2])


def test_missing_users_are_named(converge: Playbook) -> None:
    assert "demo_users names mallory: no such user on ht-submit" in converge.refuses(DEMO, demo_again=True, demo_users=["alice", "mallory"])
