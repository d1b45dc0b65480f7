"""Runs the layers of tests, fast ones first, and closes with one line: N passed, N failed, N skipped.

`python tests/run.py all|fast|lint|docs|lab|long`. A layer is a list of steps; a step is a command. What a step
prints goes to build/tests/<step>.log; it is shown when the step fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "build" / "tests"
BIN = Path(sys.executable).parent
LAB = os.environ.get("DISTCLOUD_TEST_LAB", "test")


@dataclass(frozen=True)
class Step:
    """One command; `pytest` steps are counted by their own report, others as one test."""

    name: str
    command: list[str]
    pytest: bool = False
    minutes: float = 10
    environment: dict[str, str] = field(default_factory=dict)
    always: bool = False  # runs even when an earlier step of its layer failed


@dataclass
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other: Count) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed" + (f", {self.skipped} skipped" if self.skipped else "")


def pytest_step(name: str, *arguments: str, minutes: float = 10, environment: dict[str, str] | None = None) -> Step:
    report = LOGS / f"{name}.xml"
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
    return Step(name, command, pytest=True, minutes=minutes, environment=environment or {})


def script(name: str, path: str, minutes: float = 10) -> Step:
    return Step(name, [sys.executable, path], minutes=minutes)


def playbook(name: str, *arguments: str, minutes: float = 20, always: bool = False) -> Step:
    return Step(name, [str(BIN / "ansible-playbook"), *arguments], minutes=minutes, environment={"DISTCLOUD_LAB": LAB}, always=always)


LINT = [
    Step("ruff", [str(BIN / "ruff"), "check", "."]),
    Step("mypy", [str(BIN / "mypy")]),
    Step("yamllint", [str(BIN / "yamllint"), "--strict", "."]),
    Step("ansible-lint", [str(BIN / "ansible-lint"), "--offline", "--strict"]),
    Step("changelog", [str(BIN / "antsibull-changelog"), "lint"]),
]
DOCS = [script("docs", "tests/docs.py")]
UNIT = [
    pytest_step("engines", "services/tests", "-n", "2"),
    pytest_step("plugins", "tests/unit", "-n", "2"),
    pytest_step("house", "tests/house"),
]
ARTEFACT = [script("artefact", "tests/artefact.py"), script("sanity", "tests/sanity.py", minutes=20)]
LAB_ENVIRONMENT = {"DISTCLOUD_LAB": LAB, "DISTCLOUD_DRAIN_SECONDS": "20"}
# One lab, baked and booted once, carries all of these; what each proves stands in its first lines.
LAB_STEPS = [
    playbook("lab-up", "playbooks/lab.yml", minutes=25),
    playbook("site", "playbooks/site.yml", minutes=25),
    pytest_step("integration-site", "tests/integration/test_site.py", minutes=40, environment=LAB_ENVIRONMENT),
    playbook("lab-down", "playbooks/lab_down.yml", minutes=10, always=True),
]
LONG_STEPS = [
    pytest_step(
        "integration-lab",
        "tests/integration/test_lab_host.py",
        "tests/integration/test_lab_host_user.py",
        "tests/integration/test_lab_images.py",
        minutes=60,
        environment=LAB_ENVIRONMENT,
    ),
    *LAB_STEPS[:-1],
    pytest_step(
        "integration",
        *(
            f"tests/integration/test_{name}.py"
            for name in ("htcondor_refusals", "htcondor_jobs", "region", "scheduler_engine", "worker_image")
        ),
        minutes=90,
        environment=LAB_ENVIRONMENT | {"DISTCLOUD_DRAIN_SECONDS": "120"},
    ),
    LAB_STEPS[-1],
]

LAYERS: dict[str, list[tuple[list[Step], int]]] = {
    "lint": [(LINT, 2)],
    "docs": [(DOCS, 1)],
    "fast": [(UNIT, 1), (LINT, 2), (DOCS, 1), (ARTEFACT, 1)],
    "lab": [(LAB_STEPS, 1)],
    "long": [(LONG_STEPS, 1)],
}
LAYERS["all"] = LAYERS["fast"] + LAYERS["lab"]


async def run(step: Step) -> Count:
    log = LOGS / f"{step.name}.log"
    begin = time.monotonic()
    say(f"{step.name} ...")
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"} | step.environment
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *step.command, cwd=ROOT, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=asyncio.subprocess.STDOUT
        )
        try:
            code = await asyncio.wait_for(process.wait(), step.minutes * 60)
        except TimeoutError:
            process.kill()
            await process.wait()
            code = -1
            out.write(f"\nstopped: it took longer than {step.minutes:g} minutes\n".encode())
    count = _pytest_count(step, code) if step.pytest else Count(passed=int(code == 0), failed=int(code != 0))
    say(f"{step.name}: {count} ({time.monotonic() - begin:.0f} s)")
    if count.failed:
        tail = log.read_text("utf-8", "replace").splitlines()[-150:]
        say("\n".join(["", f"--- the end of build/tests/{log.name}", *tail, "---", ""]))
    return count


def _pytest_count(step: Step, code: int) -> Count:
    report = LOGS / f"{step.name}.xml"
    try:
        suite = ElementTree.parse(report).getroot().find("testsuite")
        assert suite is not None
        tests, bad, skipped = (int(suite.get(key, "0")) for key in ("tests", "failures", "skipped"))
        bad += int(suite.get("errors", "0"))
    except (OSError, ElementTree.ParseError, AssertionError):
        return Count(failed=1)
    if code not in (0, 5) and not bad:
        bad = 1
    return Count(passed=max(0, tests - bad - skipped), failed=bad, skipped=skipped)


async def layer(steps: list[Step], width: int) -> Count:
    """Run the steps, `width` at a time; one at a time means in order, and a failure ends the layer but for `always` steps."""
    total = Count()
    if width > 1:
        gate = asyncio.Semaphore(width)

        async def one(step: Step) -> Count:
            async with gate:
                return await run(step)

        for count in await asyncio.gather(*(one(step) for step in steps)):
            total.add(count)
        return total
    broken = False
    for step in steps:
        if broken and not step.always and steps in (LAB_STEPS, LONG_STEPS):
            say(f"{step.name}: left out, an earlier step failed")
            total.skipped += 1
            continue
        count = await run(step)
        broken = broken or bool(count.failed)
        total.add(count)
    return total


def say(text: str) -> None:
    print(text, flush=True)


def site_lab_is_up() -> bool:
    """Whether a person's own lab runs; the test lab takes its place on the machine meanwhile."""
    try:
        return bool(json.loads(Path("/var/lib/distcloud-lab/site/lab.json").read_text("utf-8")).get("up"))
    except (OSError, ValueError):
        return False


async def main(which: str) -> int:
    LOGS.mkdir(parents=True, exist_ok=True)
    for old in LOGS.glob("*.xml"):
        old.unlink()
    total = Count()
    give_back = LAB != "site" and which in ("all", "lab", "long") and site_lab_is_up()
    for steps, width in LAYERS[which]:
        total.add(await layer(steps, width))
    if give_back:
        total.add(
            await run(
                Step(
                    "site-lab-again",
                    [str(BIN / "ansible-playbook"), "playbooks/lab.yml"],
                    minutes=15,
                    environment={"DISTCLOUD_LAB": "site"},
                )
            )
        )
    say(str(total))
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in LAYERS:
        sys.exit(f"usage: python tests/run.py {'|'.join(LAYERS)}")
    sys.exit(asyncio.run(main(sys.argv[1])))
