"""What the scenario's tests share: an account in a region, and patience."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openstack
import pytest


@pytest.fixture(scope="session")
def state() -> Path:
    """The folder in which the scenario keeps what a site keeps."""
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "state"


@pytest.fixture(scope="session")
def account(state: Path) -> Callable[[str], Any]:
    """A connection for an entry of the scenario's clouds.yaml."""

    def connected(entry: str) -> Any:
        config = openstack.config.OpenStackConfig(config_files=[str(state / "clouds.yaml")])
        return openstack.connection.Connection(config=config.get_one(entry))

    return connected


def wait(what: str, probe: Callable[[], Any], seconds: float = 60) -> Any:
    """Ask until the answer is true."""
    end = time.monotonic() + seconds
    while not (answer := probe()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.3)
    return answer
