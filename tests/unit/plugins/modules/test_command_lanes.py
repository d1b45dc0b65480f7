# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module command_lanes with real commands: run once, again after a change, continue after a failure, nothing in check mode."""

from __future__ import annotations

import fcntl
import multiprocessing
import time

import pytest
from ansible_collections.hep.distcloud.plugins.modules import command_lanes
from lab_access import is_gone
from module_harness import run_module


def call(folder, *commands, **options):
    return run_module(command_lanes.CommandLanes, {"state_dir": str(folder / "state"), "lanes": list(commands)}, **options)


def step(folder, name, lane="one", script="true", **more):
    return dict(lane=lane, name=name, argv=["sh", "-c", f"echo {name} >> {folder / 'ran'}; {script}"], **more)


def ran(folder):
    path = folder / "ran"
    return path.read_text().split() if path.exists() else []


def test_each_command_runs_once_in_lane_order(tmp_path):
    commands = [step(tmp_path, "a"), step(tmp_path, "b"), step(tmp_path, "c", lane="two")]
    checked = call(tmp_path, *commands, check=True)
    assert checked.changed and list(checked.data["ran"]) == ["a", "b", "c"] and ran(tmp_path) == []
    done = call(tmp_path, *commands)
    assert done.changed and sorted(ran(tmp_path)) == ["a", "b", "c"] and ran(tmp_path).index("a") < ran(tmp_path).index("b")
    again = call(tmp_path, *commands)
    assert not again.changed and again.data["ran"] == {}


def test_another_revision_or_environment_runs_it_again(tmp_path):
    call(tmp_path, step(tmp_path, "a", revision="1", environment={"STRING": "alpha-secret"}))
    assert call(tmp_path, step(tmp_path, "a", revision="2", environment={"STRING": "alpha-secret"})).changed
    other = call(tmp_path, step(tmp_path, "a", revision="2", environment={"STRING": "other-secret"}), diff=True)
    assert other.changed and "other-secret" not in other.raw


def test_failure_stops_the_lane_and_is_retried(tmp_path):
    result = call(tmp_path, step(tmp_path, "a"), step(tmp_path, "b", script="echo why; exit 3"), step(tmp_path, "c"))
    assert result.failed and "b ended with code 3" in result.data["msg"] and "why" in result.data["msg"]
    assert ran(tmp_path) == ["a", "b"]
    assert call(tmp_path, step(tmp_path, "a"), step(tmp_path, "b"), step(tmp_path, "c")).changed
    assert ran(tmp_path) == ["a", "b", "b", "c"]


def test_command_fails_on_timeout(tmp_path):
    params = {"state_dir": str(tmp_path / "state"), "timeout": 1, "lanes": [step(tmp_path, "a", script="sleep 30")]}
    result = run_module(command_lanes.CommandLanes, params)
    assert result.failed and "not finished after 1 s" in result.data["msg"]


def test_timeout_kills_command_and_descendants(tmp_path):
    """If only the parent were killed, its children would run at the same time as the next run's command."""
    child = tmp_path / "child"
    command = step(tmp_path, "a", script=f"sleep 600 & echo $! > {child}.new; mv {child}.new {child}; wait")
    for patience in (2, 60):  # on a stalled machine the timeout may pass before the child exists
        result = run_module(command_lanes.CommandLanes, {"state_dir": str(tmp_path / "state"), "timeout": patience, "lanes": [command]})
        if child.exists():
            break
    assert result.failed and result.data["failure"]["code"] == "timeout"
    assert is_gone(child.read_text().strip())


def test_next_run_waits_for_command_of_killed_run(tmp_path):
    go = tmp_path / "go"
    command = step(tmp_path, "a", script=f"while [ ! -e {go} ]; do sleep 0.05; done")
    killed = multiprocessing.get_context("fork").Process(target=call, args=(tmp_path, command))
    killed.start()
    deadline = time.monotonic() + 60
    while not ran(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.kill()
    killed.join()
    try:
        params = {"state_dir": str(tmp_path / "state"), "timeout": 1, "lanes": [command]}
        result = run_module(command_lanes.CommandLanes, params)
        assert result.failed and result.data["failure"]["code"] == "locked" and str(tmp_path / "state") in result.data["msg"]
        assert not result.changed and ran(tmp_path) == ["a"]
    finally:
        go.touch()
    assert call(tmp_path, command).changed and ran(tmp_path) == ["a", "a"]


@pytest.mark.parametrize("more", [[], ["b"]])
def test_concurrent_run_skips_commands_already_done(tmp_path, monkeypatch, more):
    lock, first = fcntl.flock, []

    def flock(handle, how):
        if not first:
            first.append("begun")
            first.append(call(tmp_path, step(tmp_path, "a")))
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    second = call(tmp_path, *[step(tmp_path, name) for name in ["a", *more]])
    assert first[1].changed and ran(tmp_path) == ["a", *more]
    assert second.changed == bool(more) and list(second.data["ran"]) == more and not second.failed


def test_error_names_command_that_cannot_start(tmp_path):
    result = call(tmp_path, {"lane": "one", "name": "a", "argv": ["/no/such/program"]})
    assert result.failed and "a could not be started" in result.data["msg"]


def test_environment_may_repeat_module_variables(tmp_path):
    printed = tmp_path / "printed"
    command = step(tmp_path, "a", script=f'echo "$LC_ALL $NUMBER" > {printed}')
    assert call(tmp_path, command | {"environment": {"NUMBER": 7}}).changed and printed.read_text() == "C.UTF-8 7\n"
    result = call(tmp_path, command | {"environment": {"LC_ALL": "C"}})
    assert result.changed and not result.failed and printed.read_text() == "C \n"


def test_invalid_environment_fails_its_command(tmp_path):
    result = call(tmp_path, step(tmp_path, "a", environment={"A=B": "alpha-secret"}), step(tmp_path, "b"))
    assert result.failed and "a could not be started: illegal environment variable name" in result.data["msg"]
    assert result.data["failure"] == {"service": "command", "code": "start", "details": {}}
    assert ran(tmp_path) == [] and "alpha-secret" not in result.raw


def test_lane_error_is_reported_for_its_command(tmp_path):
    (tmp_path / "state" / "a.new").mkdir(parents=True)  # where the marker is written
    result = call(tmp_path, step(tmp_path, "a"), step(tmp_path, "b"))
    assert result.failed and "a was aborted: IsADirectoryError" in result.data["msg"]
    assert ran(tmp_path) == ["a"]


def test_unexpected_error_fails_its_command(tmp_path, monkeypatch):
    def broken(*words, **options):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(command_lanes, "run_in_group", broken)
    result = call(tmp_path, step(tmp_path, "a"), step(tmp_path, "b", lane="two"))
    assert result.failed and "was aborted: RuntimeError: can't start new thread" in result.data["msg"]
