"""The pytest plugin that repeats a failed test on the lab once: what is repeated, what is not, what is reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
SUPPORT = Path(__file__).resolve().parents[1] / "support"
TESTS = """
import pytest

ran = []

@pytest.fixture(scope="module")
def shared():
    ran.append("shared")
    yield
    ran.append("shared ends")

@pytest.fixture
def own():
    ran.append("own")

@pytest.fixture(scope="module")
def broken():
    ran.append("broken")
    raise RuntimeError("first setup")

def fails(name, times=1):
    ran.append(name)
    assert ran.count(name) > times, "first failure"

def test_steady():
    pass

def test_unsteady(shared, own):
    fails("unsteady")

def test_failing():
    fails("failing", 2)

@pytest.mark.{marker}
def test_marked():
    fails("marked")

def test_broken(broken):
    pass

def test_in_order():
    assert ran == ["shared", "own", "unsteady", "own", "unsteady", "failing", "failing", "marked", "broken"]
"""


@pytest.mark.parametrize("marker", ["fault", "security", "leak"])
def test_failed_test_is_repeated_once(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, marker: str) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    monkeypatch.setenv("DISTCLOUD_UNSTEADY", str(pytester.path / "unsteady.json"))
    pytester.makepyfile(TESTS.replace("{marker}", marker))
    pytester.makeini("[pytest]\nmarkers =\n  fault\n  security\n  leak")
    result = pytester.runpytest_subprocess("-p", "unsteady", "--junitxml=report.xml")
    result.assert_outcomes(passed=3, failed=2, errors=1)
    result.stdout.fnmatch_lines(["*unsteady: *test_unsteady*", "*first failure*"])
    (found,) = json.loads((pytester.path / "unsteady.json").read_text())
    assert found["name"].endswith("::test_unsteady") and "first failure" in found["failure"]
    assert 'errors="1" failures="2" skipped="0" tests="6"' in (pytester.path / "report.xml").read_text()
