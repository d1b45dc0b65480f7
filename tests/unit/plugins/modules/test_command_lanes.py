# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module command_lanes with real commands: once, again after a change, where it broke off, and nothing in check mode."""

from __future__ import annotations

from ansible_collections.hep.distcloud.plugins.modules import command_lanes
from harness import run_module


def call(folder, *commands, **options):
    return run_module(command_lanes.CommandLanes, {"state_dir": str(folder / "state"), "lanes": list(commands)}, **options)


def step(folder, name, lane="one", script="true", **more):
    return dict(lane=lane, name=name, argv=["sh", "-c", "echo %s >> %s; %s" % (name, folder / "ran", script)], **more)


def ran(folder):
    path = folder / "ran"
    return path.read_text().split() if path.exists() else []


def test_each_runs_once_in_the_order_of_its_lane(tmp_path):
    commands = [step(tmp_path, "a"), step(tmp_path, "b"), step(tmp_path, "c", lane="two")]
    checked = call(tmp_path, *commands, check=True)
    assert checked.changed and list(checked.data["ran"]) == ["a", "b", "c"] and ran(tmp_path) == []
    done = call(tmp_path, *commands)
    assert done.changed and sorted(ran(tmp_path)) == ["a", "b", "c"] and ran(tmp_path).index("a") < ran(tmp_path).index("b")
    again = call(tmp_path, *commands)
    assert not again.changed and again.data["ran"] == {}


def test_another_revision_or_environment_runs_it_again(tmp_path):
    call(tmp_path, step(tmp_path, "a", revision="1", environment={"WORD": "alpha-secret"}))
    assert call(tmp_path, step(tmp_path, "a", revision="2", environment={"WORD": "alpha-secret"})).changed
    other = call(tmp_path, step(tmp_path, "a", revision="2", environment={"WORD": "other-secret"}), diff=True)
    assert other.changed and "other-secret" not in other.raw


def test_a_failure_stops_the_lane_tells_the_log_and_is_tried_again(tmp_path):
    result = call(tmp_path, step(tmp_path, "a"), step(tmp_path, "b", script="echo why; exit 3"), step(tmp_path, "c"))
    assert result.failed and "b ended with code 3" in result.data["msg"] and "why" in result.data["msg"]
    assert ran(tmp_path) == ["a", "b"]
    assert call(tmp_path, step(tmp_path, "a"), step(tmp_path, "b"), step(tmp_path, "c")).changed
    assert ran(tmp_path) == ["a", "b", "b", "c"]


def test_what_takes_too_long_is_ended(tmp_path):
    params = {"state_dir": str(tmp_path / "state"), "timeout": 1, "lanes": [step(tmp_path, "a", script="sleep 30")]}
    result = run_module(command_lanes.CommandLanes, params)
    assert result.failed and "not finished after 1 s" in result.data["msg"]


def test_what_cannot_be_started_is_named(tmp_path):
    result = call(tmp_path, {"lane": "one", "name": "a", "argv": ["/no/such/program"]})
    assert result.failed and "a could not be started" in result.data["msg"]
