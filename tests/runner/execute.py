"""Runs the steps of a layer, ends what takes too long or is interrupted, counts the tests and writes the closing lines."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from . import speed
from .layers import LAYERS, ON_A_LAB, Stage
from .steps import BIN, LAB, LOGS, ROOT, Count, Step

SITE_LAB = Path("/var/lib/distcloud-lab/site/lab.json")  # the record of a person's own lab
PATIENCE = 10.0  # seconds that a step may take to end after the first signal
MOST_UNSTEADY = 2  # more unsteady tests than this fail the run


class Clock:
    """The machine's speed, and the minutes of each step beside its budget."""

    def __init__(self) -> None:
        self.speed = 1.0
        self.steps: list[dict[str, Any]] = []

    def note(self, step: Step, seconds: float) -> str:
        """Record a step; its minutes in words. Budgets are minutes at reference speed."""
        minutes, scaled = seconds / 60, seconds / 60 * self.speed
        self.steps.append({"step": step.name, "minutes": round(minutes, 2), "reference": round(scaled, 2), "budget": step.budget})
        if step.budget is None:
            return f"{minutes:.1f} min"
        over = ", over budget" if scaled > step.budget * 1.1 + 0.1 else ""
        return f"{minutes:.1f} min, at reference speed {scaled:.1f} of {step.budget:g}{over}"

    def save(self, path: Path, which: str, seconds: float) -> None:
        total = {"layer": which, "minutes": round(seconds / 60, 2), "speed": round(self.speed, 3), "steps": self.steps}
        path.write_text(json.dumps(total, indent=2) + "\n", "utf-8")


CLOCK = Clock()


async def run(step: Step) -> Count:
    log = LOGS / f"{step.name}.log"
    begin = time.monotonic()
    emit(f"{step.name} ...")
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"} | step.environment
    with log.open("wb") as out:
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *step.command,
                cwd=ROOT,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        )
        try:
            # Cancelled while it starts, asyncio would end the command alone and leave what the command began in the meantime.
            process = await asyncio.shield(starting)
            try:
                code = await asyncio.wait_for(process.wait(), step.minutes * 60)
            except TimeoutError:
                await end(process)
                code = -1
                out.write(f"\nstopped: it took longer than {step.minutes:g} minutes\n".encode())
        except asyncio.CancelledError:
            await end(await starting)
            raise
    count = _pytest_count(step, code) if step.pytest else Count(passed=int(code == 0), failed=int(code != 0))
    emit(f"{step.name}: {count} ({CLOCK.note(step, time.monotonic() - begin)})")
    lines = log.read_text("utf-8", "replace").splitlines()
    if step.show:
        count.notes = [f"{step.name}: {line}" for line in lines if re.search(step.show, line)]
    if count.failed:
        emit("\n".join(["", f"--- the end of build/tests/{log.name}", *lines[-150:], "---", ""]))
        count.why = [f"{step.name}:", *explaining(lines)]
    return count


async def end(process: asyncio.subprocess.Process) -> None:
    """End a step with all the processes of its group. SIGTERM first: Ansible alone knows its workers, which have sessions of their own."""
    with suppress(ProcessLookupError, PermissionError):  # nobody is left, or only what became root
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < deadline:
                await asyncio.sleep(0.1)
                os.killpg(process.pid, 0)
        finally:  # also when a second interruption ends the patience
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


EXPLAINING = re.compile(r"^(fatal|failed): \[|^E  |^(FAILED|ERROR|CRITICAL) |^stopped: |\b\w*Error: ")


def explaining(lines: Iterable[str], most: int = 8, width: int = 600) -> list[str]:
    """The last lines of a log that say why it failed, indented and cut to a width.

    They are repeated before the closing line: the end of a long run's output should say what to fix.
    """
    return [f"    {line[:width]}" for line in lines if EXPLAINING.search(line)][-most:]


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


async def layer(stages: list[Stage]) -> Count:
    """Run the stages in order and the lanes of each side by side; when a needed step fails, the steps after it are skipped."""
    total, broken = Count(), False
    for stage in stages:
        for count, whole in await asyncio.gather(*(lane(steps, broken) for steps in stage)):
            total.add(count)
            broken = broken or not whole
    return total


async def lane(steps: list[Step], broken: bool) -> tuple[Count, bool]:
    """Run the steps in order; the count, and whether all needed ones passed."""
    total = Count()
    for step in steps:
        if broken and not step.always:
            emit(f"{step.name}: skipped, an earlier step failed")
            total.skipped += 1
            continue
        count = await run(step)
        broken = broken or (step.needed and bool(count.failed))
        total.add(count)
    return total, not broken


def unsteady() -> Count:
    """The tests that passed only when they were repeated: one line each, and a failure when they are too many."""
    found: list[dict[str, Any]] = []
    for path in sorted(LOGS.glob("unsteady-*.json")):
        step = path.stem.removeprefix("unsteady-")
        found += [{"step": step} | entry for entry in json.loads(path.read_text("utf-8"))]
    (LOGS / "unsteady.json").write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    count = Count(notes=[f"unsteady: {entry['name']}" for entry in found])
    if len(found) > MOST_UNSTEADY:
        count.failed = 1
        count.why = [f"unsteady: {len(found)} tests passed only when repeated; at most {MOST_UNSTEADY} may"]
    return count


def emit(text: str) -> None:
    print(text, flush=True)


def site_lab_is_up() -> bool:
    """Whether a person's own lab runs; the test lab takes its place on the machine meanwhile."""
    try:
        return bool(json.loads(SITE_LAB.read_text("utf-8")).get("up"))
    except (OSError, ValueError):
        return False


def rights() -> str:
    """Why the layers that need a lab cannot run; empty where they can. A step has no terminal to ask for a password on."""
    if os.geteuid() == 0 or subprocess.run(["sudo", "-kn", "true"], capture_output=True, check=False).returncode == 0:
        return ""
    return "needs root, or sudo without a password: its steps have no terminal to ask on (`make test-fast` needs neither)"


async def main(which: str) -> int:
    task = asyncio.current_task()
    assert task is not None
    for ending in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(ending, task.cancel)
    LOGS.mkdir(parents=True, exist_ok=True)
    for pattern in ("*.xml", "outer-*.json", "unsteady*.json"):
        for old in LOGS.glob(pattern):
            old.unlink()
    begin = time.monotonic()
    CLOCK.speed = speed.factor()
    emit(f"machine: {CLOCK.speed:.2f} times the reference speed")
    total = Count()
    give_back = LAB != "site" and which in ON_A_LAB and site_lab_is_up()
    total.add(await layer(LAYERS[which]))
    total.add(unsteady())
    if give_back:
        command = [str(BIN / "ansible-playbook"), "playbooks/lab.yml"]
        total.add(await run(Step("site-lab-again", command, minutes=15, environment={"DISTCLOUD_LAB": "site"})))
    seconds = time.monotonic() - begin
    CLOCK.save(LOGS / "minutes.json", which, seconds)
    for line in (*total.why, *total.notes):
        emit(line)
    emit(f"{seconds / 60:.1f} min, at reference speed {seconds / 60 * CLOCK.speed:.1f}")
    emit(str(total))
    return 1 if total.failed or not total.passed else 0
