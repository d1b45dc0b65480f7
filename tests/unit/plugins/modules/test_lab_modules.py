# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the lab's modules refuse before they change the machine; tests/integration runs them on real hosts."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hep.distcloud.plugins.module_utils._lab import image, outer
from ansible_collections.hep.distcloud.plugins.modules import lab_hosts, lab_images, lab_network
from lab_access import is_gone
from module_harness import run_module


@pytest.fixture
def bake_by(tmp_path, monkeypatch):
    """Installs a script that bakes in place of unshare and what that starts; locks are in tmp_path / "locks"."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setattr(outer, "LOCKS", str(tmp_path / "locks"))
    monkeypatch.setattr(outer, "ENVIRONMENT", {"PATH": f"{programs}:/usr/bin:/bin"})

    def install(script):
        (programs / "unshare").write_text(script)
        (programs / "unshare").chmod(0o755)

    return install


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("module", [lab_hosts.LabHosts, lab_network.LabNetwork])
@pytest.mark.parametrize("name", ["", "../up", "Site", "a" * 21, "line\n"])
def test_invalid_lab_name_is_refused_before_locking(module, name, check, tmp_path, monkeypatch):
    monkeypatch.setattr(outer, "LOCKS", str(tmp_path))
    result = run_module(module, {"lab": name, "state": "absent"}, check=check)
    assert result.failed and result.data["failure"]["code"] == "invalid"
    assert result.data["msg"].startswith(f"lab: {name!r}")
    assert not list(tmp_path.iterdir())


def test_known_hosts_are_written_under_the_lock(tmp_path, monkeypatch):
    """Concurrent runs (a scenario starts its hosts while the lab is started again) must not remove each other's lines."""
    state, caller = tmp_path / "state", tmp_path / "caller"
    key = "ssh-ed25519 AAAA central"
    (state / "site" / "hosts" / "central" / "keys").mkdir(parents=True)
    caller.mkdir()
    monkeypatch.setattr(outer, "STATE", str(state))
    monkeypatch.setattr(outer, "LOCKS", str(tmp_path))
    record = {"address": "10.203.0.10", "image": "base", "aliases": []}
    monkeypatch.setattr(outer, "host_records", lambda lab: {"central": record})
    monkeypatch.setattr(lab_hosts.nspawn, "host_keys", lambda lab, name: {"public": key, "private": "", "machine_id": ""})
    spec = {"lab": "site", "state": "absent", "hosts": {}, "known_hosts": str(caller / "known_hosts")}

    checked = run_module(lab_hosts.LabHosts, spec, check=True)
    assert checked.data["changed"] and not list(caller.iterdir())
    done = run_module(lab_hosts.LabHosts, spec)
    assert done.data["changed"] and done.data["diff"] == checked.data["diff"]
    assert (caller / "known_hosts").read_text() == "central,central.invalid,10.203.0.10 ssh-ed25519 AAAA\n"
    assert (caller / "known_hosts").stat().st_mode & 0o777 == 0o644
    assert not run_module(lab_hosts.LabHosts, spec).data["changed"]
    assert not run_module(lab_hosts.LabHosts, spec | {"known_hosts": str(tmp_path / "nowhere" / "known_hosts")}).data["changed"]


def test_proxy_password_is_hidden(tmp_path):
    params = {"images": {}, "cache": str(tmp_path), "proxies": {"http_proxy": "http://me:verysecretword@proxy.example.org:3128"}}
    result = run_module(lab_images.LabImages, params, check=True)
    assert not result.failed and "Invoked with" in result.logged
    assert "proxy.example.org" not in result.raw + result.logged


def test_concurrent_bake_is_not_purged(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setattr(outer, "LOCKS", str(tmp_path / "locks"))
    monkeypatch.setattr(outer, "lab_records", list)
    for entry in (".bake-0f3a/root", ".bake-77aa/root", "33bb/root"):
        (cache / entry).mkdir(parents=True)
    (cache / "bake-base-0f3a.log").write_text("")
    spec = {"images": {}, "cache": str(cache), "purge": True}

    def purge(check=False):
        result = run_module(lab_images.LabImages, spec, check=check)
        assert not result.failed
        return [path.removeprefix(str(cache) + "/") for path in result.data["diff"]["before"].split()]

    with outer.locked("bake-0f3a", 60):
        assert purge(check=True) == purge() == [".bake-77aa", "33bb"]
        assert sorted(path.name for path in cache.iterdir()) == [".bake-0f3a", "bake-base-0f3a.log"]
        assert purge() == []
    assert purge(check=True) == purge() == [".bake-0f3a", "bake-base-0f3a.log"]
    assert not cache.exists()


def test_bake_timeout_is_reported_and_kills_everything(bake_by, tmp_path):
    """Its children, whose parent alone would be killed, would go on writing into the tree that the next run recreates."""
    cache, child = tmp_path / "cache", tmp_path / "child"
    bake_by(f"#!/bin/sh\nsleep 600 &\necho $! > {child}.new\nmv {child}.new {child}\nwait\n")
    params = {"images": {"small": {}}, "mirror": "http://mirror.example.org/debian", "cache": str(cache)}
    for patience in (2, 60):  # on a stalled machine the timeout may pass before the child exists
        result = run_module(lab_images.LabImages, dict(params, timeout=patience))
        if child.exists():
            break
    assert result.failed and result.data["failure"]["code"] == "timeout" and "lab_host_bake_timeout" in result.data["msg"]
    assert is_gone(child.read_text().strip())
    assert not list((tmp_path / "locks").iterdir())


def test_concurrent_bakes_have_separate_logs(bake_by, tmp_path, monkeypatch):
    """With a shared log the first to finish would remove it, and the second would fail after its tree is finished."""
    cache = tmp_path / "cache"
    bake_by('#!/bin/sh\ncase "$*" in *broken*) echo "E: $*"; exit 100;; esac\n')

    def bake(*packages):
        spec = {"images": {"small": {"packages": list(packages)}}, "mirror": "http://mirror.example.org/debian", "cache": str(cache)}
        return run_module(lab_images.LabImages, spec)

    others = []

    def finish(tree, of, trusted):
        if "slow" in of["packages"]:
            others.extend([bake("broken"), bake("quick")])

    monkeypatch.setattr(image, "finish", finish)
    slow = bake("slow")
    broken, quick = others
    assert slow.changed and not slow.failed and quick.changed and not quick.failed
    assert sorted(cache.glob("*/root")) == sorted(Path(result.data["trees"]["small"]) for result in (slow, quick))
    log = Path(broken.data["failure"]["details"]["log"])
    assert broken.failed and list(cache.glob("*.log")) == [log] and "broken" in log.read_text()


def test_purged_log_does_not_invalidate_tree(bake_by, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    bake_by("#!/bin/sh\n")
    monkeypatch.setattr(image, "finish", lambda *_: [path.unlink() for path in cache.glob("*.log")])
    result = run_module(lab_images.LabImages, {"images": {"small": {}}, "mirror": "http://m.example.org/debian", "cache": str(cache)})
    assert not result.failed and Path(result.data["trees"]["small"]).is_dir()
