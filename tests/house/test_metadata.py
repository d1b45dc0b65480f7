"""One version, license headers that name an existing file, and unique names of test helpers."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import yaml

import distcloud

ROOT = Path(__file__).resolve().parents[2]
TRACKED = [
    path
    for name in subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    if (path := ROOT / name).is_file() and path.suffix not in {".png", ".svg"} and "LICENSE" not in name
]


def test_version_has_one_source() -> None:
    """`galaxy.yml` is the source; the package, and file names in docs and requirements, follow it."""
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text("utf-8"))["version"]
    assert distcloud.__version__ == version, "services/src/distcloud/__init__.py has another version than galaxy.yml"
    for path in TRACKED:
        for found in re.findall(r"\bdistcloud-(\d+\.\d+\.\d+[\w.]*?)(?=-py3|\.tar\.gz)", path.read_text("utf-8")):
            assert found == version, f"{path.relative_to(ROOT)} names version {found}; galaxy.yml has {version}"


def test_license_headers_name_a_file_that_exists() -> None:
    for path in TRACKED:
        for line in path.read_text("utf-8").splitlines()[:6]:
            if found := re.match(r"# (?:GNU )?General Public License.*\(see (\S+) or https://www\.gnu\.org/licenses/gpl-3\.0\.txt\)", line):
                assert (ROOT / found[1]).is_file(), f"{path.relative_to(ROOT)}: its header names {found[1]}, which does not exist"


def test_helpers_of_tests_have_unique_names() -> None:
    """One `pytest` at the root collects everything; helpers are imported by name from the folders in pytest.ini."""
    line = re.search(r"(?m)^pythonpath =((?:.*\n)(?:    .*\n)*)", (ROOT / "pytest.ini").read_text("utf-8"))
    assert line
    folders = line[1].split()
    assert not [folder for folder in folders if not (ROOT / folder).is_dir()], "pytest.ini names folders that do not exist"
    names = Counter(
        path.stem for folder in folders for path in (ROOT / folder).glob("*.py") if not path.stem.startswith(("test_", "conftest", "__"))
    )
    assert not [name for name, number in names.items() if number > 1], "two helpers have the same name"
