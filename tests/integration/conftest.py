"""Fixtures of the tests on a running lab.

They run against the lab named by DISTCLOUD_LAB (default: test) after `playbooks/lab.yml` and `playbooks/site.yml`; without a running
lab they are skipped, or fail if DISTCLOUD_LAB_REQUIRED is set.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from lab_access import missing
from running_lab import Lab


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The running lab."""
    found = Lab(os.environ.get("DISTCLOUD_LAB", "test"))
    if not (found.state / "ssh" / "id_ed25519").exists():
        missing(f"no lab named {found.name} is up: `DISTCLOUD_LAB={found.name} make lab` starts one")
    try:
        found.run("central", "true", timeout=300)
    except (AssertionError, KeyError, subprocess.TimeoutExpired) as error:
        missing(f"lab {found.name} does not answer: {error}")
    return found


@pytest.fixture
def no_jobs(lab: Lab) -> Iterator[None]:
    """The queue is empty before a test and after it."""
    lab.run("central", "condor_rm -all", check=False)
    yield
    lab.run("central", "condor_rm -all", check=False)
