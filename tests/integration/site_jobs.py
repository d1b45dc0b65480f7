"""What the tests of a whole site share: jobs of ordinary users, and independent listings of what regions, pool and ledger have."""

from __future__ import annotations

import itertools
import json
from typing import Any

from conftest import Lab

REGIONS = ("region-a", "region-b")
PIN_B = 'requirements = DistcloudRegion == "region-b"'
CLOUD_B = "/v1/groups/physics/clouds/region-b"
_names = itertools.count()


def submit(lab: Lab, user: str, *, count: int = 1, seconds: int = 5, extra: str = "", script: str = "") -> str:
    """Submit plain jobs as an ordinary user; answers the cluster's number. A job's output is NAME.CLUSTER.PROC.out in the user's home."""
    body = script or f"echo ran on $(hostname)\nsleep {seconds}"
    name = f"t{next(_names)}"
    description = f"""universe = vanilla
executable = {name}.sh
request_cpus = 1
request_memory = 128MB
request_disk = 10MB
should_transfer_files = YES
when_to_transfer_output = ON_EXIT
output = {name}.$(Cluster).$(Process).out
error = {name}.$(Cluster).$(Process).err
log = {name}.log
{extra}
queue {count}
"""
    home = f"/home/{user}"
    lab.run(
        "central", f"cat > {home}/{name}.sh && chmod 755 {home}/{name}.sh && chown {user} {home}/{name}.sh", stdin=f"#!/bin/sh\n{body}\n"
    )
    lab.run("central", f"cat > {home}/{name}.sub && chown {user} {home}/{name}.sub", stdin=description)
    return lab.run("central", f"cd {home} && condor_submit -terse {name}.sub", user=user).split(".")[0]


def history(lab: Lab, cluster: str) -> list[dict[str, Any]]:
    attributes = (
        "ClusterId,ProcId,Owner,QDate,JobStartDate,JobStatus,ExitCode,NumJobStarts,MachineAttrDistcloudRegion0,MachineAttrDistcloudVm0,Out"
    )
    found = lab.run("central", f"condor_history -json -constraint 'ClusterId == {cluster}' -attributes {attributes}")
    return json.loads(found) if found.strip() else []


def finished(lab: Lab, cluster: str, count: int, seconds: float = 600) -> list[dict[str, Any]]:
    def probe() -> list[dict[str, Any]]:
        ads = history(lab, cluster)
        return ads if len(ads) >= count else []

    return lab.wait(f"{count} jobs of cluster {cluster} ended", probe, seconds)


def living(lab: Lab) -> list[dict[str, Any]]:
    status, answer = lab.api("GET", "/v1/vms?limit=500")
    assert status == 200, answer
    return [vm for vm in answer["vms"] if vm["state"] != "gone"]


def servers(lab: Lab, region: str) -> list[Any]:
    return list(lab.cloud(f"{region}-admin").compute.servers(all_projects=True))


def slots(lab: Lab) -> list[str]:
    return lab.run("central", "condor_status -af Machine").split()


def empty(lab: Lab) -> None:
    """Independent listings agree: no worker anywhere."""
    lab.wait("the ledger has no living VM", lambda: not living(lab), 420)
    for region in REGIONS:
        lab.wait(f"{region} has no server", lambda region=region: not servers(lab, region), 60)
    lab.wait("the pool has no slot", lambda: not slots(lab), 60)
