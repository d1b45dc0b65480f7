"""What one job may take of a worker: the rule for disk as HTCondor's own parser reads it, memory, and processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from distcloud.scheduler.worker.configuration import UNIT_DROP_IN, WorkerSettings, configuration, worker_file

WORKER = WorkerSettings(host="vm-1", domain="d.example", condor_host="c.d.example", group="physics", cores=4, memory_mib=8000)
# In a child process: the bindings read the configuration when they are imported, and from then on look up names in the job's ad too, as
# the startd does.
EVALUATE = """
import json, sys, htcondor2, classad2
slot, job = map(classad2.ClassAd, sys.argv[1:])
names = ("PREEMPT", "WANT_HOLD", "WANT_HOLD_REASON", "WANT_HOLD_SUBCODE", "MAXJOBRETIREMENTTIME")
values = {name: classad2.ExprTree(htcondor2.param[name]).eval(slot, job) for name in names}
print(json.dumps({name: None if value is classad2.Value.Undefined else value for name, value in values.items()}))
"""
MIB = 1024
Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory: pytest.TempPathFactory) -> Evaluate:
    """Evaluates the worker's policy for the request of a job (ClassAd text, KiB) and what it uses (MiB)."""
    path = tmp_path_factory.mktemp("worker") / "condor_config"
    path.write_text(worker_file(WORKER))
    environment = {**os.environ, "CONDOR_CONFIG": str(path)}

    def evaluated(request: str, used: int | None, default: bool = False) -> dict[str, Any]:
        slot = f"[TotalDisk = {40_000 * MIB}; TotalCpus = 4.0; Cpus = 1; Disk = {request if request.isdigit() else MIB}]"
        marked = "; DistcloudDiskDefault = true" if default else ""
        job = f"[JobUniverse = 5; RequestDisk = {request}{'' if used is None else f'; DiskUsage = {used * MIB}'}{marked}]"
        done = subprocess.run([sys.executable, "-c", EVALUATE, slot, job], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return evaluated


def test_job_over_its_request_is_held_with_both_numbers(evaluate: Evaluate) -> None:
    found = evaluate(str(20 * MIB), 60)
    assert (found["PREEMPT"], found["WANT_HOLD"], found["WANT_HOLD_SUBCODE"], found["MAXJOBRETIREMENTTIME"]) == (True, True, 104, -1)
    assert found["WANT_HOLD_REASON"].startswith("disk usage of 60 MiB exceeds request_disk = 20 MiB; raise request_disk")


@pytest.mark.parametrize(("wanted", "used"), [(str(20 * MIB), 20), (str(20 * MIB), None), ("DiskUsage", 9_999), ("DiskUsage", None)])
def test_job_within_its_bounds_goes_on(evaluate: Evaluate, wanted: str, used: int | None) -> None:
    found = evaluate(wanted, used)
    assert (found["PREEMPT"], found["WANT_HOLD"], found["MAXJOBRETIREMENTTIME"]) == (False, False, WORKER.retirement_seconds)


@pytest.mark.parametrize("wanted", ["DiskUsage", "DiskUsage * 2", "ifThenElse(DiskUsage > 1024, 1000000000, 1)"])
def test_request_that_follows_the_use_is_bounded(evaluate: Evaluate, wanted: str) -> None:
    found = evaluate(wanted, 10_001)
    assert (found["PREEMPT"], found["WANT_HOLD"]) == (True, True)
    assert "10001 MiB exceeds the share of a job without request_disk, 10000 MiB" in found["WANT_HOLD_REASON"]


def test_job_without_a_request_has_its_share(evaluate: Evaluate) -> None:
    """Its ad comes to the worker with the disk that it used when it was matched."""
    found = evaluate("1", 9_999, default=True)
    assert (found["PREEMPT"], found["WANT_HOLD"]) == (False, False)
    found = evaluate("1", 10_001, default=True)
    assert (found["PREEMPT"], found["WANT_HOLD"]) == (True, True)
    assert "10001 MiB exceeds the share of a job without request_disk, 10000 MiB" in found["WANT_HOLD_REASON"]


def test_memory_and_processes_are_bounded() -> None:
    lines = worker_file(WORKER).splitlines()
    assert "CGROUP_MEMORY_LIMIT_POLICY = hard" in lines and "DISABLE_SWAP_FOR_JOB = True" in lines
    for firewall in (True, False):
        settings = WorkerSettings(host="w", domain="d.example", condor_host="c.d.example", group="g", firewall=firewall)
        assert "\nLimitNPROC=4096\n" in configuration(settings)[UNIT_DROP_IN]
