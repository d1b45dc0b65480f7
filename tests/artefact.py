"""Builds the collection's artefact and installs it where no checkout is on any path: it must list, document and run from there."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
FORBIDDEN = (".venv/", "services/", "build/", ".git/", ".collections/")


def build(out: Path) -> Path:
    command = [BIN / "ansible-galaxy", "collection", "build", "--force", "--output-path", out, ROOT]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (artefact,) = out.glob("hep-distcloud-*.tar.gz")
    return artefact


def check(artefact: Path) -> None:
    with tarfile.open(artefact) as archive:
        names = archive.getnames()
    strays = [name for name in names if name.startswith(FORBIDDEN)]
    assert not strays, f"in the artefact, but not meant to be: {strays[:5]}"
    assert any(name.startswith("roles/distcloud/files/distcloud-") and name.endswith(".whl") for name in names), "the wheel is missing"


def try_installed(artefact: Path, home: Path) -> None:
    """Install into an empty folder and use it with no configuration of the checkout."""
    collections = home / "collections"
    (home / "ansible.cfg").touch()
    environment = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "ANSIBLE_CONFIG": str(home / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
    }

    def call(*command: str | Path) -> str:
        done = subprocess.run([BIN / command[0], *command[1:]], cwd=home, env=environment, text=True, capture_output=True, check=False)
        if done.returncode:
            raise SystemExit(f"{command[0]} {command[1:]} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    call("ansible-galaxy", "collection", "install", "--offline", "--no-deps", "--collections-path", collections, artefact)
    listed = call("ansible-doc", "--list", "hep.distcloud")
    for module in sorted((ROOT / "plugins" / "modules").glob("*.py")):
        name = f"hep.distcloud.{module.stem}"
        assert name in listed, f"{name} is not listed"
    call("ansible-doc", "--type", "role", "--list", "hep.distcloud")
    playbook = home / "try.yml"
    playbook.write_text(
        "- hosts: localhost\n  gather_facts: true\n  tasks:\n"
        "    - ansible.builtin.include_role: {name: hep.distcloud.distcloud, tasks_from: preflight}\n"
        "    - ansible.builtin.assert: {that: '__distcloud_release is defined'}\n",
        "utf-8",
    )
    call("ansible-playbook", "-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}", playbook)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        out, home = Path(folder) / "out", Path(folder) / "home"
        out.mkdir()
        home.mkdir()
        artefact = build(out)
        check(artefact)
        try_installed(artefact, home)
        print(f"{artefact.name} ({artefact.stat().st_size / 1e3:.0f} kB) installs and works away from the checkout")


if __name__ == "__main__":
    main()
