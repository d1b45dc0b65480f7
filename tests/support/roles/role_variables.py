"""The variables that a site may set, and those that are set but never read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]
# Variables are also read by the playbooks and by the inventories, which pass them on to the roles.
READERS = [path for folder in ("playbooks", "inventories/common", "inventories/example") for path in (ROOT / folder).rglob("*.yml")]


def options() -> set[str]:
    """The options of all roles, by their argument specs."""
    found: set[str] = set()
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text("utf-8"))["argument_specs"].values():
            found |= set(entry.get("options") or {})
    return found


def unread(names: Iterable[str]) -> list[str]:
    """The given names that are neither an option of a role nor read by playbooks or inventories."""
    texts = [path.read_text("utf-8") for path in READERS]
    return sorted(name for name in set(names) - options() if not any(re.search(rf"\b{name}\b(?!:)", text) for text in texts))
