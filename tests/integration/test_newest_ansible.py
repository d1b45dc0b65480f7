"""The newest ansible-core that is supported, on Debian 13's Python: the plugins' tests and `ansible-test sanity`, in a lab host.

The control node of the other tests has an older Python that this release does not support.
"""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Iterator

import pytest
from lab_access import SUDO
from own_lab import ROOT, Machine

CORE = "2.21.5"
LAB, NETWORK, BRIDGE = "newesttest", "10.208.0.0/24", "dclabn0"
PLACE, PYTHON = "/root/distcloud", "/root/venv/bin/python"

pytestmark = pytest.mark.skipif(
    subprocess.run([*SUDO, "true"], capture_output=True, check=False).returncode != 0, reason="needs root or passwordless sudo"
)


def checkout() -> bytes:
    """A tar file of the checkout with uncommitted changes and the wheel; `constraints.txt` pins everything except Ansible."""
    names = subprocess.run(["git", "-c", f"safe.directory={ROOT}", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    wheels = [str(path.relative_to(ROOT)) for path in ROOT.glob("roles/engine/files/distcloud-*.whl")]
    pins = "".join((ROOT / "requirements" / name).read_text("utf-8") for name in ("control.txt", "test.txt"))
    # Without hashes: pip wants all of them or none, and the wheel of this checkout has none.
    constraints = "\n".join(re.findall(r"(?m)^(?!ansible(?:-core)?==)[\w.-]+==[^\\\n]*", pins)).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in [*names.stdout.splitlines(), *wheels]:
            if (ROOT / name).exists():
                archive.add(ROOT / name, name, recursive=False)
        entry = tarfile.TarInfo("constraints.txt")
        entry.size = len(constraints)
        archive.addfile(entry, io.BytesIO(constraints))
    return out.getvalue()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("lab"), LAB, NETWORK, BRIDGE, {"newest": {"image": "central"}})
    try:
        machine.play("lab")
        machine.guest("newest", f"mkdir {PLACE} && tar -C {PLACE} -x", stdin=checkout())
        tools = f"ansible-core=={CORE} htcondor hypothesis openstacksdk packaging pytest pytest-xdist requests-mock"
        install = f"/root/venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt {tools} roles/engine/files/*.whl"
        machine.guest("newest", f"cd {PLACE} && python3 -m venv /root/venv && {install}", timeout=600)
        yield machine
    finally:
        machine.play("lab_down")


def test_expected_ansible_version_is_installed(machine: Machine) -> None:
    output = machine.guest("newest", "/root/venv/bin/ansible --version")
    assert f"[core {CORE}]" in output and "python version = 3.13" in output


def test_unit_tests_pass(machine: Machine) -> None:
    output = machine.guest("newest", f"cd {PLACE} && {PYTHON} -m pytest -q -n 2 tests/unit 2>&1", timeout=900)
    print(output[-300:])
    assert re.search(r"\d{3,} passed", output) and "failed" not in output, output[-3000:]


def test_sanity_passes_without_ignore_file(machine: Machine) -> None:
    machine.guest("newest", f"cd {PLACE} && mkdir -p build && {PYTHON} tests/sanity.py 2>&1", timeout=1500)
