"""One region of the site fails, or its credential does: it is named, the other goes on, and it is used again when it is healthy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from lab_access import power_cut
from running_lab import ROOT, Lab
from site_jobs import CLOUD_A, CLOUD_B, PIN_B, REGIONS, agree, finished, history, living, nothing_left, servers, submit

pytestmark = [pytest.mark.fault, pytest.mark.usefixtures("no_jobs")]


def status_of(lab: Lab, region: str) -> dict[str, Any]:
    status, answer = lab.api("GET", "/v1/status")
    assert status == 200, answer
    found: dict[str, Any] = next(cloud for cloud in answer["clouds"] if cloud["region"] == region)
    return found


def explained(lab: Lab, cluster: str, cloud: str) -> str:
    """What the scheduler says of a waiting job and one cloud, for people."""
    status, answer = lab.api("GET", f"/v1/explain?job={cluster}.0")
    return "" if status != 200 else str(next((line["sentence"] for line in answer["clouds"] if line["cloud"] == cloud), ""))


@pytest.fixture
def repaired(lab: Lab) -> Iterator[None]:
    """The site's playbook repairs what a test did to the cloud in region-b."""
    yield
    lab.run("central", "condor_rm -all", check=False)
    lab.playbook("playbooks/clouds.yml")
    lab.wait("the repaired cloud is healthy", lambda: not status_of(lab, "region-b")["error"], 300)


def test_redeployment_keeps_disabled_cloud_disabled(lab: Lab) -> None:
    nothing_left(lab)
    assert lab.api("PUT", CLOUD_B, {"enabled": False})[0] == 200
    try:
        lab.run("central", "systemctl restart distcloud-scheduler")
        lab.wait("the scheduler answers", lambda: lab.api("GET", CLOUD_B)[0] == 200, 180)
        lab.playbook("playbooks/clouds.yml")
        assert lab.api("GET", CLOUD_B)[1]["enabled"] is False
        cluster = submit(lab, "alice", extra=PIN_B)
        lab.wait("the job is judged", lambda: "disabled" in explained(lab, cluster, "region-b"), 180)
        cycle = lab.api("GET", "/v1/status")[1]["cycle"]
        lab.wait("two more cycles", lambda: lab.api("GET", "/v1/status")[1]["cycle"] >= cycle + 2, 180)
        assert not living(lab)
        assert not servers(lab, "region-b")
    finally:
        # The job goes first: an enabled cloud would get a worker for it, which the next test does not expect.
        lab.run("central", "condor_rm -all")
        assert lab.api("PUT", CLOUD_B, {"enabled": True})[0] == 200


def test_region_stopped_during_boot_is_reconciled(lab: Lab) -> None:
    assert not [server for region in REGIONS for server in servers(lab, region)]
    pinned = submit(lab, "alice", seconds=15, extra=PIN_B)
    # On a host already: one that Nova had not placed yet would be lost with its messages, and wait for build_timeout.
    lab.wait("its server is being made", lambda: [server for server in servers(lab, "region-b") if server.compute_host], 300, 0.2)
    power_cut(lab.name, "lab-b")
    # The other goes on: it boots a worker, which the next test finds still there.
    free = submit(lab, "bob", extra="+VMKeepAlive = 900")
    error = lab.wait("the dead region is named", lambda: status_of(lab, "region-b")["error"], 300)
    assert not status_of(lab, "region-b")["reachable"], error
    (job,) = finished(lab, free, 1)
    assert job["MachineAttrDistcloudRegion0"] == "region-a"
    lab.playbook("playbooks/status.yml")
    summary = json.loads((ROOT / "build" / lab.name / "summary.json").read_text("utf-8"))
    assert {region["name"]: region["reachable"] for region in summary["regions"]} == {"region-a": True, "region-b": False}
    assert not history(lab, pinned)

    lab.playbook("playbooks/lab.yml")
    agree(lab, {pinned: 1})
    (job,) = history(lab, pinned)
    assert (job["MachineAttrDistcloudRegion0"], job["ExitCode"]) == ("region-b", 0)
    # By the ledger too, before the next test: who cannot log in there cannot see that a server has gone.
    lab.wait("region-b is left as it was", lambda: not [vm for vm in living(lab) if vm["region"] == "region-b"], 300)
    assert not servers(lab, "region-b")


# The engine's tests of failing clouds and the log-in of test_scheduler_engine.py prove the same apart.
@pytest.mark.long
def test_wrong_password_is_reported_other_region_works(lab: Lab, repaired: None) -> None:
    assert lab.api("PUT", CLOUD_B, {"auth": {"application_credential_secret": "wrong"}})[0] == 200
    cluster = submit(lab, "alice", count=2, seconds=5)
    error = lab.wait("the scheduler names what is wrong", lambda: status_of(lab, "region-b")["error"], 300)
    assert "credential" in error or "401" in error, error
    seen = agree(lab, {cluster: 2})
    assert {job["MachineAttrDistcloudRegion0"] for job in history(lab, cluster)} == {"region-a"}
    assert {region for region, _name, _id in seen.servers} == {"region-a"}
    assert lab.api("POST", CLOUD_A + "/retire")[0] == 200
    nothing_left(lab)
