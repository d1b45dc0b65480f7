"""A region dies with an idle worker in it, whose ad the pool keeps for a quarter of an hour: no job waits for that worker."""

from __future__ import annotations

import time

import pytest
from lab_access import power_cut
from running_lab import Lab
from site_jobs import PIN_B, finished, living, nothing_left, servers, slots, submit

pytestmark = [pytest.mark.fault, pytest.mark.usefixtures("no_jobs")]
QUIET, AD_KEPT = 300, 900


def test_ad_of_dead_worker_does_not_delay_jobs(lab: Lab) -> None:
    nothing_left(lab)
    finished(lab, submit(lab, "alice", extra=PIN_B), 1)
    lab.wait("its worker is idle", lambda: [vm for vm in living(lab) if vm["state"] == "idle"], 180, 0.5)
    (worker,) = slots(lab)
    power_cut(lab.name, "lab-b")
    died = time.monotonic()
    cluster = submit(lab, "bob")
    (job,) = finished(lab, cluster, 1)
    assert job["MachineAttrDistcloudRegion0"] == "region-a"
    assert job["JobStartDate"] - job["QDate"] > QUIET / 2, "it should have waited for the worker that may be well, first"
    assert time.monotonic() - died < AD_KEPT
    assert worker in slots(lab), "the ad is gone, so this test proves nothing"

    lab.playbook("playbooks/lab.yml")
    lab.wait("the lost worker is taken away", lambda: not servers(lab, "region-b"), 900)
    nothing_left(lab)
