"""Role engine: a release that is built by any root can be used by the engine's user, and counts as complete only after that was tried."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles" / "engine"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, because the role's files belong to root")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that other users may enter, unlike pytest's own; with a copy of the role without requirements, and an empty wheel."""
    with tempfile.TemporaryDirectory(prefix="distcloud-engine-") as name:
        path = Path(name)
        path.chmod(0o755)
        shutil.copytree(ROLE, path / "roles" / "engine", ignore=shutil.ignore_patterns("*.whl"))
        (path / "roles/engine/files/requirements-engine.txt").write_text("# none\n")
        with zipfile.ZipFile(path / "distcloud-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("distcloud/__init__.py", "")
            wheel.writestr("distcloud-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: distcloud\nVersion: 1\n")
            wheel.writestr("distcloud-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr("distcloud-1.dist-info/RECORD", "distcloud/__init__.py,,\ndistcloud-1.dist-info/RECORD,,\n")
        yield path


def build(folder: Path, **environment: str) -> None:
    values = {
        "engine_wheel": f"{folder}/distcloud-1-py3-none-any.whl",
        "engine_wheelhouse": "",
        "__engine_python": "/usr/bin/python3",
        "__engine_release": "00aa",
        "__engine_releases": f"{folder}/releases",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
    }
    tasks = [{"ansible.builtin.include_role": {"name": "engine", "tasks_from": "release"}, "vars": values}]
    play = folder / "play.yml"
    play.write_text(yaml.safe_dump([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]))
    done = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", str(play)],
        env={**os.environ, "ANSIBLE_ROLES_PATH": f"{folder}/roles", **environment},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.umask(0o077) and None,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_release_is_usable_despite_umask_and_pip_configuration(folder: Path) -> None:
    half = folder / "releases" / "00aa" / "venv" / "bin"
    half.mkdir(parents=True)
    (half / "pip").touch()  # an interrupted build
    build(folder, PIP_USER="1", PYTHONUSERBASE=str(folder / "home"))
    command = ["runuser", "-u", "nobody", "--", f"{half}/python", "-E", "-c", "import distcloud; print(distcloud.__file__)"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"{folder}/releases/00aa/venv/"), done.stderr
    assert not (folder / "home").exists()


def test_release_counts_as_complete_after_the_import_check() -> None:
    tasks = yaml.safe_load((ROLE / "tasks" / "prepare.yml").read_text("utf-8"))
    names = [task["name"] for task in tasks[-1]["block"]]
    built, checked, marked = map(
        names.index, ("Build the release", "Check that the engine's modules can be imported", "Mark the release as complete")
    )
    assert built < checked < marked
    assert "Mark the release" not in (ROLE / "tasks" / "release.yml").read_text("utf-8")
