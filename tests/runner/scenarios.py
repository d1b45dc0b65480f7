"""Finds the Molecule scenarios and turns the `scenario.yml` of each into steps.

`molecule/NAME/scenario.yml` has these keys; docs/testing.md describes them for authors of scenarios:

lane: `lab` (right after the lab is up) or `roles` (beside the tests of the site; the default)
needs: names of scenarios of the same lane that must run before this one
test, long: how it runs in `make test` and in `make test-long`; without the key it does not run there. Each has `budget` (minutes on a
    machine of reference speed), `timeout` (minutes), `pytest` (further arguments) and `environment`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .steps import BIN, LAB, LOGS, ROOT, Step, repeating

LANES = ("lab", "roles")
# Tests marked `long` are left to `make test-long`.
SELECTION = {"test": "-m 'not long'", "long": ""}


@dataclass(frozen=True)
class Run:
    """How a scenario runs in one of the layers."""

    budget: float
    timeout: float = 30
    pytest: str = ""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """The metadata of one scenario."""

    name: str
    lane: str = "roles"
    needs: tuple[str, ...] = ()
    test: Run | None = None
    long: Run | None = None

    def run(self, layer: str) -> Run | None:
        return self.test if layer == "test" else self.long


def load(path: Path) -> Scenario:
    """Read a `scenario.yml`; raises ValueError that names the file and the key."""
    content: dict[str, Any] = yaml.safe_load(path.read_text("utf-8")) or {}
    try:
        runs = {layer: Run(**content.pop(layer)) for layer in ("test", "long") if layer in content}
        scenario = Scenario(path.parent.name, needs=tuple(content.pop("needs", ())), **runs, **content)
    except TypeError as error:
        raise ValueError(f"{path}: {error}; the keys are described in tests/runner/scenarios.py") from None
    if scenario.lane not in LANES:
        raise ValueError(f"{path}: lane {scenario.lane!r} is unknown; use one of {', '.join(LANES)}")
    if not runs:
        raise ValueError(f"{path}: neither `test` nor `long` is set; the scenario would never run")
    return scenario


def discover(folder: Path = ROOT / "molecule") -> list[Scenario]:
    """All scenarios; one without a `scenario.yml` is an error."""
    return [load(path.with_name("scenario.yml")) for path in sorted(folder.glob("*/molecule.yml"))]


def ordered(scenarios: Iterable[Scenario], layer: str) -> list[Scenario]:
    """Those of a layer, the shortest budget first, none before one that it needs."""

    def budget(scenario: Scenario) -> tuple[float, str]:
        run = scenario.run(layer)
        assert run is not None
        return run.budget, scenario.name

    waiting = sorted((one for one in scenarios if one.run(layer)), key=budget)
    done: list[Scenario] = []
    while waiting:
        names = {one.name for one in waiting}
        free = next((one for one in waiting if not names & set(one.needs)), None)
        if free is None:
            raise ValueError(f"scenarios need each other in a circle: {', '.join(sorted(names))}")
        waiting.remove(free)
        done.append(free)
    return done


def steps(layer: str, lane: str) -> list[Step]:
    """The steps of the scenarios of a lane in a layer (`test` or `long`), in their order."""
    return [_step(one, layer) for one in ordered(discover(), layer) if one.lane == lane]


def _step(scenario: Scenario, layer: str) -> Step:
    """`molecule test` on hosts of its own in the test lab; its testinfra tests are counted."""
    run = scenario.run(layer)
    assert run is not None
    name = f"molecule-{scenario.name}"
    options = ["-p unsteady", f"--junitxml={LOGS / f'{name}.xml'}", SELECTION[layer], run.pytest]
    environment = {"DISTCLOUD_LAB": LAB, "PYTEST_ADDOPTS": " ".join(filter(None, options))} | repeating(name)
    command = [str(BIN / "molecule"), "test", "--scenario-name", scenario.name]
    return Step(name, command, pytest=True, minutes=run.timeout, budget=run.budget, environment=environment | run.environment)
