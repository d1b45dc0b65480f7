"""The committed indexes of roles and plugins are up to date and complete."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = runpy.run_path(str(ROOT / "tests" / "reference.py"))
PAGES: dict[str, Callable[[Path], str]] = REFERENCE["PAGES"]


@pytest.mark.parametrize("name", PAGES)
def test_committed_index_is_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text("utf-8") == PAGES[name](ROOT), f"{name} is out of date; run .venv/bin/python tests/reference.py"


def test_index_lists_every_role_and_module() -> None:
    roles, plugins = (PAGES[name](ROOT) for name in ("roles/README.md", "plugins/README.md"))
    for path in ROOT.glob("roles/*/tasks/main.yml"):
        assert f"[`{path.parents[1].name}`]" in roles
    for path in ROOT.glob("plugins/modules/[!_]*.py"):
        assert f"| `{path.stem}` |" in plugins


def test_markup_becomes_markdown() -> None:
    assert REFERENCE["plain"]("Reads C(a|b),\n  of O(name)") == "Reads `a\\|b`, of `name`"
