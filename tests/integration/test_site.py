"""The site end to end, on two real regions: jobs wait, workers come, jobs run, workers go, and nothing is left."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import jsonschema
import pytest
from conftest import ROOT, Lab
from site_jobs import REGIONS, empty, finished, history, living, servers, submit

pytestmark = pytest.mark.usefixtures("no_jobs")


def test_summary_says_what_happened(lab: Lab) -> None:
    summary = json.loads((ROOT / "build" / lab.name / "summary.json").read_text("utf-8"))
    jsonschema.validate(summary, json.loads((ROOT / "docs" / "site_summary.schema.json").read_text("utf-8")))
    assert {region["name"] for region in summary["regions"] if region["reachable"]} == set(REGIONS)
    assert {image["region"] for image in summary["images"]} == set(REGIONS)
    assert len({image["sha512"] for image in summary["images"]}) == 1
    good = [job for job in summary["jobs"] if job["exit_code"] == 0]
    assert {job["owner"] for job in good} >= {"alice", "bob"}
    assert {job["region"] for job in good} == set(REGIONS)
    ids = {vm["id"] for vm in summary["vms"]}
    assert {job["vm"] for job in good} <= ids


def test_nothing_is_left_after_the_demonstration(lab: Lab) -> None:
    empty(lab)
    for region in REGIONS:
        cloud = lab.cloud(f"{region}-admin")
        assert not [port for port in cloud.network.ports() if (port.device_owner or "").startswith("compute:")]
        assert not [pair for pair in lab.cloud(region).compute.keypairs() if pair.name.startswith("vm-")]


def test_second_run_changes_nothing(lab: Lab) -> None:
    def state() -> dict[str, str]:
        units = "condor distcloud-scheduler distcloud-minter.socket"
        found = {
            "central": lab.run("central", f"systemctl show -p MainPID -p ActiveEnterTimestamp {units}"),
            "files": lab.run(
                "central", "find /etc/condor /etc/distcloud /etc/nftables* /etc/systemd/system -type f -printf '%p %T@\\n' | sort"
            ),
        }
        for region in REGIONS:
            cloud, admin = lab.cloud(region), lab.cloud(f"{region}-admin")
            found[region] = json.dumps(
                {
                    "images": sorted((image.id, image.updated_at) for image in admin.image.images()),
                    "flavors": sorted(flavor.id for flavor in admin.compute.flavors()),
                    "networks": sorted(network.id for network in admin.network.networks()),
                    "credentials": sorted(
                        credential.id for credential in cloud.identity.application_credentials(user=cloud.current_user_id)
                    ),
                }
            )
        return found

    before = state()
    said = lab.playbook("playbooks/site.yml")
    recap = re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", said, re.MULTILINE)
    assert recap and all(line[1:] == ("0", "0", "0") for line in recap), recap
    assert state() == before


# What a job can learn of its worker's identity: bytes of files and devices, then the metadata service twice.
SPY = """\
cat /etc/condor/tokens.d/* /etc/condor/passwords.d/* /var/lib/cloud/instance/user-data.txt /dev/sr0 /dev/vdb 2>/dev/null | wc -c
for url in latest/user-data openstack/latest/user_data; do
  timeout 9 python3 -c "from urllib.request import *; print(len(urlopen('http://169.254.169.254/$url').read()))" 2>/dev/null || echo refused
done
sleep 20
"""


@dataclass(frozen=True)
class Crowd:
    """Jobs of two users that were submitted at once, after they ended; and the most servers that a region had meanwhile."""

    clusters: dict[str, str]
    jobs: list[dict[str, Any]]
    highest: dict[str, int]


@pytest.fixture(scope="module")
def crowd(lab: Lab) -> Crowd:
    clusters = {"alice": submit(lab, "alice", count=3, seconds=20), "bob": submit(lab, "bob", count=3, script=SPY)}
    highest: dict[str, int] = {}

    def done() -> bool:
        for region in REGIONS:
            highest[region] = max(highest.get(region, 0), len(servers(lab, region)))
        return all(len(history(lab, cluster)) == 3 for cluster in clusters.values())

    lab.wait("all jobs ended", done, 900)
    return Crowd(clusters, [job for cluster in clusters.values() for job in history(lab, cluster)], highest)


def test_unpinned_jobs_of_two_users_run_in_both_regions(lab: Lab, crowd: Crowd) -> None:
    assert all(job["JobStatus"] == 4 and job["ExitCode"] == 0 for job in crowd.jobs)
    assert {job["MachineAttrDistcloudRegion0"] for job in crowd.jobs} == set(REGIONS)
    clouds = lab.api("GET", "/v1/groups/physics/clouds")[1]
    limits = {cloud["region"]: cloud["max_vms"] for cloud in clouds}
    assert all(crowd.highest[region] <= limits[region] for region in REGIONS), (crowd.highest, limits)
    empty(lab)


def test_a_job_cannot_read_the_token_of_its_vm(lab: Lab, crowd: Crowd) -> None:
    said = lab.run("central", f"cat /home/bob/t*.{crowd.clusters['bob']}.*.out").split()
    assert said == ["0", "refused", "refused"] * 3, said


def test_a_job_that_can_never_match_boots_nothing_and_is_explained(lab: Lab) -> None:
    cluster = submit(lab, "alice", extra="requirements = TARGET.Memory >= 999999")
    try:
        lab.wait("the scheduler has seen it", lambda: lab.api("GET", f"/v1/explain?job={cluster}.0")[0] == 200, 60)
        before = lab.api("GET", "/v1/status")[1]
        lab.wait("two more cycles", lambda: lab.api("GET", "/v1/status")[1]["cycle"] >= before["cycle"] + 2, 60)
        assert not living(lab)
        said = lab.run("central", f"distcloud scheduler explain {cluster}.0")
        for region in REGIONS:
            assert region in said, said
        assert "999999" in said, said
    finally:
        lab.run("central", f"condor_rm {cluster}", check=False)


def test_scheduler_killed_in_mid_boot_leaks_and_doubles_nothing(lab: Lab) -> None:
    cluster = submit(lab, "bob", seconds=5)
    lab.wait("a VM is requested", lambda: [vm for vm in living(lab) if vm["state"] in ("requested", "starting")], 60, 0.2)
    lab.run("central", "systemctl kill -s KILL distcloud-scheduler; true")
    (job,) = finished(lab, cluster, 1)
    assert job["ExitCode"] == 0
    assert sum(len(servers(lab, region)) for region in REGIONS) <= 1
    empty(lab)
