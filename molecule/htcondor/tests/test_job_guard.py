"""Jobs whose expressions would keep the schedd busy for minutes: the guard holds them, and the queue goes on."""

from __future__ import annotations

import time

import pytest
from htcondor_pool import Pool
from lab_access import wait

pytestmark = pytest.mark.security

REASON = "would block the queue"
# The schedd needs a minute for each look at this one, and twice as long with every further level.
BOMB = [f"+a{level} = a{level + 1} + a{level + 1}" for level in range(24)] + ["+a24 = TARGET.Cpus", "requirements = (a0 < 0)"]
# Ten seconds for the guard to see that the schedd is blocked, six for condor_master to start it again, and a slow machine.
OUTAGE_SECONDS = 60


def test_expanding_job_is_held_and_others_run(pool: Pool) -> None:
    pool.submit_node.run("condor_qusers -enable alice bob")
    other = pool.cluster("bob", arguments="1")
    started = time.monotonic()
    done = pool.submit("alice", *BOMB)
    held = f"condor_q -all -constraint 'regexp(\"{REASON}\", HoldReason)' -af ClusterId"
    found = wait(f"the job is held ({done.text})", lambda: pool.submit_node.run(held).out, OUTAGE_SECONDS)
    assert time.monotonic() - started < OUTAGE_SECONDS
    cluster = int(found)
    try:
        wait("it is edited", lambda: pool.attribute(cluster, "a0", "Requirements") == [["undefined", "false"]], OUTAGE_SECONDS)
        # What an owner adds later is found too.
        pool.submit_node.run("condor_qusers -enable alice")
        pool.submit_node.ok(f"condor_qedit {cluster} b0 'b0 + b0'", user="alice")
        wait("the new attribute is replaced", lambda: pool.attribute(cluster, "b0") == [["undefined"]], OUTAGE_SECONDS)
        assert pool.attribute(other, "ClusterId") == [[str(other)]]
        later = pool.cluster("carol", arguments="1")
        wait("another user's job ends", lambda: pool.attribute(later, "JobStatus") == [["4"]], 180)
    finally:
        pool.submit_node.run("condor_qusers -enable alice")
        pool.clear()


def test_ordinary_expressions_are_not_held(pool: Pool) -> None:
    names = " || ".join(f'Machine == "node{number}.example.org"' for number in range(300))
    cluster = pool.cluster("bob", f"requirements = ({names})", "periodic_hold = MemoryUsage > 2 * RequestMemory")
    time.sleep(2)
    assert pool.attribute(cluster, "JobStatus") == [["1"]]
    pool.clear()
