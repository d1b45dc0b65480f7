"""Resolves requirements/*.in and the engines' own dependencies into pinned lists with hashes, by `uv pip compile`; nothing is installed.

Versions that are pinned already stay; `--upgrade` takes the newest. One list fits every Python that it is for: where a version depends on
the Python, the line has a marker.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVICES = HERE.parent / "services" / "pyproject.toml"
ENGINE = HERE.parent / "roles" / "engine" / "files" / "requirements-engine.txt"
# The oldest Python of a control node (Debian 12), and that of the engines' hosts (Debian 13).
CONTROL = ["--universal", "--python-version", "3.11"]
HOSTS = ["--python-version", "3.13", "--python-platform", "x86_64-manylinux_2_28", "--only-binary", ":all:"]


def resolve(target: Path, source: str, *arguments: str | Path) -> None:
    """Write the pins of `arguments` with the hashes of all their files."""
    options = ["--quiet", "--generate-hashes", "--no-annotate", "--no-header", "--no-emit-package", "distcloud"]
    command = [sys.executable, "-m", "uv", "pip", "compile", *options, *sys.argv[1:], *arguments, "--output-file", target]
    subprocess.run(command, check=True, cwd=HERE)
    target.write_text(f"# Made by `make requirements` from {source}: do not edit.\n" + target.read_text())


def names(text: str) -> set[str]:
    return set(re.findall(r"(?m)^([\w.-]+)==", text))


def main() -> None:
    control, test = HERE / "control.txt", HERE / "test.txt"
    resolve(control, "control.in", *CONTROL, "control.in", SERVICES)
    resolve(test, "test.in", *CONTROL, "test.in", "--constraints", control)
    # What the control node has already is not listed twice.
    known = names(control.read_text())
    entries = re.split(r"(?m)^(?=[\w.-]+==)", test.read_text())
    test.write_text(entries[0] + "".join(entry for entry in entries[1:] if not names(entry) & known))
    resolve(ENGINE, "services/pyproject.toml", *HOSTS, SERVICES)


if __name__ == "__main__":
    main()
