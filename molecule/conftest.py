"""Fixtures of all scenarios: `converge` runs the scenario's playbook again and reports what each task changed, `on` is a host by name.

docs/testing.md describes how a test asserts with them that check mode is accurate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import testinfra
from playbook_changes import Playbook


@pytest.fixture(scope="session")
def _ansible_inventory(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("ansible_inventory"))


@pytest.fixture(scope="module")
def converge(request: pytest.FixtureRequest) -> Playbook:
    scenario = next(folder for folder in request.path.parents if (folder / "converge.yml").is_file())
    return Playbook(scenario / "converge.yml", scenario / "inventory")


@pytest.fixture(scope="session")
def on(_ansible_inventory: str) -> Callable[[str], Any]:
    """A host of the scenario by its name, for tests that speak to several."""
    return lambda name: testinfra.get_host(f"ansible://{name}?ansible_inventory={_ansible_inventory}")
