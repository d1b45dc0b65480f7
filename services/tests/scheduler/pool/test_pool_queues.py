"""Several queues of one pool: which are queried, what happens if one is unreachable, and where a job is looked up.

A child process replaces HTCondor's bindings, and answers with rows recorded from two real schedds.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from distcloud.scheduler.pool import htcondor
from distcloud.scheduler.pool.base import PoolUnavailable
from distcloud.scheduler.pool.htcondor import HtcondorPool, PoolAddress

NEAR, FAR = "central.pool.test", "submit.pool.test"
COMMON = {
    **{"DistcloudGroup": "physics", "Requirements": '(TARGET.Arch == "X86_64") && (TARGET.Memory >= RequestMemory)', "RequestCpus": 1},
    **{"RequestMemory": 128, "RequestDisk": 10240, "JobPrio": 0, "VMInstanceType": None, "VMKeepAlive": None, "attributes": {}},
}
RECORDED = {
    f"demand {NEAR}": [{**COMMON, "Owner": "alice", "JobStatus": 1, "count": 3, "QDate": 1795276800}],
    f"demand {FAR}": [{**COMMON, "Owner": "alice", "JobStatus": 1, "count": 2, "QDate": 1795276700}],
    f"job {NEAR} 7.0": {**COMMON, "Owner": "alice", "JobStatus": 1},
    f"job {FAR} 7.0": {**COMMON, "Owner": "bob", "JobStatus": 5, "HoldReason": "via condor_hold (by user bob)"},
    f"job {FAR} 8.1": {**COMMON, "Owner": "bob", "JobStatus": 2},
    f"job {FAR} 9.0": {**COMMON, "Owner": "bob", "JobStatus": 2, "JobUniverse": 7},
}
CHILD = """#!{python}
import json, pathlib, sys
here = pathlib.Path({here!r})
for line in sys.stdin:
    ask = json.loads(line)
    key = " ".join([ask["ask"], ask["schedd"]] + ([f"{{ask['cluster']}}.{{ask['process']}}"] if "cluster" in ask else []))
    with open(here / "asked", "a") as log:
        log.write(key + chr(10))
    if (here / ask["schedd"]).exists():
        print(json.dumps({{"error": f"HTCondorException: {{ask['schedd']}} is away"}}), flush=True)
    else:
        print(json.dumps({{"result": json.loads((here / "recorded").read_text()).get(key)}}), flush=True)
"""


class Schedds:
    """Two schedds that can be made unreachable, with a log of their queries."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.child = folder / "child"
        self.child.write_text(CHILD.format(python=sys.executable, here=str(folder)), "utf-8")
        self.child.chmod(0o755)
        (folder / "recorded").write_text(json.dumps(RECORDED), "utf-8")

    def away(self, name: str, away: bool = True) -> None:
        (self.folder / name).touch() if away else (self.folder / name).unlink()

    def asked(self) -> list[str]:
        log = self.folder / "asked"
        lines = log.read_text("utf-8").splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return sorted(lines)


def play(folder: Path, script: Callable[[Schedds, HtcondorPool], Awaitable[None]]) -> None:
    async def main() -> None:
        schedds = Schedds(folder)
        pool = HtcondorPool(PoolAddress("central", (NEAR, FAR), "pool.test", folder, python=str(schedds.child)), seconds=120)
        try:
            await script(schedds, pool)
        finally:
            await pool.close()

    asyncio.run(main())


def test_demand_is_merged_and_unreachable_queue_named(tmp_path: Path) -> None:
    async def script(schedds: Schedds, pool: HtcondorPool) -> None:
        queues = await pool.demand()
        (demand,) = queues.demand
        assert (demand.idle, demand.waiting_since, queues.unreachable) == (5, 1795276700.0, {})
        schedds.away(FAR)
        queues = await pool.demand()
        (demand,) = queues.demand
        assert demand.idle == 3 and list(queues.unreachable) == [FAR] and "is away" in queues.unreachable[FAR]
        schedds.away(NEAR)
        with pytest.raises(PoolUnavailable, match=r"central\.pool\.test is away.*submit\.pool\.test is away"):
            await pool.demand()

    play(tmp_path, script)


def test_unreachable_queue_is_queried_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(htcondor, "time", SimpleNamespace(monotonic=lambda: now[0]))

    async def script(schedds: Schedds, pool: HtcondorPool) -> None:
        schedds.away(FAR)
        asked = 0
        for _ in range(60):
            queues = await pool.demand()
            assert list(queues.unreachable) == [FAR] and "is away" in queues.unreachable[FAR], "the error is kept while the breaker is open"
            asked += f"demand {FAR}" in schedds.asked()
            now[0] += 5
        assert 8 <= asked <= 20, "three times in a row, then every 30 seconds"
        schedds.away(FAR, False)
        now[0] += 40
        assert not (await pool.demand()).unreachable
        now[0] += 1
        assert not (await pool.demand()).unreachable

    play(tmp_path, script)


def test_job_lookup_in_all_or_named_queue(tmp_path: Path) -> None:
    async def script(schedds: Schedds, pool: HtcondorPool) -> None:
        found = await pool.job(f"{FAR}#7")
        assert found is not None and (found.id, found.status, found.hold_reason) == (f"{FAR}#7.0", 5, "via condor_hold (by user bob)")
        assert schedds.asked() == [f"job {FAR} 7.0"]
        found = await pool.job("7.0")
        assert found is not None and found.id == f"{NEAR}#7.0"
        found = await pool.job("8.1")
        assert found is not None and (found.id, found.universe) == (f"{FAR}#8.1", 5)
        found = await pool.job("9.0")
        assert found is not None and found.universe == 7 and found.demand is not None, "has a group, whose members may ask about it"
        assert await pool.job("10") is None
        assert await pool.job("elsewhere#7.0") is None
        assert await pool.job("seven") is None
        schedds.away(FAR)
        found = await pool.job("7.0")
        assert found is not None and found.id == f"{NEAR}#7.0"
        with pytest.raises(PoolUnavailable, match="is away"):
            await pool.job("8.1")  # the job may be there

    play(tmp_path, script)
