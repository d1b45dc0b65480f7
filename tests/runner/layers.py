"""The layers of tests. A layer is a list of stages, a stage of lanes, a lane of steps: stages and the steps of a lane run in order,
lanes side by side."""

from __future__ import annotations

import os
from dataclasses import replace

from . import scenarios
from .steps import LAB_ENVIRONMENT, LOGS, Step, lab_tests, playbook, pytest_step, script, tool

Stage = list[list[Step]]

STYLE = [
    tool("ruff", "ruff", "check", ".", budget=0.1),
    tool("format", "ruff", "format", "--check", ".", budget=0.1),
    tool("yamllint", "yamllint", "--strict", ".", budget=0.1),
    tool("changelog", "antsibull-changelog", "lint", budget=0.1),
    tool("workflows", "check-jsonschema", "--builtin-schema", "vendor.github-workflows", ".github/workflows/ci.yml", budget=0.1),
    tool("mypy", "mypy", budget=0.6),
]
ANSIBLE_LINT = tool("ansible-lint", "ansible-lint", "--offline", "--strict", budget=1.7)
DOCS = script("docs", "tests/docs.py", budget=0.5)
HOUSE = pytest_step("house", "tests/house", budget=3.2)
UNIT = [
    # The crash tests are long and next to each other: a worker that has nothing left takes from the other's share.
    pytest_step("engines", "services/tests", "-n", "2", "--dist", "worksteal", budget=2.5),
    pytest_step("plugins", "tests/unit", "-n", "2", "-m", "not long", budget=1.2),
]
ARTIFACT = [script("artifact", "tests/artifact.py", budget=0.6), script("sanity", "tests/sanity.py", minutes=30, budget=3.5)]
NETWORK = os.environ.get("DISTCLOUD_LAB_NETWORK", "10.203.0.0/24")
# Remains of an interrupted run are removed first: the outer machine is compared as it is before the lab and after it.
LEFT_OVER = playbook("lab-left-over", "playbooks/lab_down.yml", minutes=10, budget=0.1)
OUTER_BEFORE = script("outer-before", "tests/support/lab/outer_machine.py", str(LOGS / "outer-before.json"), NETWORK, minutes=5)
OUTER_AFTER = replace(
    pytest_step("outer-after", "tests/integration/test_outer_machine.py", minutes=5, environment=LAB_ENVIRONMENT), always=True
)
# A test searches their output for secrets.
SHOW_ALL = ("-vvv", "--diff")
LAB_UP = playbook("lab-up", "playbooks/lab.yml", *SHOW_ALL, minutes=25, budget=7.5, needed=True)
LAB_DOWN = playbook("lab-down", "playbooks/lab_down.yml", minutes=10, budget=0.5, always=True)


def site(*tests: tuple[str, float], minutes: float, select: str = "") -> list[Step]:
    """The site on the two regions of the lab, and tests of it: (name, budget) of each; their first lines say what they prove."""
    return [
        # The demonstration has work left for the region whose worker comes second, however late: tests want to see jobs of both.
        playbook("site", "playbooks/site.yml", *SHOW_ALL, "--extra-vars=demo_job_seconds=25", minutes=25, budget=7, needed=True),
        *(lab_tests(f"integration-{name}", name, minutes=minutes, budget=budget, select=select) for name, budget in tests),
    ]


# One lab, baked and booted once, carries both lanes: the site, whose tests mostly wait for guests, and the scenarios of the roles.
# What else the two regions of the site prove is in the long layer.
SITE = site(
    ("site_drift", 2), ("site_secrets", 0.3), ("site_listeners", 0.1), ("site", 6), ("site_faults", 4), minutes=40, select="not long"
)
# They run as soon as the lab is up, before the site.
FIRST = scenarios.steps("test", "lab")
ROLES = scenarios.steps("test", "roles")
# These have labs of their own, and run before the lab of the long layer is up.
LONG_HOSTS = lab_tests("integration-lab", "lab_host", "lab_host_user", "lab_images", minutes=60, budget=3.5)
# On the tree that the step before it baked.
NEWEST = lab_tests("newest-ansible", "newest_ansible", minutes=45, budget=2.5)
# The tests of `make test-fast` once more, to see which lines of the product they run; tests on the lab run in other processes.
COVERAGE = pytest_step(
    "coverage",
    *("services/tests", "tests/unit", "-n", "2", "--dist", "worksteal"),
    *("--cov=services/src/distcloud", "--cov=plugins", "--cov-report=term:skip-covered", f"--cov-report=html:{LOGS.parent / 'coverage'}"),
    minutes=30,
    budget=5,
    show=r"^(services/src/distcloud|plugins) |^TOTAL",
)
LONG_SITE = [
    # What an admin types first: it must succeed where nothing is there yet.
    playbook("site-dry-run", "playbooks/site.yml", "--check", "--diff", minutes=10, budget=1.2),
    *site(
        ("site", 6),
        ("site_region_change", 5.5),
        ("site_lost_workers", 17),
        ("scheduler_engine", 0.6),
        ("worker_image", 2),
        ("lab_openstack", 0.2),
        minutes=60,
    ),
    lab_tests("integration-site_faults", "site_faults", minutes=40, budget=2, select="long"),
]
LONG_ROLES = [*scenarios.steps("long", "lab"), *scenarios.steps("long", "roles")]

CHECKS: Stage = [[ANSIBLE_LINT, HOUSE, DOCS], [*STYLE, *ARTIFACT]]
UP, DOWN = [LEFT_OVER, OUTER_BEFORE, LAB_UP], [LAB_DOWN, OUTER_AFTER]
LAB_TESTS: list[Stage] = [[SITE, ROLES], [DOWN]]
LAYERS: dict[str, list[Stage]] = {
    "lint": [[STYLE, [ANSIBLE_LINT]]],
    "docs": [[[DOCS]]],
    "fast": [[UNIT], CHECKS],
    "lab": [[[*UP, *FIRST]], *LAB_TESTS],
    "long": [[[COVERAGE, LONG_HOSTS, NEWEST, *UP]], [LONG_SITE, LONG_ROLES], [DOWN]],
    # The lab boots beside the fast layers: it mostly waits for disks and for its services.
    "all": [[[*UNIT, *CHECKS[0]], *CHECKS[1:], [*UP, *FIRST]], *LAB_TESTS],
}
ON_A_LAB = ("all", "lab", "long")
