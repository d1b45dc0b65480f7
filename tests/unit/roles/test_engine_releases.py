"""Role engine: the releases that processes use are found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jinja2
import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles" / "engine"
SCRIPT = yaml.safe_load((ROLE / "vars" / "main.yml").read_text("utf-8"))["__engine_find_used"]
# Keeps the file of its first argument mapped until its input ends.
PROCESS = """
import mmap, sys
with open(sys.argv.pop(1), "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
    print("ready", flush=True)
    sys.stdin.read()
"""


def used(releases: Path) -> set[str]:
    script = jinja2.Template(SCRIPT).render(__engine_releases=str(releases))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1, 2), done.stderr
    return {Path(line).name for line in done.stdout.splitlines()}


def test_releases_of_running_processes_are_found(tmp_path: Path) -> None:
    library = tmp_path / "0f1e" / "library.so"
    for name in ("0f1e", "a2b3", "c4d5"):
        (tmp_path / name).mkdir()
    library.write_text("text")
    assert used(tmp_path) == set()
    (tmp_path / "link").symlink_to(library.parent)
    # Started by a link, as /opt/distcloud/NAME is one: what is loaded names the release all the same.
    for path, expected in ((tmp_path / "link" / "library.so", {"0f1e"}), (ROLE / "vars" / "main.yml", {"a2b3"})):
        argv = [sys.executable, "-c", PROCESS, str(path)] + ([f"{tmp_path}/a2b3/venv/bin/python"] if expected == {"a2b3"} else [])
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            assert used(tmp_path) == expected
            process.communicate()
    assert used(tmp_path) == set()
