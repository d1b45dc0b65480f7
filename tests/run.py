"""Runs the layers of tests, fast ones first, and closes with one line: N passed, N failed, N skipped.

`python tests/run.py all|fast|lint|docs|lab|long`. A layer is a list of steps; a step is a command. What a step
prints goes to build/tests/<step>.log; it is shown when the step fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "build" / "tests"
BIN = Path(sys.executable).parent
LAB = os.environ.get("DISTCLOUD_TEST_LAB", "test")
SITE_LAB = Path("/var/lib/distcloud-lab/site/lab.json")  # the record of a person's own lab
PATIENCE = 10.0  # seconds that a step may take to end when it is told to


@dataclass(frozen=True)
class Step:
    """One command; `pytest` steps are counted by their own report, others as one test."""

    name: str
    command: list[str]
    pytest: bool = False
    minutes: float = 20
    environment: dict[str, str] = field(default_factory=dict)
    needed: bool = False  # what comes after it in its layer cannot go without it
    always: bool = False  # runs even when a needed step failed


@dataclass
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    why: list[str] = field(default_factory=list)  # the telling lines of what failed

    def add(self, other: Count) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.why += other.why

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed" + (f", {self.skipped} skipped" if self.skipped else "")


def pytest_step(name: str, *arguments: str, minutes: float = 20, environment: dict[str, str] | None = None) -> Step:
    report = LOGS / f"{name}.xml"
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
    return Step(name, command, pytest=True, minutes=minutes, environment=environment or {})


def script(name: str, *command: str, minutes: float = 20) -> Step:
    return Step(name, [sys.executable, *command], minutes=minutes)


def playbook(name: str, *arguments: str, minutes: float = 20, needed: bool = False, always: bool = False) -> Step:
    command = [str(BIN / "ansible-playbook"), *arguments]
    return Step(name, command, minutes=minutes, environment={"DISTCLOUD_LAB": LAB}, needed=needed, always=always)


def scenario(name: str, minutes: float = 30, *, tests: str = "", **environment: str) -> Step:
    """A Molecule scenario on hosts of its own in the test lab; counted are its testinfra tests, all or those of a pytest selection."""
    report = {"PYTEST_ADDOPTS": f"--junitxml={LOGS / f'molecule-{name}.xml'} {tests}"}
    command = [str(BIN / "molecule"), "test", "--scenario-name", name]
    return Step(f"molecule-{name}", command, pytest=True, minutes=minutes, environment={"DISTCLOUD_LAB": LAB} | report | environment)


STYLE = [
    Step("ruff", [str(BIN / "ruff"), "check", "."]),
    Step("yamllint", [str(BIN / "yamllint"), "--strict", "."]),
    Step("changelog", [str(BIN / "antsibull-changelog"), "lint"]),
    Step("mypy", [str(BIN / "mypy")]),
]
ANSIBLE_LINT = Step("ansible-lint", [str(BIN / "ansible-lint"), "--offline", "--strict"])
DOCS = script("docs", "tests/docs.py")
HOUSE = pytest_step("house", "tests/house")
UNIT = [
    # The crash tests are long and stand together: whoever has nothing left takes from the other's share.
    pytest_step("engines", "services/tests", "-n", "2", "--dist", "worksteal"),
    pytest_step("plugins", "tests/unit", "-n", "2"),
]
ARTEFACT = [script("artefact", "tests/artefact.py"), script("sanity", "tests/sanity.py", minutes=30)]
LAB_ENVIRONMENT = {"DISTCLOUD_LAB": LAB, "DISTCLOUD_LAB_REQUIRED": "1"}  # without the lab its tests fail; by hand they are left out
NETWORK = os.environ.get("DISTCLOUD_LAB_NETWORK", "10.203.0.0/24")
# What a run that was cut off left of the test lab goes first: the outer machine is compared as it is before the lab and after it.
LEFT_OVER = playbook("lab-left-over", "playbooks/lab_down.yml", minutes=10)
OUTER_BEFORE = script("outer-before", "tests/support/outer_machine.py", str(LOGS / "outer-before.json"), NETWORK, minutes=5)
OUTER_AFTER = replace(
    pytest_step("outer-after", "tests/integration/test_outer_machine.py", minutes=5, environment=LAB_ENVIRONMENT), always=True
)
LAB_UP = playbook("lab-up", "playbooks/lab.yml", minutes=25, needed=True)
LAB_DOWN = playbook("lab-down", "playbooks/lab_down.yml", minutes=10, always=True)


def site(*tests: str, minutes: float) -> list[Step]:
    """The site on the two regions of the lab, and tests of it; what each proves stands in its first lines."""
    return [
        # The demonstration has work left for the region whose worker comes second, however late: tests want to see jobs of both.
        playbook("site", "playbooks/site.yml", "--extra-vars=demo_job_seconds=25", minutes=25, needed=True),
        *(
            pytest_step(f"integration-{name}", f"tests/integration/test_{name}.py", minutes=minutes, environment=LAB_ENVIRONMENT)
            for name in tests
        ),
    ]


# One lab, baked and booted once, carries both lanes: the site, whose tests mostly wait for guests, and the scenarios of the roles.
# What else the two regions of the site prove is in the long layer.
SITE = site("site_drift", "site", "site_faults", minutes=40)
SHORT = "-m 'not long'"
SCENARIOS = [
    scenario("certificates", tests=SHORT),
    # Dry runs on fresh hosts, which cost minutes here, are in the long layer.
    scenario("scheduler", tests=SHORT, DISTCLOUD_FRESH="syntax"),
    scenario("htcondor", 40, tests=SHORT, DISTCLOUD_FRESH="syntax", DISTCLOUD_DRAIN_SECONDS="60"),
]
# It needs a host and nothing else, and goes as soon as the lab is up.
FIREWALL = scenario("host_firewall")
# These have labs of their own, and go before the lab that the long layer stands up.
LONG_HOSTS = pytest_step(
    "integration-lab",
    *(f"tests/integration/test_lab_{name}.py" for name in ("host", "host_user", "images")),
    minutes=60,
    environment=LAB_ENVIRONMENT,
)
# On the tree that the step before it baked.
NEWEST = pytest_step("newest-ansible", "tests/integration/test_newest_ansible.py", minutes=45, environment=LAB_ENVIRONMENT)
LONG_SITE = [
    # What an admin types first: it must go through where nothing is there yet.
    playbook("site-dry-run", "playbooks/site.yml", "--check", "--diff", minutes=10),
    *site("site", "site_region_change", "site_lost_workers", "scheduler_engine", "worker_image", "lab_openstack", minutes=60),
]
LONG_SCENARIOS = [
    scenario("lab_host", 25),
    scenario("certificates"),
    scenario("scheduler"),
    scenario("worker_image", 25),
    scenario("region", 40),
    scenario("htcondor", 50, DISTCLOUD_DRAIN_SECONDS="120"),
]

# A layer is a list of stages, a stage of lanes, a lane of steps. Stages and the steps of a lane go in order, lanes side by side.
Stage = list[list[Step]]
CHECKS: Stage = [[ANSIBLE_LINT, HOUSE, DOCS], [*STYLE, *ARTEFACT]]
UP, DOWN = [LEFT_OVER, OUTER_BEFORE, LAB_UP], [LAB_DOWN, OUTER_AFTER]
LAB_TESTS: list[Stage] = [[SITE, SCENARIOS], [DOWN]]
LAYERS: dict[str, list[Stage]] = {
    "lint": [[STYLE, [ANSIBLE_LINT]]],
    "docs": [[[DOCS]]],
    "fast": [[UNIT], CHECKS],
    "lab": [[[*UP, FIREWALL]], *LAB_TESTS],
    "long": [[[LONG_HOSTS, NEWEST, *UP]], [LONG_SITE, LONG_SCENARIOS], [DOWN]],
    # The lab boots beside the last of the fast layers: it mostly waits for disks and for its services.
    "all": [[UNIT], [*CHECKS, [*UP, FIREWALL]], *LAB_TESTS],
}
ON_A_LAB = ("all", "lab", "long")


async def run(step: Step) -> Count:
    log = LOGS / f"{step.name}.log"
    begin = time.monotonic()
    say(f"{step.name} ...")
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
            # Cut off while it starts, asyncio would end the command alone and leave what the command began in the meantime.
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
    say(f"{step.name}: {count} ({time.monotonic() - begin:.0f} s)")
    if count.failed:
        lines = log.read_text("utf-8", "replace").splitlines()
        say("\n".join(["", f"--- the end of build/tests/{log.name}", *lines[-150:], "---", ""]))
        count.why = [f"{step.name}:", *telling(lines)]
    return count


async def end(process: asyncio.subprocess.Process) -> None:
    """End a step with all the processes of its group. Asked first: Ansible's workers have sessions of their own, and only it knows them."""
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


