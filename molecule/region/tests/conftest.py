"""Fixtures of the scenario: accounts in regions, the intake's credentials, the site's playbooks."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_access import connection
from playbook_changes import ROOT, Playbook

INVENTORY = Path(__file__).resolve().parents[1] / "inventory"


@pytest.fixture(scope="session")
def state() -> Path:
    """The scenario's state directory."""
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "state"


@pytest.fixture(scope="session")
def account(state: Path) -> Callable[[str], Any]:
    """A connection for an entry of the scenario's clouds.yaml."""
    return partial(connection, state / "clouds.yaml")


@pytest.fixture(scope="session")
def credential(state: Path) -> Callable[[str], dict[str, Any]]:
    """The scheduler's application credential in a region."""
    return lambda region: yaml.safe_load((state / "credentials" / f"{region}-scheduler.yml").read_text("utf-8"))


@pytest.fixture(scope="session")
def playbook() -> Callable[..., Playbook]:
    """A playbook of the collection with the scenario's inventory and further ones."""
    return lambda name, *more: Playbook(ROOT / "playbooks" / f"{name}.yml", INVENTORY, *more)
