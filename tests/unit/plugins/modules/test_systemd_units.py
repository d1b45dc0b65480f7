# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module systemd_units against a stand-in for systemctl that keeps its units in a file."""

from __future__ import annotations

import json
import os
import sys
import time

import pytest
from ansible_collections.hep.distcloud.plugins.modules import systemd_units
from module_harness import run_module

# What is on disk and not read yet is under "disk": the unit's enablement, or null where its file has gone.
SYSTEMCTL = """#!%s
import datetime, json, os, sys, time
path = %r
state = json.load(open(path))
words = sys.argv[1:]
state["calls"].append(words)
units, disk = state["units"], state["disk"]
code = 0
if words[0] == "show":
    for name in words[4:]:
        unit = units.get(name)
        print("Id=" + name)
        print("LoadState=" + ("loaded" if unit else "not-found"))
        if unit:
            print("UnitFileState=" + unit["file"])
            print("ActiveState=" + unit["active"])
            print("NeedDaemonReload=" + ("yes" if name in disk else "no"))
            print("CanReload=" + unit.get("can_reload", "no"))
            print("MainPID=" + unit.get("pid", "1"))
            for key, at in unit["times"].items():
                shown = datetime.datetime.fromtimestamp(at, datetime.timezone.utc)
                print(key + "Timestamp=" + shown.strftime("%%a %%Y-%%m-%%d %%H:%%M:%%S.%%f UTC"))
        print()
elif words[0] == "daemon-reload":
    for name, file in disk.items():
        if file is None:
            units.pop(name, None)
        else:
            units.setdefault(name, {"active": "inactive", "times": {}})["file"] = file
    state["disk"] = {}
elif words[0] == "is-enabled":
    file = disk[words[1]] if words[1] in disk else units.get(words[1], {}).get("file")
    code = 0 if file in ("enabled", "static") else 1
    print(file) if file else sys.stderr.write("Failed to get unit file state for %%s: No such file or directory" %% words[1])
elif words[0] == "is-active":
    code = 0 if units[words[2]]["active"] == "active" else 3
elif words[0] in ("start", "restart", "stop", "enable", "disable", "reload-or-restart"):
    for name in words[1:]:
        unit = units[name]
        time.sleep(unit.get("slow", 0))
        if unit.get("broken"):
            code = "it does not start"
        elif words[0] in ("enable", "disable"):
            unit["file"] = words[0] + "d"
        else:
            unit["active"] = "inactive" if words[0] == "stop" else "active"
            reloaded = words[0] == "reload-or-restart" and unit.get("can_reload") == "yes"
            keys = ["StateChange"] if reloaded else ["ExecMainStart", "InactiveExit", "ActiveEnter", "StateChange"]
            unit["times"].update(dict.fromkeys(keys, time.time()))
json.dump(state, open(path, "w"))
sys.exit(code)
"""


class Systemd:
    """State of the stand-in."""

    def __init__(self, folder):
        self.path = folder / "state.json"
        self.write({"units": {}, "disk": {}, "calls": []})

    def write(self, state):
        self.path.write_text(json.dumps(state))

    def read(self):
        return json.loads(self.path.read_text())

    def add(self, name, file="enabled", active="active", since=None, **more):
        state = self.read()
        since = time.time() if since is None else since
        times = dict.fromkeys(("ExecMainStart", "InactiveExit", "ActiveEnter", "StateChange"), since)
        state["units"][name] = dict(file=file, active=active, times=times, **more)
        self.write(state)

    def put(self, name, file):
        """Write or remove a unit's file without a daemon-reload."""
        self.write(dict(self.read(), disk={name: file}))

    def verbs(self):
        return [(call[0], call[1:]) for call in self.read()["calls"] if call[0] in systemd_units.VERBS.values()]


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    known = Systemd(tmp_path)
    for name, text in (("systemctl", SYSTEMCTL % (sys.executable, str(known.path))), ("journalctl", "#!/bin/sh\necho the last words\n")):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return known


def call(*units, **options):
    more = options.pop("more", {})
    return run_module(systemd_units.SystemdUnits, dict({"units": list(units)}, **more), **options)