TELLING = re.compile(r"^(fatal|failed): \[|^E  |^(FAILED|ERROR|CRITICAL) |^stopped: |\b\w*Error: ")


def telling(lines: Iterable[str], most: int = 8, width: int = 600) -> list[str]:
    """The last lines of a log that say why it failed, indented and cut to a width.

    They stand again before the closing line: whoever has only the end of a long run should know what to mend.
    """
    return [f"    {line[:width]}" for line in lines if TELLING.search(line)][-most:]


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
    """Run the stages in order and the lanes of each side by side; when a needed step fails, what is left in its way is left out."""
    total, broken = Count(), False
    for stage in stages:
        for count, whole in await asyncio.gather(*(lane(steps, broken) for steps in stage)):
            total.add(count)
            broken = broken or not whole
    return total


async def lane(steps: list[Step], broken: bool) -> tuple[Count, bool]:
    """Run the steps in order; the count, and whether all needed ones went well."""
    total = Count()
    for step in steps:
        if broken and not step.always:
            say(f"{step.name}: left out, an earlier step failed")
            total.skipped += 1
            continue
        count = await run(step)
        broken = broken or (step.needed and bool(count.failed))
        total.add(count)
    return total, not broken


def say(text: str) -> None:
    print(text, flush=True)


def site_lab_is_up() -> bool:
    """Whether a person's own lab runs; the test lab takes its place on the machine meanwhile."""
    try:
        return bool(json.loads(SITE_LAB.read_text("utf-8")).get("up"))
    except (OSError, ValueError):
        return False


