"""Helpers of the site tests: jobs of ordinary users, and independent listings of regions, pool and ledger."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from running_lab import Lab
from site_listings import Listings, Seen

from distcloud.scheduler.domain.model import VmState

REGIONS = ("region-a", "region-b")
PIN_B = 'requirements = DistcloudRegion == "region-b"'
CLOUD_A, CLOUD_B = (f"/v1/groups/physics/clouds/{region}" for region in REGIONS)
_names = itertools.count()


def submit(lab: Lab, user: str, *, count: int = 1, seconds: int = 5, extra: str = "", script: str = "") -> str:
    """Submit plain jobs as an ordinary user; returns the cluster id. A job's output is NAME.CLUSTER.PROC.out in the user's home."""
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


def printed(lab: Lab, user: str, cluster: str) -> str:
    """Standard output of a cluster's jobs, in order."""
    return lab.run("central", f"cat /home/{user}/t*.{cluster}.*.out")


def living(lab: Lab) -> list[dict[str, Any]]:
    status, answer = lab.api("GET", "/v1/vms?limit=500")
    assert status == 200, answer
    return [vm for vm in answer["vms"] if vm["state"] != "gone"]


def ever(lab: Lab, since: float) -> list[dict[str, Any]]:
    """The ledger's rows since a time, including VMs that are gone."""
    status, answer = lab.api("GET", "/v1/vms?limit=1000" + "".join(f"&state={state}" for state in VmState))
    assert status == 200, answer
    return [vm for vm in answer["vms"] if datetime.fromisoformat(vm["requested_at"]).timestamp() >= since]


def servers(lab: Lab, region: str) -> list[Any]:
    return list(lab.cloud(f"{region}-admin").compute.servers(all_projects=True))


def servers_ever(lab: Lab, region: str, since: float) -> list[Any]:
    """All servers created since a time, including deleted ones."""
    asked = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = lab.cloud(f"{region}-admin").compute.servers(all_projects=True, changes_since=asked)
    return [server for server in found if server.created_at >= asked]


def slots(lab: Lab) -> list[str]:
    return lab.run("central", "condor_status -af Machine").split()


def listings(lab: Lab, admins: Mapping[str, Any]) -> Listings:
    """Current listings of ledger, Nova, Neutron and pool; `admins` has a connection for each region."""
    found: list[tuple[str, str, str]] = []
    ports: list[tuple[str, str]] = []
    for region, admin in admins.items():
        found += [(region, server.name, server.id) for server in admin.compute.servers(all_projects=True)]
        ports += [(region, port.device_id) for port in admin.network.ports() if (port.device_owner or "").startswith("compute:")]
    return Listings(living(lab), found, ports, {machine.split(".")[0] for machine in slots(lab)})


def agree(lab: Lab, clusters: Mapping[str, int], seconds: float = 900) -> Seen:
    """Wait until the jobs of these clusters (how many of each) have ended, and list all workers repeatedly meanwhile.

    Fails unless all four listings agreed at least once while there were workers in the pool.
    """
    admins = {region: lab.cloud(f"{region}-admin") for region in REGIONS}
    seen = Seen()

    def ended() -> bool:
        seen.add(listings(lab, admins))
        return all(len(history(lab, cluster)) >= count for cluster, count in clusters.items())

    lab.wait(f"the jobs of clusters {', '.join(clusters)} ended", ended, seconds, 5)  # rare enough to leave the cores to the guests
    assert seen.settled, f"at no moment did the listings of workers agree; where they differed last: {seen.differed}"
    return seen


def nothing_left(lab: Lab) -> None:
    """Check that no worker, and no part of one, is left in the ledger, the regions (listed as their admin) or the pool."""
    lab.wait("the ledger has no living VM", lambda: not living(lab), 420)
    admins = {region: lab.cloud(f"{region}-admin") for region in REGIONS}

    def clean() -> bool:
        found = listings(lab, admins)
        assert not (found.ledger or found.servers or found.ports or found.slots), found
        return True

    lab.wait("no server, port or slot is left", clean, 180)
    for region, admin in admins.items():
        # The intake's own key pair is kept.
        assert key_pairs(admin) == {("distcloud", "distcloud")}, f"key pairs in {region}"


def key_pairs(admin: Any) -> set[tuple[str, str]]:
    """User and name of every key pair of a region; Nova lists those of one user at a time."""
    return {(user.name, pair.name) for user in admin.identity.users() for pair in admin.compute.keypairs(user_id=user.id)}
