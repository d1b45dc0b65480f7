"""Roles: root makes no files or directories for other users where these could replace a part of the path by a link."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[3] / "roles"
# In directories of root: /var/lib/distcloud, and those of role certificates.
SAFE = {
    "engine: Create the home of {{ engine_name }}",
    "certificates: Copy the admin's private key",
    "certificates: Create the private key",
}


def tasks_in(node: Any) -> Iterator[dict[str, Any]]:
    for task in node or []:
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks_in(task.get(part))


@pytest.mark.security
def test_root_writes_in_its_own_directories() -> None:
    """What lies below a directory of another user is made by module private_directories, or by a process of that user."""
    found = set()
    for path in sorted(ROLES.glob("*/tasks/*.yml")):
        for task in tasks_in(yaml.safe_load(path.read_text("utf-8"))):
            owners = [str(options["owner"]) for options in task.values() if isinstance(options, dict) and "owner" in options]
            if any(owner not in ("root", "{{ 'root' if __engine_public_cli else omit }}") for owner in owners):
                found.add(f"{path.parents[1].name}: {task['name']}")
    assert found == SAFE
