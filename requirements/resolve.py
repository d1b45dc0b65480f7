"""Resolves requirements/*.in and the engines' own dependencies into pinned lists, with pip's own resolver and nothing installed."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVICES = HERE.parent / "services"


def resolve(arguments: list[str]) -> dict[str, str]:
    """Answer {name: version} of everything that pip would install."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", report.name]
        subprocess.run([*command, *arguments], check=True, cwd=HERE)
        found = json.loads(Path(report.name).read_text())["install"]
    return {entry["metadata"]["name"]: entry["metadata"]["version"] for entry in found if entry["metadata"]["name"] != "distcloud"}


def write(name: str, pins: dict[str, str]) -> None:
    lines = [f"# Made by `make requirements` from {name}.in: do not edit.", *(f"{key}=={pins[key]}" for key in sorted(pins, key=str.lower))]
    (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n")


def main() -> None:
    control = resolve(["-r", "control.in", str(SERVICES)])
    write("control", control)
    test = resolve(["-r", "test.in", "-r", "control.txt"])
    write("test", {name: version for name, version in test.items() if name not in control})


if __name__ == "__main__":
    main()
