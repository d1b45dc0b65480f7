"""A step is one command of a test layer; these functions make the kinds of steps there are."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "build" / "tests"
BIN = Path(sys.executable).parent
LAB = os.environ.get("DISTCLOUD_TEST_LAB", "test")
# Without the lab its tests fail; run by hand they are skipped.
LAB_ENVIRONMENT = {"DISTCLOUD_LAB": LAB, "DISTCLOUD_LAB_REQUIRED": "1"}


@dataclass(frozen=True)
class Step:
    """One command; `pytest` steps are counted by their own report, others as one test."""

    name: str
    command: list[str]
    pytest: bool = False
    minutes: float = 20  # the step is stopped when it takes longer
    budget: float | None = None  # minutes that it should take on a machine of reference speed
    environment: dict[str, str] = field(default_factory=dict)
    needed: bool = False  # the rest of its layer depends on it
    always: bool = False  # runs even when a needed step failed
    show: str = ""  # lines of its log that match this expression are repeated in the closing lines


@dataclass
class Count:
    """Tests passed, failed and skipped, and lines to repeat at the end of the run."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    why: list[str] = field(default_factory=list)  # lines that explain failures
    notes: list[str] = field(default_factory=list)  # results worth repeating

    def add(self, other: Count) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.why += other.why
        self.notes += other.notes

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed" + (f", {self.skipped} skipped" if self.skipped else "")


def pytest_step(
    name: str,
    *arguments: str,
    minutes: float = 20,
    budget: float | None = None,
    environment: Mapping[str, str] | None = None,
    show: str = "",
) -> Step:
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={LOGS / f'{name}.xml'}", *arguments]
    return Step(name, command, pytest=True, minutes=minutes, budget=budget, environment=dict(environment or {}), show=show)


def repeating(name: str) -> dict[str, str]:
    """The environment of a step whose failed tests are repeated once: tests/support/unsteady.py, and the file it writes."""
    path = os.pathsep.join(filter(None, [str(ROOT / "tests" / "support"), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "DISTCLOUD_UNSTEADY": str(LOGS / f"unsteady-{name}.json")}


def lab_tests(name: str, *files: str, minutes: float, budget: float | None = None, select: str = "") -> Step:
    """Tests on the running lab, all or those of a marker expression."""
    arguments = ["-p", "unsteady", *(["-m", select] if select else []), *(f"tests/integration/test_{file}.py" for file in files)]
    return pytest_step(name, *arguments, minutes=minutes, budget=budget, environment=LAB_ENVIRONMENT | repeating(name))


def script(name: str, *command: str, minutes: float = 20, budget: float | None = None) -> Step:
    return Step(name, [sys.executable, *command], minutes=minutes, budget=budget)


def tool(name: str, *arguments: str, budget: float | None = None) -> Step:
    return Step(name, [str(BIN / arguments[0]), *arguments[1:]], budget=budget)


def playbook(
    name: str, *arguments: str, minutes: float = 20, budget: float | None = None, needed: bool = False, always: bool = False
) -> Step:
    command = [str(BIN / "ansible-playbook"), *arguments]
    return Step(name, command, minutes=minutes, budget=budget, environment={"DISTCLOUD_LAB": LAB}, needed=needed, always=always)
