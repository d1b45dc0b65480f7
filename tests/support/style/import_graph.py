"""The import graph of a Python tree, from its relative imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

Module = tuple[str, ...]
Graph = Mapping[Module, set[Module]]


def modules(root: Path) -> dict[Module, Path]:
    """Modules below a directory, by relative path."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[parts[:-1] if parts[-1] == "__init__" else parts] = path
    return found


def imports(path: Path) -> Iterator[ast.Import | ast.ImportFrom]:
    """All imports of a file except those for type checkers only."""
    tree = ast.parse(path.read_text("utf-8"))
    typing = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in typing:
            yield node


def graph(root: Path) -> dict[Module, set[Module]]:
    """Which module imports which of the same tree."""
    known = modules(root)
    found: dict[Module, set[Module]] = {}
    for module, path in known.items():
        package = module if path.name == "__init__.py" else module[:-1]
        targets = found[module] = set()
        for node in imports(path):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = package[: len(package) - node.level + 1] + tuple((node.module or "").split(".") if node.module else ())
                targets |= {full if (full := (*base, alias.name)) in known else base for alias in node.names}
        targets.discard(module)
    return found


def cycle(graph: Graph) -> list[Module]:
    """One import cycle, or an empty list."""
    state: dict[Module, bool] = {}  # False while the module is on the way, True when it is done

    def visit(module: Module, way: list[Module]) -> list[Module]:
        state[module] = False
        for target in sorted(graph.get(module, ())):
            if state.get(target) is False:
                return [*way[way.index(target) :], target]
            if target not in state and (found := visit(target, [*way, target])):
                return found
        state[module] = True
        return []

    for module in sorted(graph):
        if module not in state and (found := visit(module, [module])):
            return found
    return []


def absolute(root: Path, names: tuple[str, ...]) -> list[str]:
    """Absolute imports of the tree's own package, as `file:line`."""
    found = []
    for path in modules(root).values():
        for node in imports(path):
            targets = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            if not getattr(node, "level", 0) and any(
                target == name or target.startswith(f"{name}.") for target in targets for name in names
            ):
                found.append(f"{path.relative_to(root)}:{node.lineno}")
    return found
