"""The test runner: every test is in a layer, no process of a step is left behind, unsteady tests are counted, a person's lab comes back."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from lab_access import is_gone, wait
from runner import execute, scenarios
from runner.layers import LAYERS
from runner.steps import Count, Step

ROOT = Path(__file__).resolve().parents[2]
# The step's own child, its number in a file that is there only when it is whole, and a shell that waits for it.
LINGERING = "sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait"
Steps = Callable[..., tuple[int, list[Any]]]


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(execute, "LOGS", tmp_path)
    monkeypatch.setattr(execute, "PATIENCE", 1.0)
    return execute


def test_every_test_and_scenario_is_in_a_layer() -> None:
    steps = [step for stages in LAYERS.values() for stage in stages for lane in stage for step in lane]
    words = {word for step in steps for word in step.command}
    files = [str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "integration").glob("test_*.py")]
    scenarios = [path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")]
    assert [name for name in (*files, *scenarios) if name not in words] == []
    for step in steps:
        missing = [word for word in step.command if word.startswith(("tests/", "playbooks/")) and not (ROOT / word).exists()]
        assert not missing, f"step {step.name} names {missing}"


def test_failure_is_repeated_by_its_explaining_lines(runner: ModuleType) -> None:
    log = [
        "TASK [x]",
        "ok: [a]",
        *(f'fatal: [b]: FAILED! => {{"msg": "{n}"}}' for n in range(9)),
        "E   assert 1 == 2",
        "FAILED tests/a.py - " + "x" * 900,
    ]
    found = runner.explaining(log, most=3, width=40)
    assert found == ['    fatal: [b]: FAILED! => {"msg": "8"}', "    E   assert 1 == 2", "    FAILED tests/a.py - " + "x" * 20]
    assert runner.explaining(["PLAY RECAP", "a : ok=1 failed=0"]) == []


def test_overlong_step_goes_with_its_children(runner: ModuleType, tmp_path: Path) -> None:
    for minutes in (0.01, 1):  # on a machine that stands still the time may be over before the child is there
        step = Step("long", ["sh", "-c", LINGERING.format(tmp_path / "child")], minutes=minutes)
        count = asyncio.run(runner.run(step))
        if (tmp_path / "child").exists():
            break
    assert count.failed == 1
    assert f"stopped: it took longer than {minutes:g} minutes" in (tmp_path / "long.log").read_text()
    assert is_gone(child_of(tmp_path))


def test_step_interrupted_at_start_goes_with_its_children(runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks: list[asyncio.Task[Any]] = []

    class Interrupted(subprocess.Popen[bytes]):
        """The interruption comes when the command has begun a child and before asyncio has handed the command over."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            wait("its child runs", (tmp_path / "child").exists, 60, 0.02)
            tasks[0].cancel()

    monkeypatch.setattr(subprocess, "Popen", Interrupted)

    async def interrupted() -> None:
        tasks.append(asyncio.create_task(runner.run(Step("cut", ["sh", "-c", LINGERING.format(tmp_path / "child")]))))
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]

    asyncio.run(interrupted())
    assert is_gone(child_of(tmp_path))


