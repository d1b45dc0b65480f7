"""Measures a newcomer's site: `make site` cold and again, and where the time goes between `condor_submit` and a job's start.

Runs in a lab of its own (DISTCLOUD_LAB=bench), from a clean clone with a virtual environment of its own, and takes the lab away
afterwards. `--warm` keeps the bake cache: nothing is downloaded anew for the lab's hosts. `--leave` leaves the lab up; `--keep` uses a
lab that is already up and only measures jobs.
Writes build/bench/site.json: rows of what, size, ours, peer, peer_name, unit, ratio; the peer of a duration is its target.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))
os.environ["DISTCLOUD_LAB"] = os.environ.get("DISTCLOUD_BENCH_LAB", "bench")

COLD_TARGET, SECOND_TARGET, OWN_TARGET = 900.0, 180.0, 6.0


def timed(clone: Path, *command: str) -> float:
    begin = time.monotonic()
    environment = os.environ | {"PIP_CACHE_DIR": str(clone.parent / "pip")}
    subprocess.run(command, cwd=clone, check=True, env=environment, stdin=subprocess.DEVNULL)
    return time.monotonic() - begin


def clean_clone(place: Path) -> Path:
    """The committed state of the checkout, as a newcomer gets it."""
    shutil.rmtree(place, ignore_errors=True)
    clone = place / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    return clone


def job_timeline(lab: Any) -> dict[str, float]:
    """Submit one job to an empty pool; answer seconds spent by us, Nova, the guest's boot with cloud-init, and HTCondor."""
    from test_site import empty, finished, submit

    empty(lab)
    cluster = submit(lab, "alice", seconds=1)
    finished(lab, cluster, 1)
    (ad,) = lab.json(
        "central", f"condor_history -json -constraint 'ClusterId == {cluster}' -attributes QDate,JobStartDate,MachineAttrDistcloudVm0"
    )
    vm = lab.api("GET", f"/v1/vms/{ad['MachineAttrDistcloudVm0']}")[1]
    at = {event["to_state"]: event["at"] for event in reversed(vm["events"])}
    servers = [server for region in ("region-a", "region-b") for server in lab.cloud(f"{region}-admin").compute.servers(all_projects=True)]
    launched = next((server.launched_at for server in servers if server.name == vm["id"]), None)
    active = datetime.fromisoformat(f"{launched}+00:00").timestamp() if launched else at["unregistered"]
    return {
        "us": vm["requested_at"] - ad["QDate"],
        "nova": active - vm["requested_at"],
        "boot and cloud-init": vm["registered_at"] - active,
        "htcondor": ad["JobStartDate"] - vm["registered_at"],
        "all": ad["JobStartDate"] - ad["QDate"],
    }


def row(what: str, size: int, ours: float, target: float | None, unit: str = "s") -> dict[str, Any]:
    ratio = None if not target else round(ours / target, 3)
    return {"what": what, "size": size, "ours": round(ours, 2), "peer": target, "peer_name": "target", "unit": unit, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--warm", action="store_true", help="keep the bake cache")
    parser.add_argument("--leave", action="store_true", help="leave the lab up")
    parser.add_argument("--keep", action="store_true", help="use the lab that is up, measure jobs only")
    parser.add_argument("--jobs", type=int, default=3)
    wanted = parser.parse_args()
    rows = []
    if not wanted.keep:
        subprocess.run(
            ["ansible-playbook", "playbooks/lab_down.yml", "-e", f"lab_host_purge_cache={not wanted.warm}"], cwd=ROOT, check=True
        )
        clone = clean_clone(ROOT / "build" / "bench" / "site")
        cold = timed(clone, "make", "site")
        rows.append(row("make site, " + ("warm cache" if wanted.warm else "cold"), 2, cold, COLD_TARGET))
        rows.append(row("make site, second run", 2, timed(clone, "make", "site"), SECOND_TARGET))
    from conftest import Lab

    lab = Lab(os.environ["DISTCLOUD_LAB"])
    timelines = [job_timeline(lab) for turn in range(wanted.jobs)]
    for part in timelines[0]:
        target = OWN_TARGET if part == "us" else None
        rows.append(row(f"condor_submit to job start: {part}", wanted.jobs, statistics.median(line[part] for line in timelines), target))
    out = ROOT / "build" / "bench" / "site.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    for line in rows:
        print(
            f"{line['what']:45} {line['ours']:8.1f} {line['unit']}"
            + (f"  (target {line['peer']:.0f}, ratio {line['ratio']})" if line["peer"] else "")
        )
    if not wanted.keep and not wanted.leave:
        subprocess.run(["ansible-playbook", "playbooks/lab_down.yml"], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
