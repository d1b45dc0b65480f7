"""Imports: no cycles, none upward, relative within a tree."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from import_graph import Module, absolute, cycle, graph, modules

from distcloud.cli import ENGINES as COMMANDS

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / "services" / "src" / "distcloud"
PLUGINS = ROOT / "plugins"
# The command `report` is not an engine; it reads what engines answer.
ENGINES = set(COMMANDS) - {"report"}

# Lowest first; a package imports from lower tiers only, and never from another of its own tier.
# The site report reads the response schemas of the engines.
SERVICE_TIERS = [{""}, {"common"}, {"openstack", "minter"}, {"ranking"}, ENGINES, {"report"}, {"cli"}]
COMMON_TIERS = [
    {""},
    {"config", "files", "json_limits", "text", "times"},
    {"logs", "secretbox", "terminal", "validators"},
    {"metrics", "systemd"},
    {"storage"},
    {"control"},
    {"http"},
    {"service"},
    {"cli"},
]
ENGINE_TIERS = [
    {""},
    {"domain", "authorization"},
    {"drivers", "worker", "settings"},
    {"store", "matching"},
    {"migrations", "catalog", "planning", "pool"},
    {"engine"},
    {"api"},
    {"service", "cli_tables"},
    {"cli"},
]
PLUGIN_TIERS = [
    {"module_utils/_core"},
    {"module_utils/_api", "module_utils/_openstack"},
    {"module_utils/_region", "module_utils/_lab"},
    {"doc_fragments"},
    {"modules", "filter", "lookup", "inventory"},
]


def service(module: Module) -> str:
    return module[0] if module else ""


def engine(module: Module) -> str:
    return module[1] if len(module) > 1 else ""


def plugin(module: Module) -> str:
    return "/".join(module[:2]) if module[:1] == ("module_utils",) else module[0]


def upward(edges: dict[Module, set[Module]], box: object, tiers: list[set[str]]) -> list[str]:
    """Imports that do not go to a lower tier, and packages without a tier."""
    level = {name: number for number, names in enumerate(tiers) for name in names}
    assert callable(box)
    found = []
    for module, targets in edges.items():
        for target in targets:
            here, there = box(module), box(target)
            if here not in level or there not in level:
                found.append(f"{'.'.join(module)} -> {'.'.join(target)}: give {here!r} and {there!r} a tier")
            elif here != there and level[here] <= level[there]:
                found.append(f"{'.'.join(module)} -> {'.'.join(target)}")
    return sorted(found)


@pytest.mark.parametrize("root", [SERVICES, PLUGINS], ids=["services", "plugins"])
def test_no_import_cycle(root: Path) -> None:
    found = cycle(graph(root))
    assert not found, "these import each other: " + " -> ".join(".".join(module) or "distcloud" for module in found)


def test_services_import_downward_only() -> None:
    found = upward(graph(SERVICES), service, SERVICE_TIERS)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", ["common", *sorted(ENGINES)])
def test_packages_import_downward_only(name: str) -> None:
    edges = {
        module: {target for target in targets if service(target) == name}
        for module, targets in graph(SERVICES).items()
        if service(module) == name
    }
    found = upward(edges, engine, COMMON_TIERS if name == "common" else ENGINE_TIERS)
    assert not found, "\n".join(found)


def test_plugins_import_downward_only() -> None:
    found = upward(graph(PLUGINS), plugin, PLUGIN_TIERS)
    assert not found, "\n".join(found)


# Alembic runs it as a file, without a package that a relative import could start from.
BY_PATH = "migrations/env.py"


def test_own_packages_are_imported_relatively() -> None:
    found = [place for place in absolute(SERVICES, ("distcloud",)) if BY_PATH not in place]
    found += absolute(PLUGINS, ("ansible_collections.hep.distcloud",))
    assert not found, "write these relatively: " + ", ".join(found)


def test_type_names_are_unique() -> None:
    places: dict[str, list[str]] = {}
    for path in SERVICES.rglob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(SERVICES)))
    assert not {name: found for name, found in places.items() if len(found) > 1}


def test_graph_sees_the_tree() -> None:
    assert len(modules(SERVICES)) > 50 and len(modules(PLUGINS)) > 30
    assert any(graph(PLUGINS).values()) and cycle({("a",): {("b",)}, ("b",): {("a",)}})
    assert upward({("a", "x"): {("b", "y")}}, service, [{"a"}, {"b"}]) == ["a.x -> b.y"]
