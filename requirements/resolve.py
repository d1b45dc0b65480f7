"""Resolves requirements/*.in and the engines' own dependencies into pinned lists, with pip's own resolver and nothing installed."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVICES = HERE.parent / "services"
ENGINE = HERE.parent / "roles" / "distcloud" / "files" / "requirements-engine.txt"
# The hosts of the engines (Debian 13); when pip resolves for another Python, it accepts only wheels.
HOSTS = ["--python-version", "3.13", "--implementation", "cp", "--only-binary", ":all:", "--target", "nowhere"]
HOSTS += [f"--platform={tag}_x86_64" for tag in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")]


def resolve(arguments: list[str]) -> dict[str, str]:
    """Answer {name: version} of everything that pip would install."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", report.name]
        subprocess.run([*command, *arguments], check=True, cwd=HERE)
        found = json.loads(Path(report.name).read_text())["install"]
    return {entry["metadata"]["name"]: entry["metadata"]["version"] for entry in found if entry["metadata"]["name"] != "distcloud"}


def write(path: Path, source: str, pins: dict[str, str]) -> None:
    lines = [f"# Made by `make requirements` from {source}: do not edit.", *(f"{key}=={pins[key]}" for key in sorted(pins, key=str.lower))]
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    control = resolve(["-r", "control.in", str(SERVICES)])
    write(HERE / "control.txt", "control.in", control)
    test = resolve(["-r", "test.in", "-r", "control.txt"])
    write(HERE / "test.txt", "test.in", {name: version for name, version in test.items() if name not in control})
    engine = resolve([*HOSTS, *tomllib.loads((SERVICES / "pyproject.toml").read_text())["project"]["dependencies"]])
    write(ENGINE, "services/pyproject.toml", engine)


if __name__ == "__main__":
    main()
