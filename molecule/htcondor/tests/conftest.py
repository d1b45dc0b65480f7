"""The pool, and a drain of DISTCLOUD_DRAIN_SECONDS that runs beside the other tests, from the first to the last but those of changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from htcondor_pool import DOMAIN, DRAIN_SECONDS, TOKENS, WALL, Drain, Pool
from lab_access import wait


@pytest.fixture(scope="session")
def pool(_ansible_inventory: str) -> Iterator[Pool]:
    found = Pool(Path(_ansible_inventory))
    found.clear()
    yield found
    found.clear()


@pytest.fixture(scope="session")
def drain(pool: Pool) -> Iterator[Drain]:
    """The first worker drops every inbound connection, and is drained as the scheduler does it: by a key that only this worker trusts."""
    worker = pool.workers[0]
    key_file = f"/etc/condor/passwords.d/{worker.name}"
    only = f'requirements = Machine == "{worker.fqdn}"'
    try:
        worker.ok("nft -f -", stdin=WALL)
        key = pool.central.ok("head -c 48 /dev/urandom | base64 -w0")
        worker.write(key_file, key)
        pool.central.ok("install -d -m 0700 -o distcloud-scheduler /run/test-vmkeys")
        pool.central.write(f"/run/test-vmkeys/{worker.name}", key, owner="distcloud-scheduler")
        signed = f"_CONDOR_SEC_PASSWORD_DIRECTORY=/run/test-vmkeys condor_token_create -key {worker.name} -identity scheduler@{DOMAIN}"
        pool.central.ok(f"umask 077; {signed} -authz ADMINISTRATOR -lifetime 600 > {TOKENS}/test-vm", user="distcloud-scheduler")
        pool.forget(f'Machine == "{worker.fqdn}"')
        worker.ok("systemctl restart condor")
        reached = pool.central.run(f"timeout 5 bash -c '</dev/tcp/{worker.address}/9618'")
        assert reached.code != 0, "the worker can still be reached, so this test would prove nothing"
        wait("the worker is in the pool", lambda: f"slot1@{worker.fqdn}" in pool.slots(worker), 180)
        job = pool.cluster("alice", only, "+OutlivesTests = true", arguments=str(DRAIN_SECONDS))
        wait("the job runs", lambda: pool.attribute(job, "JobStatus") == [["2"]], 180)
        drained = pool.as_scheduler(f"condor_drain -exit-on-completion {worker.fqdn}")
        assert drained.code == 0, drained.text
        yield Drain(worker, job, pool.cluster("alice", only, "+OutlivesTests = true"))
    finally:
        worker.run(f"nft delete table inet test_wall; rm -f {key_file}; systemctl restart condor")
        pool.central.run(f"rm -rf /run/test-vmkeys {TOKENS}/test-vm")
        pool.submit_node.run("condor_rm -all; condor_rm -all -forcex")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What begins the drain comes first; what ends the schedd or changes hosts comes after the test that awaits the drain's end."""
    order = {"test_unreachable_worker_runs_a_job_and_drains": 0, "test_a_drain_lets_the_job_end": 2}
    late = {"test_job_guard.py": 3, "test_configuration.py": 4}
    items.sort(key=lambda item: late.get(item.path.name, order.get(item.name, 1)))
