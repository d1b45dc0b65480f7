"""Measures a new user's site: `make site` cold and again, where the time goes between `condor_submit` and a job's start, and the planner's
cycle in which nothing can be done (bench/plan.py).

Runs in a separate lab (DISTCLOUD_LAB=bench), from a clean clone with its own virtual environment, and removes the lab
afterwards. `--warm` keeps the bake cache: nothing is downloaded again for the lab's hosts. `--leave` leaves the lab up; `--keep` uses a
lab that is already up, measures only jobs and planner, and leaves the other rows of the last run in place.
Writes build/bench/site.json: rows of what, size, ours, peer, peer_name, unit, ratio; the peer of a duration is its target.

The shares of a job's wait follow each other without a gap: us (until Nova had our request), Nova (until the server was active), boot
(until cloud-init began its first stage, so its interpreter's start is in it), cloud-init (until its last stage was done), HTCondor (until
the job began). The guest's two moments are told by its own clock, which the lab's emulator sets to the second.
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
sys.path.insert(0, str(ROOT / "tests" / "support"))
os.environ["DISTCLOUD_LAB"] = os.environ.get("DISTCLOUD_BENCH_LAB", "bench")

JOB, PLAN = "condor_submit to job start: ", "no-op plan, every cloud at its limit"
COLD_TARGET, SECOND_TARGET, OWN_TARGET = 900.0, 180.0, 6.0


def timed(clone: Path, *command: str) -> float:
    begin = time.monotonic()
    environment = os.environ | {"PIP_CACHE_DIR": str(clone.parent / "pip")}
    subprocess.run(command, cwd=clone, check=True, env=environment, stdin=subprocess.DEVNULL)
    return time.monotonic() - begin


def clean_clone(place: Path) -> Path:
    """The committed state of the checkout, as a new user gets it."""
    shutil.rmtree(place, ignore_errors=True)
    clone = place / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    return clone


# A job must not read cloud-init's own status, but it sees two links and their creation times: by systemd at the start of the first stage,
# by cloud-init at the end of its last.
MOMENTS = """\
stat --format %.Y /run/systemd/units/invocation:cloud-init-local.service /run/cloud-init/result.json
sleep 20
"""
PARTS = ("us", "nova", "boot", "cloud-init", "htcondor")


def job_timeline(lab: Any) -> dict[str, float]:
    """Submit one job to an empty pool; returns the seconds of each phase of its wait, and the total."""
    from site_jobs import REGIONS, finished, nothing_left, printed, servers, submit

    nothing_left(lab)
    cluster = submit(lab, "alice", script=MOMENTS)

    def running() -> Any:
        """The server of the worker that the job runs on; it ends with the worker."""
        names = [ad.get("DistcloudVm") for ad in lab.json("central", "condor_status -json -claimed -attributes DistcloudVm")]
        return next((server for region in REGIONS for server in servers(lab, region) if server.name in names), None)

    server = lab.wait("the job runs on a worker", running, 600)
    (job,) = finished(lab, cluster, 1)
    # When Nova received the request (in seconds): everything before is our own time, login included.
    requested = datetime.fromisoformat(server.created_at).timestamp()
    active = datetime.fromisoformat(f"{server.launched_at}+00:00").timestamp()
    began, ended = map(float, printed(lab, "alice", cluster).split())
    return shares(job["QDate"], requested, active, began, ended, job["JobStartDate"])


def shares(*moments: float) -> dict[str, float]:
    """Durations between consecutive times, and the total."""
    parts = {part: after - before for part, before, after in zip(PARTS, moments[:-1], moments[1:], strict=True)}
    return parts | {"all": moments[-1] - moments[0]}


def planner() -> dict[str, Any]:
    """The row of the no-op plan with 10,000 idle jobs, as bench/plan.py measures it."""
    subprocess.run([sys.executable, str(ROOT / "bench" / "plan.py")], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    rows = json.loads((ROOT / "build" / "bench" / "plan.json").read_text("utf-8"))
    found: dict[str, Any] = next(one for one in rows if one["what"].startswith(PLAN))
    return found


def row(what: str, size: int, ours: float, target: float | None, unit: str = "s") -> dict[str, Any]:
    ratio = None if not target else round(ours / target, 3)
    return {"what": what, "size": size, "ours": round(ours, 2), "peer": target, "peer_name": "target", "unit": unit, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--warm", action="store_true", help="keep the bake cache")
    parser.add_argument("--leave", action="store_true", help="leave the lab up")
    parser.add_argument("--keep", action="store_true", help="use the lab that is up, measure jobs and planner only")
    parser.add_argument("--jobs", type=int, default=3)
    wanted = parser.parse_args()
    out = ROOT / "build" / "bench" / "site.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    if wanted.keep and out.exists():
        rows = [one for one in json.loads(out.read_text("utf-8")) if not one["what"].startswith((JOB, PLAN))]

    def note(*found: dict[str, Any]) -> None:
        """Write each row immediately, so that an aborted run keeps its results."""
        rows.extend(found)
        out.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")

    note(planner())
    if not wanted.keep:
        subprocess.run(
            ["ansible-playbook", "playbooks/lab_down.yml", "-e", f"lab_host_purge_cache={not wanted.warm}"], cwd=ROOT, check=True
        )
        clone = clean_clone(ROOT / "build" / "bench" / "site")
        cold = timed(clone, "make", "site")
        note(row("make site, " + ("warm cache" if wanted.warm else "cold"), 2, cold, COLD_TARGET))
        note(row("make site, second run", 2, timed(clone, "make", "site"), SECOND_TARGET))
    from running_lab import Lab

    lab = Lab(os.environ["DISTCLOUD_LAB"])
    timelines = [job_timeline(lab) for turn in range(wanted.jobs)]
    for part in timelines[0]:
        target = OWN_TARGET if part == "us" else None
        note(row(JOB + part, wanted.jobs, statistics.median(line[part] for line in timelines), target))
    for line in rows:
        print(
            f"{line['what']:45} {line['ours']:8.2f} {line['unit']}"
            + (f"  ({line['peer_name']} {line['peer']:g}, ratio {line['ratio']})" if line["peer"] else "")
        )
    if not wanted.keep and not wanted.leave:
        subprocess.run(["ansible-playbook", "playbooks/lab_down.yml"], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
