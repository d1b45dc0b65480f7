"""The runner of the tests: it names every test there is, leaves no process of a step behind, and gives a person's own lab back."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lab_access import is_gone, wait

ROOT = Path(__file__).resolve().parents[2]
# The step's own child, its number in a file that is there only when it is whole, and a shell that waits for it.
LINGERING = "sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait"
Steps = Callable[..., tuple[int, list[Any]]]


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("distcloud_tests_run", ROOT / "tests" / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "LOGS", tmp_path)
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    return module


def test_every_test_and_scenario_stands_in_a_layer(runner: ModuleType) -> None:
    steps = [step for stages in runner.LAYERS.values() for stage in stages for lane in stage for step in lane]
    words = {word for step in steps for word in step.command}
    files = [str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "integration").glob("test_*.py")]
    scenarios = [path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")]
    assert [name for name in (*files, *scenarios) if name not in words] == []
    for step in steps:
        missing = [word for word in step.command if word.startswith(("tests/", "playbooks/")) and not (ROOT / word).exists()]
        assert not missing, f"step {step.name} names {missing}"


def test_a_failure_is_told_again_by_its_last_telling_lines(runner: ModuleType) -> None:
    log = [
        "TASK [x]",
        "ok: [a]",
        *(f'fatal: [b]: FAILED! => {{"msg": "{n}"}}' for n in range(9)),
        "E   assert 1 == 2",
        "FAILED tests/a.py - " + "x" * 900,
    ]
    told = runner.telling(log, most=3, width=40)
    assert told == ['    fatal: [b]: FAILED! => {"msg": "8"}', "    E   assert 1 == 2", "    FAILED tests/a.py - " + "x" * 20]
    assert runner.telling(["PLAY RECAP", "a : ok=1 failed=0"]) == []


def test_a_step_that_takes_too_long_goes_with_its_children(runner: ModuleType, tmp_path: Path) -> None:
    for minutes in (0.01, 1):  # on a machine that stands still the time may be over before the child is there
        step = runner.Step("long", ["sh", "-c", LINGERING.format(tmp_path / "child")], minutes=minutes)
        count = asyncio.run(runner.run(step))
        if (tmp_path / "child").exists():
            break
    assert count.failed == 1
    assert f"stopped: it took longer than {minutes:g} minutes" in (tmp_path / "long.log").read_text()
    assert is_gone(child_of(tmp_path))


def test_a_step_that_is_interrupted_while_it_starts_goes_with_its_children(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[asyncio.Task[Any]] = []

    class Interrupted(subprocess.Popen[bytes]):
        """The interruption comes when the command has begun a child and before asyncio has handed the command over."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            wait("its child runs", (tmp_path / "child").exists, 60, 0.02)
            tasks[0].cancel()

    monkeypatch.setattr(subprocess, "Popen", Interrupted)

    async def interrupted() -> None:
        tasks.append(asyncio.create_task(runner.run(runner.Step("cut", ["sh", "-c", LINGERING.format(tmp_path / "child")]))))
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]

    asyncio.run(interrupted())
    assert is_gone(child_of(tmp_path))


def test_an_interrupted_run_takes_its_steps_along(runner: ModuleType, tmp_path: Path) -> None:
    async def interrupted() -> None:
        # A shell that does not listen to the polite request.
        step = runner.Step("cut", ["sh", "-c", "trap '' TERM; " + LINGERING.format(tmp_path / "child")])
        task = asyncio.create_task(runner.run(step))
        await asyncio.to_thread(wait, "its child runs", (tmp_path / "child").exists, 60, 0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    assert is_gone(child_of(tmp_path))


def test_a_second_interruption_ends_the_patience_and_leaves_nothing(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PATIENCE", 600.0)

    async def interrupted() -> None:
        step = runner.Step("cut", ["sh", "-c", "trap '' TERM; " + LINGERING.format(tmp_path / "child")])
        task = asyncio.create_task(runner.run(step))
        await asyncio.to_thread(wait, "its child runs", (tmp_path / "child").exists, 60, 0.02)
        task.cancel()
        await asyncio.sleep(0.5)  # the second comes within the patience of the first
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    assert is_gone(child_of(tmp_path))


def test_the_layers_with_a_lab_refuse_at_once_without_roots_rights(runner: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
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
            return runner.Count(failed=1) if step.name == failing else runner.Count(passed=1)

        monkeypatch.setattr(runner, "run", run)
        return asyncio.run(runner.main(which)), ran

    return steps


@pytest.mark.parametrize("failing", ["", "lab-up", "site", "lab-down", "site-lab-again"])
@pytest.mark.parametrize("which", ["all", "lab", "long"])
def test_a_persons_own_lab_is_brought_back_last_whatever_failed(runner: ModuleType, steps: Steps, which: str, failing: str) -> None:
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
def test_no_lab_is_brought_back_that_was_not_up_or_is_not_in_the_way(
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


def child_of(folder: Path) -> int:
    return int((folder / "child").read_text())