def test_an_interrupted_run_takes_its_steps_along(runner: ModuleType, tmp_path: Path) -> None:
    async def interrupted() -> None:
        # A shell that does not listen to the polite request.
        step = Step("cut", ["sh", "-c", "trap '' TERM; " + LINGERING.format(tmp_path / "child")])
        task = asyncio.create_task(runner.run(step))
        await asyncio.to_thread(wait, "its child runs", (tmp_path / "child").exists, 60, 0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    assert is_gone(child_of(tmp_path))


def test_second_interruption_ends_patience_and_leaves_nothing(runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "PATIENCE", 600.0)

    async def interrupted() -> None:
        step = Step("cut", ["sh", "-c", "trap '' TERM; " + LINGERING.format(tmp_path / "child")])
        task = asyncio.create_task(runner.run(step))
        await asyncio.to_thread(wait, "its child runs", (tmp_path / "child").exists, 60, 0.02)
        task.cancel()
        await asyncio.sleep(0.5)  # the second comes within the patience of the first
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    assert is_gone(child_of(tmp_path))


def test_layers_with_a_lab_refuse_without_root(runner: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for code, words in ((0, ""), (1, "sudo without a password")):
        monkeypatch.setattr(subprocess, "run", lambda command, code=code, **_: subprocess.CompletedProcess(command, code))
        assert words in runner.rights() and bool(runner.rights()) == bool(words)


@pytest.fixture
def steps(runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Runs a layer whose steps do nothing but end well or badly; the exit code, and the steps in their order."""
    monkeypatch.setattr(runner, "SITE_LAB", tmp_path / "lab.json")
    monkeypatch.setattr(runner, "LAB", "test")

    def steps(which: str, failing: str = "") -> tuple[int, list[Any]]:
        ran: list[Any] = []

        async def run(step: Any) -> Any:
            ran.append(step)
            if step.name == "lab-up" and runner.SITE_LAB.exists():
                runner.SITE_LAB.write_text('{"up": false}')  # the lab of the tests takes its place
            return Count(failed=1) if step.name == failing else Count(passed=1)

        monkeypatch.setattr(runner, "run", run)
        return asyncio.run(runner.main(which)), ran

    return steps


@pytest.mark.parametrize("failing", ["", "lab-up", "site", "lab-down", "site-lab-again"])
@pytest.mark.parametrize("which", ["all", "lab", "long"])
def test_own_lab_is_brought_back_last_whatever_failed(runner: ModuleType, steps: Steps, which: str, failing: str) -> None:
    runner.SITE_LAB.write_text('{"up": true}')
    code, ran = steps(which, failing)
    assert [step.name for step in ran].index("site-lab-again") == len(ran) - 1
    assert "playbooks/lab.yml" in ran[-1].command and ran[-1].environment == {"DISTCLOUD_LAB": "site"}
    assert code == bool(failing)


@pytest.mark.parametrize(
    ("which", "lab", "record"),
    [
        *(("lab", "test", record) for record in (None, "", '{"up": false}', "{}")),
        *((which, "test", '{"up": true}') for which in ("fast", "lint", "docs")),
        ("lab", "site", '{"up": true}'),  # the tests run on it, as their caller said, and take it away
    ],
)
def test_lab_down_or_elsewhere_is_not_brought_back(
    runner: ModuleType,
    steps: Steps,
    monkeypatch: pytest.MonkeyPatch,
    which: str,
    lab: str,
    record: str | None,
) -> None:
    monkeypatch.setattr(runner, "LAB", lab)
    if record is not None:
        runner.SITE_LAB.write_text(record)
    code, ran = steps(which)
    assert code == 0 and ran and "site-lab-again" not in [step.name for step in ran]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("test: {budget: 1}\nlanes: roles", "lanes"),
        ("test: {minutes: 1}", "minutes"),
        ("test: {budget: 1}\nlane: elsewhere", "lane 'elsewhere' is unknown"),
        ("lane: lab", "would never run"),
    ],
)
def test_invalid_scenario_metadata_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "scenario.yml").write_text(content)
    with pytest.raises(ValueError, match=message):
        scenarios.load(tmp_path / "scenario.yml")


def test_scenarios_run_shortest_first_after_what_they_need(tmp_path: Path) -> None:
    for name, content in {
        "a": {"test": {"budget": 1}, "needs": ["b"]},
        "b": {"test": {"budget": 3}},
        "c": {"test": {"budget": 2}},
        "d": {"long": {"budget": 1}},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "molecule.yml").touch()
        (tmp_path / name / "scenario.yml").write_text(yaml.safe_dump(content))
    assert [one.name for one in scenarios.ordered(scenarios.discover(tmp_path), "test")] == ["c", "b", "a"]


@pytest.mark.parametrize(("number", "failed"), [(0, 0), (2, 0), (3, 1)])
def test_more_than_two_unsteady_tests_fail_the_run(runner: ModuleType, tmp_path: Path, number: int, failed: int) -> None:
    (tmp_path / "unsteady-site.json").write_text(json.dumps([{"name": f"test_{n}", "failure": "E"} for n in range(number)]))
    count = runner.unsteady()
    assert (count.failed, count.notes) == (failed, [f"unsteady: test_{n}" for n in range(number)])
    assert len(json.loads((tmp_path / "unsteady.json").read_text())) == number


def child_of(folder: Path) -> int:
    return int((folder / "child").read_text())
