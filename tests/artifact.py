"""Builds the collection's artifact and installs it outside of any checkout: its playbooks, roles and modules must be listed, documented
and run from there, and ansible-builder must find its requirements."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
sys.path.insert(0, str(ROOT / "tests" / "support" / "sites"))
FORBIDDEN = (".venv/", "services/", "build/", ".git/", ".collections/")


def build(out: Path) -> Path:
    command = [BIN / "ansible-galaxy", "collection", "build", "--force", "--output-path", out, ROOT]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (artifact,) = out.glob("hep-distcloud-*.tar.gz")
    return artifact


def check(artifact: Path) -> None:
    with tarfile.open(artifact) as archive:
        names = archive.getnames()
    strays = [name for name in names if name.startswith(FORBIDDEN)]
    assert not strays, f"in the artifact, but not meant to be: {strays[:5]}"
    assert any(name.startswith("roles/engine/files/distcloud-") and name.endswith(".whl") for name in names), "the wheel is missing"


def try_installed(artifact: Path, home: Path) -> None:
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

    call("ansible-galaxy", "collection", "install", "--offline", "--no-deps", "--collections-path", collections, artifact)
    listed = call("ansible-doc", "--list", "hep.distcloud")
    for module in sorted((ROOT / "plugins" / "modules").glob("*.py")):
        name = f"hep.distcloud.{module.stem}"
        assert name in listed, f"{name} is not listed"
    call("ansible-doc", "--type", "role", "--list", "hep.distcloud")
    playbook = home / "try.yml"
    playbook.write_text(
        "- hosts: localhost\n  gather_facts: true\n  tasks:\n"
        "    - ansible.builtin.include_role: {name: hep.distcloud.engine, tasks_from: preflight}\n"
        "    - ansible.builtin.assert: {that: '__engine_release is defined'}\n",
        "utf-8",
    )
    call("ansible-playbook", "-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}", playbook)
    try_module(home, call)
    try_playbook(collections / "ansible_collections" / "hep" / "distcloud", home, environment)
    try_metadata(call("ansible-builder", "introspect", collections), collections)


def try_module(home: Path, call: Callable[..., str]) -> None:
    """One module, by its full name: what it says it did, it did."""
    path = home / "clouds.yaml"
    entry = {"auth": {"auth_url": "https://region.example.org:5000/v3", "username": "admin", "password": "made up"}}
    arguments = json.dumps({"path": str(path), "name": "region-admin", "entry": entry})
    for word in ("CHANGED", "SUCCESS"):
        output = call("ansible", "localhost", "-o", "-m", "hep.distcloud.clouds_yaml", "-a", arguments)
        assert f"| {word} =>" in output, output
        assert "made up" not in output, "a password is shown"
    assert yaml.safe_load(path.read_text("utf-8")) == {"clouds": {"region-admin": entry}}


def try_playbook(collection: Path, home: Path, environment: Mapping[str, str]) -> None:
    """As docs/first_site.md has it: the example's inventory, filled in, passes `hep.distcloud.validate`, and a fault in it is named."""
    from example_site import Site

    place = home / "site"
    place.mkdir()
    site = Site(place, collection / "inventories" / "example", {**environment, "HOME": str(place)}, "hep.distcloud.validate")
    code, output = site.validate()
    assert code == 0 and "failed=0" in output, output
    (site.state / "clouds.yaml").chmod(0o644)
    code, output = site.validate()
    assert code != 0 and "chmod 600" in output, output


def try_metadata(requirements: str, collections: Path) -> None:
    """An execution environment gets what the control node runs with: the wheel of this collection, and versions that are pinned."""
    needs = yaml.safe_load(requirements)
    pins = [
        Requirement(line.rstrip(" \\"))
        for line in re.findall(r"(?m)^[\w.-]+==.*", (ROOT / "requirements" / "control.txt").read_text("utf-8"))
    ]
    pinned = {pin.name: next(iter(pin.specifier)).version for pin in pins if pin.marker is None or pin.marker.evaluate()}
    wanted = [Requirement(line.partition("  # from")[0]) for line in needs["python"]]
    assert {one.name for one in wanted} == {"cryptography", "distcloud", "openstacksdk"}, needs
    for one in wanted:
        if one.url:
            path = one.url.partition("/collections/")[2]
            assert (collections / path).is_file(), f"the execution environment is printed of {path}, which the collection lacks"
        else:
            assert one.specifier.contains(pinned[one.name]), f"{one} does not allow {pinned[one.name]}, which control.txt pins"
    assert needs["system"], "the execution environment is printed of no ssh client"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        out, home = Path(folder) / "out", Path(folder) / "home"
        out.mkdir()
        home.mkdir()
        artifact = build(out)
        check(artifact)
        try_installed(artifact, home)
        print(f"{artifact.name} ({artifact.stat().st_size / 1e3:.0f} kB) installs and works away from the checkout")


if __name__ == "__main__":
    main()
