"""Role demo: its jobs ran once, a dry run says when they would run again, and users who are not there are named."""

from __future__ import annotations

import pytest
from htcondor_pool import Pool
from playbook_changes import Playbook

testinfra_hosts = ["ansible://ht-submit"]

DEMO = "--tags=demo"


def jobs(pool: Pool) -> list[str]:
    """Owner, exit code and region of every demonstration job that ended, sorted."""
    found = pool.submit_node.ok("condor_history -constraint 'DistcloudDemo =?= true' -af Owner ExitCode MachineAttrDistcloudRegion0")
    return sorted(found.splitlines())


def test_every_user_had_jobs_and_they_ran(pool: Pool) -> None:
    assert jobs(pool) == ["alice 0 static"] * 2 + ["carol 0 static"] * 2
    said = pool.submit_node.ok("cat /home/carol/distcloud-demo.*.0.out", user="carol")
    assert said.startswith("hello from ht-worker-"), said


@pytest.mark.parametrize(("again", "announced"), [(False, []), (True, ["ht-submit: Announce the demonstration"])])
def test_a_dry_run_says_so_and_submits_nothing(pool: Pool, converge: Playbook, again: bool, announced: list[str]) -> None:
    before = pool.submit_node.ok("condor_q -all -af ClusterId; condor_history -limit 1 -af ClusterId")
    dry = converge.run("--check", DEMO, demo_again=again)
    assert (dry.changed, dry.failures) == (announced, {})
    assert pool.submit_node.ok("condor_q -all -af ClusterId; condor_history -limit 1 -af ClusterId") == before


def test_users_who_are_not_there_are_named(converge: Playbook) -> None:
    assert "demo_users names mallory: no such user on ht-submit" in converge.refuses(DEMO, demo_again=True, demo_users=["alice", "mallory"])
