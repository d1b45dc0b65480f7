"""What the scenario's tests share: an account in a region."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lab_access import connection


@pytest.fixture(scope="session")
def state() -> Path:
    """The folder in which the scenario keeps what a site keeps."""
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "state"


@pytest.fixture(scope="session")
def account(state: Path) -> Callable[[str], Any]:
    """A connection for an entry of the scenario's clouds.yaml."""
    return partial(connection, state / "clouds.yaml")
