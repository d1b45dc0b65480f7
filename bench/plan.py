"""Benchmark of the planner: cycles without actions, with 1,000 to 100,000 idle jobs, ten of a kind, 20 clouds and 2,000 workers.

Three things are measured, all in CPU seconds: how time and memory grow with the jobs; at the first size of 10,000 jobs or more the ratio
to a scheduler that calls HTCondor's symmetricMatch for every idle job and cloud (one job ad per job, one slot ad per cloud), without
limits, packing or reasons; with `--against CHECKOUT` the ratio to the planner of another checkout, in turns. Prints rows and writes
build/bench/plan.json: what, size, ours, peer, peer_name, unit, ratio (ours / peer; below 1 is better). `--profile` shows where the time
goes.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import logging
import os
import pstats
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "services" / "src"))

import structlog  # noqa: E402

from distcloud.scheduler.domain.model import Cloud, Demand, Flavor, Group, Limits, Plan, Policy, Resources, Slot, Vm, VmState  # noqa: E402
from distcloud.scheduler.matching.bindings import load  # noqa: E402
from distcloud.scheduler.matching.matcher import Matcher  # noqa: E402
from distcloud.scheduler.matching.subprocess_matcher import SubprocessMatcher  # noqa: E402
from distcloud.scheduler.planning.planner import plan  # noqa: E402
from distcloud.scheduler.worker.offer import offered  # noqa: E402

NOW = 1_000_000.0
KINDS, JOBS_PER_KIND, CLOUDS, VMS_PER_CLOUD = 1000, 10, 20, 100
PEER = "symmetricMatch per job and cloud"
SUBMIT = (
    '(TARGET.Arch == "X86_64") && (TARGET.OpSys == "LINUX") && (TARGET.Disk >= RequestDisk) && '
    "(TARGET.Memory >= RequestMemory) && (TARGET.HasFileTransfer)"
)
FLAVORS = tuple(Flavor(f"f{cores}", Resources(cores, 3000 * cores, 20.0 * cores)) for cores in (1, 2, 4, 8, 16))


def demand() -> list[Demand]:
    """1,000 kinds of jobs: 100 owners with ten sets of requirements and requests each."""
    return [
        Demand(
            group="hep",
            owner=f"user{number % 100}",
            requirements=f'{SUBMIT} && (group_name =?= "hep") && (TARGET.Memory >= {200 + number})',
            request=Resources(1 + number % 3, 1000 + number % 700, 5.0),
            idle=JOBS_PER_KIND,
            running=2,
            waiting_since=NOW - number,
        )
        for number in range(KINDS)
    ]


def clouds() -> list[Cloud]:
    """20 clouds, each at its limit of workers."""
    return [
        Cloud(
            f"c{number}",
            "hep",
            f"r{number}",
            enabled=True,
            flavors=FLAVORS,
            images=frozenset({"worker"}),
            default_image="worker",
            limits=Limits(vms=VMS_PER_CLOUD),
        )
        for number in range(CLOUDS)
    ]


def workers(busy: bool) -> tuple[list[Vm], list[Slot]]:
    """Running workers, without a free core (busy) or half free."""
    vms, slots = [], []
    for number in range(CLOUDS * VMS_PER_CLOUD):
        flavor = FLAVORS[number % len(FLAVORS)]
        vm = Vm(
            f"vm-{number:016d}",
            "hep",
            f"c{number % CLOUDS}",
            flavor.name,
            "worker",
            flavor.resources,
            VmState.RUNNING,
            NOW - 9000,
            NOW - 900,
        )
        total = offered(flavor.resources)
        free = Resources() if busy else Resources(total.cores // 2, total.ram_mib // 2, total.disk_gib / 2)
        vms.append(vm)
        slots.append(Slot(f"{vm.id}.example.org", vm.id, total, free, 2, False, NOW - 5, ("somebody", "somebody")))
    return vms, slots


def seconds(work: Callable[[], Any], times: int) -> float:
    """Median CPU time, which is independent of other load on the machine; includes children that have exited."""
    taken = []
    for _turn in range(times):
        begin = sum(os.times()[:4])
        work()
        taken.append(sum(os.times()[:4]) - begin)
    return statistics.median(taken)


def naive() -> int:
    """One match per idle job and cloud."""
    matcher, bindings = Matcher(), load()

    def parsed(text: str) -> Any:
        found = bindings.ClassAd()
        for name, expression in json.loads(text).items():
            found[name] = bindings.ExprTree(expression)
        return found

    targets = [parsed(matcher.worker(cloud, FLAVORS[2], None, "worker").ad) for cloud in clouds()]
    matched = 0
    for each in demand():
        for _job in range(each.idle):
            ad = parsed(matcher._make_job(each, ()).ad)
            matched += sum(1 for target in targets if ad.symmetricMatch(target))
    return matched


async def slowest_answer(threaded: bool) -> float:
    """Worst latency of GET /healthz in seconds, while the first plan for 200 workers is computed in a thread or in the event loop."""

    # Imported here: the planner is measured without the API.
    import httpx2

    from distcloud.common.config import ListenSettings, ServiceSettings
    from distcloud.common.http.app import create_app
    from distcloud.common.http.auth import Caller
    from distcloud.common.http.report import Report

    async def report(_caller: Caller) -> Report:
        return Report(title="Bench", problems=[], tables=[], links=[])

    app = create_app("Bench", ServiceSettings(listen=ListenSettings(port=1)), stuck=lambda: "", dependencies=list, report=report)
    inputs = (demand(), [], workers(busy=True)[0][:200], clouds(), [Group("hep")], Policy(), NOW)
    done, worst = asyncio.Event(), 0.0

    async def ask() -> None:
        nonlocal worst
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://bench") as client:
            await client.get("/healthz")  # warm-up
            ready.set()
            while not done.is_set():
                began = time.perf_counter()
                await asyncio.sleep(0.01)
                assert (await client.get("/healthz")).status_code == 200
                worst = max(worst, time.perf_counter() - began - 0.01)

    ready = asyncio.Event()
    asking = asyncio.create_task(ask())
    await ready.wait()
    await asyncio.sleep(0.05)
    await asyncio.to_thread(plan, *inputs) if threaded else plan(*inputs)
    done.set()
    await asking
    return worst


Row = dict[str, Any]


def row(what: str, ours: float, peer: float | None = None, peer_name: str | None = None, *, size: int, unit: str = "s") -> Row:
    ratio = None if peer is None else round(ours / peer, 4)
    known = None if peer is None else round(peer, 3)
    return {"what": what, "size": size, "ours": round(ours, 3), "peer": known, "peer_name": peer_name, "unit": unit, "ratio": ratio}


MEASURED = {
    "first": "first plan, nothing cached",
    "warm": "no-op plan, every cloud at its limit",
    "packed": "no-op plan, workers half free, jobs packed",
    "memory": "memory",
}


def measure(checkout: Path, jobs: int) -> dict[str, float]:
    """Plans of this size with the program of a checkout, by its own Python where it has one, in a fresh process."""
    own = checkout / ".venv" / "bin" / "python"
    command = [str(own) if own.exists() else sys.executable, str(ROOT / "bench" / "plan_worker.py"), str(checkout)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    sizes = [str(number) for number in (jobs, JOBS_PER_KIND, CLOUDS, VMS_PER_CLOUD)]
    done = subprocess.run([*command, *sizes], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench of {checkout} failed with {done.returncode}:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def medians(results: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(result[key] for result in results) for key in MEASURED}


def growth(sizes: list[int], other: Path | None, turns: int) -> list[Row]:
    """Rows of each size; with another checkout the two take turns, so that a slow minute of the machine meets both."""
    rows = []
    for jobs in sizes:
        ours, theirs = [], []
        for _turn in range(turns if other else 1):
            ours.append(measure(ROOT, jobs))
            if other:
                theirs.append(measure(other, jobs))
        here, there = medians(ours), medians(theirs) if other else {}
        name = None if other is None else str(other)
        rows += [
            row(what, here[key], there.get(key), name, size=jobs, unit="MiB" if key == "memory" else "s") for key, what in MEASURED.items()
        ]
    return rows


def against_naive(jobs: int) -> list[Row]:
    """Rows of one size beside the naive scheduler, and of the API's latency meanwhile."""
    wanted, places, groups, policy, matcher = demand(), clouds(), [Group("hep")], Policy(), Matcher()
    vms, full = workers(busy=True)

    def cycle(matcher: Matcher) -> Plan:
        return plan(wanted, full, vms, places, groups, policy, NOW, matcher=matcher)

    def first() -> None:
        ad_matcher = SubprocessMatcher()
        cycle(Matcher(ad_matcher=ad_matcher))
        ad_matcher.close()

    answer = cycle(matcher)
    assert answer.actions == (), answer.actions[:3]
    assert len(answer.verdicts) == KINDS * (CLOUDS + 1)
    warm, cold, peer = seconds(lambda: cycle(matcher), 5), seconds(first, 3), seconds(naive, 1)
    threaded, inline = asyncio.run(slowest_answer(True)), asyncio.run(slowest_answer(False))
    return [
        row("no-op plan", warm, peer, PEER, size=jobs),
        row("no-op plan, empty caches (first cycle, subprocess matcher started)", cold, peer, PEER, size=jobs),
        row("slowest /healthz during a first plan", threaded, inline, "plan in the event loop", size=jobs),
    ]


