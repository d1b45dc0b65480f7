"""Measures a newcomer's site: `make site` cold and again, and where the time goes between `condor_submit` and a job's start.

Runs in a lab of its own (DISTCLOUD_LAB=bench), from a clean clone with a virtual environment of its own, and takes the lab away
afterwards. `--warm` keeps the bake cache: nothing is downloaded anew for the lab's hosts. `--leave` leaves the lab up; `--keep` uses a
lab that is already up, measures only jobs, and leaves the other rows of the last run in place.
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
sys.path[:0] = [str(ROOT / "tests" / "integration"), str(ROOT / "tests" / "support")]
os.environ["DISTCLOUD_LAB"] = os.environ.get("DISTCLOUD_BENCH_LAB", "bench")

JOB = "condor_submit to job start: "
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
    from site_jobs import REGIONS, finished, nothing_left, servers, submit

    nothing_left(lab)
    cluster = submit(lab, "alice", seconds=30)

    def running() -> tuple[dict[str, Any], Any] | None:
        """The worker's ad and its server, both of which end with the worker."""
        ads = lab.json("central", "condor_status -json -claimed -attributes DistcloudVm,DaemonStartTime")
        machines = [server for region in REGIONS for server in servers(lab, region)]
        return next(((ad, server) for ad in ads for server in machines if server.name == ad.get("DistcloudVm")), None)

    ad, server = lab.wait("the job runs on a worker", running, 600)
    (job,) = finished(lab, cluster, 1)
    vm = lab.api("GET", f"/v1/vms/{ad['DistcloudVm']}")[1]
    requested = datetime.fromisoformat(vm["requested_at"]).timestamp()
    active = datetime.fromisoformat(f"{server.launched_at}+00:00").timestamp()
    return {
        "us": requested - job["QDate"],
        "nova": active - requested,
        "boot and cloud-init": ad["DaemonStartTime"] - active,
        "htcondor": job["JobStartDate"] - ad["DaemonStartTime"],
        "all": job["JobStartDate"] - job["QDate"],
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
    out = ROOT / "build" / "bench" / "site.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    if wanted.keep and out.exists():
        rows = [one for one in json.loads(out.read_text("utf-8")) if not one["what"].startswith(JOB)]

    def note(*found: dict[str, Any]) -> None:
        """Rows are written as they come: a run that ends early has measured what it has measured."""
        rows.extend(found)
        out.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")

    if not wanted.keep:
        subprocess.run(
            ["ansible-playbook", "playbooks/lab_down.yml", "-e", f"lab_host_purge_cache={not wanted.warm}"], cwd=ROOT, check=True
        )
        clone = clean_clone(ROOT / "build" / "bench" / "site")
        cold = timed(clone, "make", "site")
        note(row("make site, " + ("warm cache" if wanted.warm else "cold"), 2, cold, COLD_TARGET))
        note(row("make site, second run", 2, timed(clone, "make", "site"), SECOND_TARGET))
    from conftest import Lab

    lab = Lab(os.environ["DISTCLOUD_LAB"])
    timelines = [job_timeline(lab) for turn in range(wanted.jobs)]
    for part in timelines[0]:
        target = OWN_TARGET if part == "us" else None
        note(row(JOB + part, wanted.jobs, statistics.median(line[part] for line in timelines), target))
    for line in rows:
        print(
            f"{line['what']:45} {line['ours']:8.1f} {line['unit']}"
            + (f"  (target {line['peer']:.0f}, ratio {line['ratio']})" if line["peer"] else "")
        )
    if not wanted.keep and not wanted.leave:
        subprocess.run(["ansible-playbook", "playbooks/lab_down.yml"], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
