"""Changes to a region of the running site: credential rotation during a boot, removal while a job runs, and setup again."""

from __future__ import annotations

import pytest
from running_lab import Lab
from site_jobs import CLOUD_B, PIN_B, finished, history, nothing_left, servers, slots, submit
from site_state import credentials, resources

pytestmark = pytest.mark.usefixtures("no_jobs")
LIMIT_B = ("--limit", "region-b,localhost,central")


def test_region_is_rotated_removed_and_set_up_again(lab: Lab) -> None:
    admin = lab.cloud("region-b-admin")
    foreign = admin.network.create_network(name="not-ours")
    others = resources(lab, "region-a")
    first = submit(lab, "alice", extra=PIN_B, seconds=90)
    lab.wait("its server is being made", lambda: servers(lab, "region-b"), 120, 0.5)

    old = credentials(lab, "region-b")
    lab.playbook("playbooks/rotate_credentials.yml", *LIMIT_B)
    new = credentials(lab, "region-b")
    assert len(new) == len(old) == 1
    assert not new & old

    lab.wait("the job runs", lambda: lab.run("central", f"condor_q {first} -af JobStatus").split() == ["2"], 600)
    second = submit(lab, "bob", extra=PIN_B)
    lab.playbook("playbooks/remove_region.yml", *LIMIT_B)
    (job,) = history(lab, first)
    assert (job["ExitCode"], job["NumJobStarts"]) == (0, 1), "the job should have finished before its region was removed"
    assert not history(lab, second)
    assert lab.api("GET", CLOUD_B)[0] == 404
    assert not slots(lab)
    left = resources(lab, "region-b")
    assert foreign.id in left["networks"]
    assert not left["servers"]
    assert not any(project.name == "distcloud" for project in admin.identity.projects())
    assert resources(lab, "region-a") == others

    lab.playbook("playbooks/add_region.yml", *LIMIT_B)
    lab.playbook("playbooks/worker_image.yml", *LIMIT_B)
    assert lab.api("GET", CLOUD_B)[1]["enabled"] is False, "a cloud is created disabled, each time"
    assert lab.api("PUT", CLOUD_B, {"enabled": True})[0] == 200
    (job,) = finished(lab, second, 1)
    assert job["MachineAttrDistcloudRegion0"] == "region-b"
    nothing_left(lab)
    admin.network.delete_network(foreign)
