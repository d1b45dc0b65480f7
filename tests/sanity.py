"""Runs `ansible-test sanity` in the unpacked artifact, with no ignore file.

`ansible-test --venv` fetches a pip installer from a host that a closed network does not reach; a stand-in with the standard library's
own pip is placed in its cache, which has the same effect.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from artifact import BIN, ROOT, build

WORK = ROOT / "build" / "sanity"
HOME = WORK / "home"
STUB = """\
import os, subprocess, sys
wanted = [argument for argument in sys.argv[1:] if argument.startswith("pip==")] or ["pip"]
subprocess.check_call([sys.executable, "-m", "ensurepip", "--upgrade"])
subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted])
"""


def place_pip() -> None:
    """Put the stand-in under every name that this ansible-test would download."""
    spec = importlib.util.find_spec("ansible_test")
    assert spec is not None and spec.submodule_search_locations
    source = Path(next(iter(spec.submodule_search_locations))) / "_internal" / "python_requirements.py"
    cache = HOME / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for version in set(re.findall(r"pip='([0-9.]+)'", source.read_text("utf-8"))):
        (cache / f"get_pip_{version.replace('.', '_')}.py").write_text(STUB, "utf-8")


def unpack(folder: Path) -> Path:
    """Unpack the artifact where ansible-test expects it: below ansible_collections, and outside of any git checkout."""
    place = folder / "ansible_collections" / "hep" / "distcloud"
    place.mkdir(parents=True)
    shutil.unpack_archive(build(folder), place, "gztar")
    return place


def main() -> None:
    place_pip()
    (HOME / "ansible.cfg").touch()
    environment = os.environ | {"HOME": str(HOME), "ANSIBLE_CONFIG": str(HOME / "ansible.cfg"), "PATH": f"{BIN}:{os.environ['PATH']}"}
    environment.pop("ANSIBLE_COLLECTIONS_PATH", None)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    with tempfile.TemporaryDirectory() as folder:
        place = unpack(Path(folder))
        strays = list(place.glob("tests/sanity/ignore*.txt"))
        assert not strays, f"ignore files are not allowed: {strays}"
        command = [BIN / "ansible-test", "sanity", "--venv", "--python", python, "--color", "no"]
        sys.exit(subprocess.run(command, cwd=place, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