def rights() -> str:
    """Why the layers that stand up a lab cannot run; empty where they can. A step has no terminal to ask for a password on."""
    if os.geteuid() == 0 or subprocess.run(["sudo", "-kn", "true"], capture_output=True, check=False).returncode == 0:
        return ""
    return "needs root, or sudo without a password: its steps have no terminal to ask on (`make test-fast` needs neither)"


async def main(which: str) -> int:
    task = asyncio.current_task()
    assert task is not None
    for ending in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(ending, task.cancel)
    LOGS.mkdir(parents=True, exist_ok=True)
    for old in (*LOGS.glob("*.xml"), *LOGS.glob("outer-*.json")):
        old.unlink()
    total = Count()
    give_back = LAB != "site" and which in ON_A_LAB and site_lab_is_up()
    total.add(await layer(LAYERS[which]))
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
    for line in total.why:
        say(line)
    say(str(total))
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in LAYERS:
        sys.exit(f"usage: python tests/run.py {'|'.join(LAYERS)}")
    if sys.argv[1] in ON_A_LAB and (why := rights()):
        sys.exit(f"the layer {sys.argv[1]} {why}")
    try:
        sys.exit(asyncio.run(main(sys.argv[1])))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(
            "interrupted: the steps that ran were stopped; a lab that is up stays up (`make lab-down`). "
            "Where your own lab had to make way for it, `make lab` brings it back"
        )