def show_profile() -> None:
    wanted, places, groups, policy, matcher = demand(), clouds(), [Group("hep")], Policy(), Matcher()
    vms, full = workers(busy=True)
    plan(wanted, full, vms, places, groups, policy, NOW, matcher=matcher)
    profile = cProfile.Profile()
    profile.runcall(plan, wanted, full, vms, places, groups, policy, NOW, matcher=matcher)
    pstats.Stats(profile).sort_stats("tottime").print_stats(18)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="idle jobs (default: %(default)s)")
    parser.add_argument("--jobs-per-kind", type=int, default=JOBS_PER_KIND, help="jobs that are alike (%(default)s)")
    parser.add_argument("--clouds", type=int, default=CLOUDS, help="%(default)s")
    parser.add_argument("--workers", type=int, default=VMS_PER_CLOUD, help="per cloud (%(default)s)")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with the planner of another checkout")
    parser.add_argument("--turns", type=int, default=3, help="measurements of each of the two (%(default)s)")
    parser.add_argument("--profile", action="store_true", help="profile a warm plan of the first size instead of measuring")
    return parser.parse_args()


def main() -> int:
    global KINDS, JOBS_PER_KIND, CLOUDS, VMS_PER_CLOUD
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    options = parse()
    JOBS_PER_KIND, CLOUDS, VMS_PER_CLOUD = options.jobs_per_kind, options.clouds, options.workers
    other = options.against.resolve() if options.against else None
    if other and not (other / "bench" / "plan.py").is_file():
        raise SystemExit(f"--against {other}: not a checkout, bench/plan.py is missing; make one with `git worktree add`")
    KINDS = options.jobs[0] // JOBS_PER_KIND
    if options.profile:
        show_profile()
        return 0
    rows = growth(options.jobs, other, options.turns)
    if naive_size := next((jobs for jobs in options.jobs if jobs >= 10_000), 0):
        KINDS = naive_size // JOBS_PER_KIND
        rows += against_naive(naive_size)
    for each in rows:
        peer = f"; {each['peer_name']}: {each['peer']:.3f}; ratio {each['ratio']}" if each["peer"] is not None else ""
        print(f"{each['size']:>7,} jobs: {each['what']}: {each['ours']:.3f} {each['unit']}{peer}")
    target = ROOT / "build" / "bench" / "plan.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