def test_units_are_enabled_and_started_together(systemd):
    systemd.add("a.service", file="disabled", active="inactive")
    systemd.add("b.service", active="failed")
    systemd.add("c.service")
    units = [{"name": "a"}, {"name": "b"}, {"name": "c.service"}]
    checked = call(*units, check=True)
    assert checked.data["units"] == {"a.service": ["enable", "start"], "b.service": ["start"]} and systemd.verbs() == []
    assert call(*units).data["units"] == checked.data["units"]
    assert systemd.verbs() == [("enable", ["a.service"]), ("start", ["a.service", "b.service"])]
    assert not call(*units).changed


def test_unit_older_than_its_file_is_restarted_once(systemd, tmp_path):
    path = tmp_path / "a.conf"
    path.write_text("x")
    systemd.add("a.service", since=1)
    unit = {"name": "a", "files": [str(path), str(tmp_path / "missing")]}
    assert call(unit, check=True).data["units"] == {"a.service": ["restart"]}
    assert call(unit).data["units"] == {"a.service": ["restart"]}
    assert not call(unit).changed


@pytest.mark.parametrize(
    ("linked", "age", "outdated"),
    [("directory", 10, False), ("directory", -10, True), ("old", 10, False), ("old", -10, True), ("new", 10, True), ("missing", 10, False)],
)
def test_link_counts_with_the_file_it_points_to(systemd, tmp_path, linked, age, outdated):
    (tmp_path / "directory").mkdir()
    started = time.time() + 60
    for name, at in (("old", started - 10), ("new", started + 10), ("directory", started + 10)):
        (tmp_path / name).touch() if name != "directory" else None
        os.utime(tmp_path / name, (at, at))
    link = tmp_path / "link"
    link.symlink_to(tmp_path / linked)
    os.utime(link, (started - age, started - age), follow_symlinks=False)
    systemd.add("a.service", since=started)
    assert call({"name": "a", "files": [str(link)]}, check=True).changed == outdated


def test_outdated_unit_is_reloaded_once(systemd, tmp_path):
    path = tmp_path / "a.pem"
    path.write_text("x")
    for name, can_reload in (("a", "yes"), ("b", "no")):
        systemd.add(f"{name}.service", file="disabled", since=1, can_reload=can_reload)
    units = [{"name": name, "state": "current", "files": [str(path)], "reload": True} for name in ("a", "b")]
    expected = {"a.service": ["reload"], "b.service": ["reload"]}
    assert call(*units, check=True).data["units"] == expected and systemd.verbs() == []
    assert call(*units).data["units"] == expected
    assert systemd.verbs() == [("reload-or-restart", ["a.service", "b.service"])]
    assert not call(*units).changed
    # A reload does not count for a unit that reads its files only at its start.
    assert call(dict(units[0], reload=False), check=True).data["units"] == {"a.service": ["restart"]}


def test_current_leaves_stopped_and_missing_units_alone(systemd, tmp_path):
    path = tmp_path / "a.pem"
    path.write_text("x")
    systemd.add("a.service", file="disabled", active="failed", since=1)
    units = [{"name": name, "state": "current", "files": [str(path)]} for name in ("a", "missing")]
    assert not call(*units, more={"changed_files": [str(path)]}, check=True).changed
    assert not call(*units).changed


def test_unit_without_a_process_counts_from_its_activation(systemd, tmp_path):
    path = tmp_path / "a.socket.conf"
    path.write_text("x")
    systemd.add("a.socket", since=1, pid="0")
    assert call({"name": "a.socket", "files": [str(path)]}).data["units"] == {"a.socket": ["restart"]}


EARLY, LATE = "Mon 2026-03-02 10:00:00.250000 UTC", "Mon 2026-03-02 10:00:09.000000 UTC"
BEGAN = 1772445600_250_000


@pytest.mark.parametrize(
    ("shown", "reload", "read"),
    [
        ({"MainPID": "7", "ExecMainStartTimestamp": EARLY, "InactiveExitTimestamp": LATE}, False, BEGAN),
        ({"MainPID": "0", "ExecMainStartTimestamp": EARLY, "InactiveExitTimestamp": LATE}, False, BEGAN + 8_750_000),
        ({"MainPID": "0", "ActiveEnterTimestamp": EARLY, "StateChangeTimestamp": LATE}, False, BEGAN),
        ({"MainPID": "0", "ActiveEnterTimestamp": EARLY, "StateChangeTimestamp": LATE, "CanReload": "yes"}, True, BEGAN + 8_750_000),
        ({"MainPID": "7", "ExecMainStartTimestamp": EARLY, "ActiveEnterTimestamp": LATE, "StateChangeTimestamp": LATE}, True, BEGAN),
        ({"MainPID": "0"}, True, None),
    ],
)
def test_files_are_read_at_start_and_reload(shown, reload, read):
    assert systemd_units.last_read({"ActiveState": "active", **shown}, reload) == read


