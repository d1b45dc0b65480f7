"""Real bakes of a small tree in a separate cache: interrupted, concurrent, unchanged, purged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PACKAGES = ["systemd-sysv", "dbus", "openssh-server", "ca-certificates", "sudo", "cron"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="bakes as root")


def begin(cache: Path, **options: Any) -> subprocess.Popen[str]:
    variables = {"images": {"small": {"disabled_units": ["cron*"]}}, "packages": PACKAGES, "cache": str(cache)} | options
    return subprocess.Popen(
        [BIN / "ansible", "localhost", "-m", "hep.distcloud.lab_images", "-a", json.dumps(variables), "-o"],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str]) -> dict[str, Any]:
    output = process.communicate(timeout=900)[0]
    assert process.returncode == 0, output
    found: dict[str, Any] = json.JSONDecoder().raw_decode(output, output.index("{"))[0]
    return found


def test_bakes_survive_interruption_and_concurrency(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    interrupted = begin(cache)
    deadline = time.monotonic() + 300
    while not list(cache.glob(".bake-*/root/var/cache/apt/archives/*.deb")) and time.monotonic() < deadline:
        assert interrupted.poll() is None, interrupted.communicate()[0]
        time.sleep(0.1)
    # The module itself dies; mmdebstrap lives on as an orphan, and still has the lock that it inherited.
    name = next(cache.glob(".bake-*")).name[len(".bake-") :]
    os.kill(int(Path(f"/run/lock/distcloud-lab-bake-{name}.lock").read_text()), signal.SIGKILL)
    interrupted.communicate()
    assert interrupted.returncode != 0
    assert not [path for path in cache.iterdir() if path.is_dir() and not path.name.startswith(".bake-")]

    results = [end(process) for process in (begin(cache), begin(cache))]
    assert sorted(result["seconds"]["small"] > 0 for result in results) == [False, True], "both runs baked, or neither"
    trees = [path for path in cache.iterdir() if path.is_dir()]
    assert [str(path / "root") for path in trees] == [results[0]["trees"]["small"]]

    tree = trees[0] / "root"
    assert not list((tree / "etc/ssh").glob("ssh_host_*")), "hosts must not share keys"
    assert (tree / "etc/machine-id").read_text() == ""
    enabled = {path.name for path in (tree / "etc/systemd/system").glob("*.wants/*")}
    assert {"ssh.service", "systemd-networkd.service"} <= enabled and "cron.service" not in enabled
    outer = Path("/etc/ssl/certs/ca-certificates.crt").read_text()
    inner = (tree / "etc/ssl/certs/ca-certificates.crt").read_text()
    missing = [block for block in outer.split("-----END CERTIFICATE-----") if block.strip() and block.strip() not in inner]
    assert not missing, f"{len(missing)} authorities of the outer machine are not trusted in the tree"

    assert end(begin(cache))["changed"] is False
    assert end(begin(cache, images={}, purge=True))["changed"] is True
    assert not cache.exists()