@pytest.mark.parametrize(("later", "outdated"), [(-1, False), (0, False), (1, True)])
def test_one_microsecond_decides(systemd, tmp_path, later, outdated):
    path = tmp_path / "file"
    path.touch()
    os.utime(path, ns=(0, (BEGAN + later) * 1000))
    systemd.add("a.service", since=BEGAN / 1e6)
    assert call({"name": "a", "files": [str(path)]}, check=True).changed == outdated


def test_check_mode_uses_predictions_of_earlier_tasks(systemd, tmp_path):
    path = tmp_path / "a.conf"
    path.write_text("x")
    os.utime(path, (1, 1))
    systemd.add("a.service")
    unit, more = {"name": "a", "files": [str(path)]}, {"changed_files": [str(path)]}
    assert call(unit, check=True, more=more).data["units"] == {"a.service": ["restart"]}
    assert not call(unit, more=more).changed


def test_stop_and_disable(systemd):
    systemd.add("a.service")
    unit = {"name": "a", "state": "stopped", "enabled": False}
    assert call(unit).data["units"] == {"a.service": ["disable", "stop"]}
    assert not call(unit).changed
    assert not call({"name": "unknown", "state": "stopped", "enabled": False}).changed


def test_missing_unit_is_named(systemd):
    result = call({"name": "nothing"})
    assert result.failed and "nothing.service" in result.data["msg"]


def test_predicted_unit_file_counts_as_present(systemd):
    more = {"changed_files": ["/etc/systemd/system/new.service"]}
    assert call({"name": "new"}, check=True, more=more).data["units"] == {"new.service": ["enable", "start"]}


@pytest.mark.parametrize(
    ("known", "on_disk", "done"),
    [
        (None, "disabled", ["enable", "start"]),
        (None, "enabled", ["start"]),
        (None, "static", ["start"]),
        (None, None, None),
        ("disabled", "enabled", []),
        ("enabled", "disabled", ["enable"]),
        ("static", "disabled", ["enable"]),
        ("disabled", "static", []),
        ("enabled", None, None),
    ],
)
def test_check_mode_predicts_a_reload_without_reloading(systemd, known, on_disk, done):
    if known:
        systemd.add("a.service", file=known)
    systemd.put("a.service", on_disk)
    before = systemd.read()
    checked = call({"name": "a"}, check=True)
    after = systemd.read()
    assert {words[0] for words in after.pop("calls")} == {"show", "is-enabled"}
    assert after == {key: before[key] for key in after}

    result = call({"name": "a"})
    assert checked.failed == result.failed == (done is None)
    if done is None:
        assert checked.data["msg"] == result.data["msg"] and "unit a.service does not exist" in result.data["msg"]
    else:
        assert checked.data["units"] == result.data["units"] == ({"a.service": done} if done else {})
        assert checked.data["diff"] == result.data["diff"] and not call({"name": "a"}).changed


def test_failed_start_reports_the_journal(systemd):
    systemd.add("a.service", active="inactive", broken=True)
    result = call({"name": "a"})
    assert result.failed and "it does not start" in result.data["msg"]


def test_failure_names_units_with_their_last_log_lines(systemd):
    systemd.add("a.service", active="inactive")
    systemd.add("b.service", active="inactive", broken=True)
    result = call({"name": "a"}, {"name": "b"})
    assert result.failed and result.data["msg"] == "systemctl start b.service failed: it does not start"
    assert result.data["failure"]["details"]["units"] == {"b.service": "the last words\n"}
    systemd.add("c.service", file="disabled", broken=True)
    assert call({"name": "c"}).data["msg"] == "systemctl enable c.service failed: it does not start"


def test_timeout_is_reported(systemd):
    systemd.add("a.service", active="inactive", slow=600)
    for patience in (2, 60):  # on a stalled machine the timeout may pass before the start
        result = call({"name": "a"}, more={"timeout": patience})
        assert result.failed
        if "show" not in result.data["msg"]:
            break
    assert result.data["msg"] == f"systemctl start a.service was not finished within {patience} s"
    assert result.data["failure"]["code"] == 124
    assert result.data["failure"]["details"]["units"] == {"a.service": "the last words\n"}
