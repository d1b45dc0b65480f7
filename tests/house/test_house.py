"""Rules of the repository that can be checked automatically: roles, variables, files, documentation."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from packaging.requirements import Requirement

from distcloud.scheduler.domain.model import Policy
from distcloud.scheduler.engine.minter_client import token_lifetime

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
TRACKED = [
    ROOT / name
    for name in subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    if (ROOT / name).is_file()
]
CODE = [path for path in TRACKED if path.suffix in {".py", ".yml", ".j2", ".sh"}]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_role_is_complete(role: Path) -> None:
    for name in ("README.md", "defaults/main.yml", "meta/main.yml", "meta/argument_specs.yml", "tasks/main.yml"):
        assert (role / name).is_file(), f"roles/{role.name}/{name} is missing"
    for entry in load(role / "meta/argument_specs.yml")["argument_specs"]:
        assert (role / "tasks" / f"{entry}.yml").is_file(), f"argument_specs of {role.name} name tasks/{entry}.yml, which is missing"


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_and_argument_specs_agree(role: Path) -> None:
    defaults = load(role / "defaults/main.yml") or {}
    entries = load(role / "meta/argument_specs.yml")["argument_specs"].values()
    options: dict[str, Any] = {}
    for entry in entries:
        options |= entry.get("options") or {}
    for name, value in defaults.items():
        assert name.startswith(f"{role.name}_"), f"{role.name}: variable {name} does not start with the role's name"
        assert name in options, f"{role.name}: {name} has a default and no argument spec"
        if "default" in options[name]:
            assert options[name]["default"] == value, f"{role.name}: default of {name} differs between defaults and argument specs"
    for name, option in options.items():
        if "default" in option:
            assert name in defaults, f"{role.name}: argument spec of {name} has a default that defaults/main.yml lacks"


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_role_names_no_inventory_group(role: Path) -> None:
    for path in role.rglob("*"):
        if path.suffix in {".yml", ".j2"} and "meta" not in path.parts:
            assert not re.search(r"(?<![-\w])groups(\[|\.(?!map|conf|j2)[a-z])", path.read_text("utf-8")), (
                f"{path.relative_to(ROOT)} names an inventory group"
            )


def tasks_of(path: Path) -> Iterator[dict[str, Any]]:
    """The tasks of a task file, those of its blocks included."""
    rest: list[dict[str, Any]] = list(load(path) or [])
    while rest:
        task = rest.pop()
        yield task
        for part in ("block", "rescue", "always"):
            rest += task.get(part, [])


def test_file_tasks_for_other_owners_follow_no_link() -> None:
    """Root changes owner and mode below a directory of that user, who could have put a link to any path there."""
    for path in (ROOT / "roles").glob("*/tasks/*.yml"):
        for task in tasks_of(path):
            options = task.get("ansible.builtin.file", {})
            if "root" not in options.get("owner", "root"):
                assert options.get("follow") is False, f"{path.relative_to(ROOT)}: {task['name']}: set follow: false"


def test_files_are_one_thing() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in TRACKED
        if path.suffix in {".py", ".yml", ".sh", ".j2"} and (lines := len(path.read_text("utf-8").splitlines())) > 450
    }
    assert not long, f"these files are too long; split them: {long}"


def test_folders_hold_few_python_files() -> None:
    """Ansible wants its modules, and we their tests, in one folder each."""
    apart = ("plugins/modules", "tests/unit/plugins/modules", "roles", "docs")
    folders = Counter(path.parent.relative_to(ROOT) for path in TRACKED if path.suffix == ".py")
    full = {
        str(folder): number for folder, number in folders.items() if number > 16 and not any(folder.is_relative_to(name) for name in apart)
    }
    assert not full, f"these folders have too many files; group them: {full}"


def test_no_todo_is_left_open() -> None:
    marks = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK")))
    found = [str(path.relative_to(ROOT)) for path in CODE if marks.search(path.read_text("utf-8"))]
    assert not found, f"marks of unfinished work: {found}"


def test_python_files_say_what_they_are() -> None:
    for path in TRACKED:
        if path.suffix == ".py" and path.name != "__init__.py" and "plugins/modules" not in str(path):
            text = path.read_text("utf-8")
            body = re.sub(r"\A(#.*\n|\s*\n|from __future__.*\n)*", "", text)
            assert not text.strip() or body.lstrip("r").startswith('"""'), f"{path.relative_to(ROOT)} does not start with a description"


def test_readme_commands_are_verbs_of_the_makefile() -> None:
    verbs = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for verb in re.findall(
            r"`?\bmake ([a-z]+(?:-[a-z]+)*)\b(?=[`\s]|$)",
            "\n".join(re.findall(r"`[^`\n]+`|^    .*|^make .*", path.read_text("utf-8"), re.MULTILINE)),
        ):
            assert verb in verbs, f"{path.name} names `make {verb}`, which the Makefile lacks"


def test_links_in_the_docs_lead_somewhere() -> None:
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *(role / "README.md" for role in ROLES)]:
        if path.is_file():
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
                if "://" not in target and not target.startswith("mailto:"):
                    assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} links to {target}, which does not exist"


def test_no_private_key_in_the_repository() -> None:
    # A key has lines of base64 behind its head; tests of refusals only quote the head.
    mark = "BEGIN " + "[A-Z ]*PRIVATE KEY-----\\s*\\n[A-Za-z0-9+/=]{40,}"
    found = [
        str(path.relative_to(ROOT))
        for path in TRACKED
        if path.suffix not in {".png", ".svg"} and re.search(mark, path.read_text("utf-8", "replace"))
    ]
    assert not found


def test_planner_limits_are_documented() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", (ROOT / "docs" / "workers.md").read_text("utf-8"), re.MULTILINE)
    assert {name: int(value) for name, value in rows} == asdict(Policy())
    # By its argument spec the role names a misspelt bound before anything is changed.
    options = load(ROOT / "roles/scheduler/meta/argument_specs.yml")["argument_specs"]["main"]["options"]["scheduler_policy"]["options"]
    assert list(options) == list(dict(rows)), "the bounds in the role's argument spec are those of docs/workers.md"
    for name, value in rows:
        assert options[name]["type"] == "int" and "default" not in options[name] and f"({value})" in options[name]["description"], name


@pytest.mark.parametrize("policy", [{}, {"max_vm_age": 655000}, {"drain_timeout": 86400}])
def test_role_allows_tokens_requested_by_engine(policy: dict[str, int]) -> None:
    ages = load(ROOT / "roles/scheduler/vars/main.yml")
    values = {
        name: int(jinja2.Template(str(ages[name])).render(scheduler_policy=policy))
        for name in ("__scheduler_max_vm_age", "__scheduler_drain_timeout", "__scheduler_token_margin")
    }
    tasks = {task["name"]: task for task in load(ROOT / "roles/scheduler/tasks/preflight.yml")}
    (that,) = tasks["Check the lifetime of worker tokens"]["ansible.builtin.assert"]["that"]
    enough = jinja2.Environment().compile_expression(that)
    asked = token_lifetime(Policy(**policy))
    assert [enough(scheduler_worker_token_lifetime=most, **values) for most in (asked - 1, asked)] == [False, True]


# Import names that differ from the index; what is never imported: a driver in a database URL, and the parser that uvicorn loads.
IMPORTED_AS = {"prometheus-client": "prometheus_client", "pyyaml": "yaml"}
BY_NAME = {"aiosqlite", "httptools"}
# HTCondor's bindings are the host's package; starlette and pydantic_core are what fastapi and pydantic are made of.
BESIDES = {"distcloud", "classad2", "htcondor2", "starlette", "pydantic_core"}


def test_engines_declare_exactly_their_imports() -> None:
    """All declared dependencies are installed on the scheduler's host."""
    project = tomllib.loads((ROOT / "services" / "pyproject.toml").read_text("utf-8"))["project"]
    names = {Requirement(line).name for line in project["dependencies"]}
    imported: set[str] = set()
    for path in (ROOT / "services" / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    assert imported - set(sys.stdlib_module_names) - BESIDES == {IMPORTED_AS.get(name, name) for name in names - BY_NAME}
    pins = (ROOT / "roles" / "engine" / "files" / "requirements-engine.txt").read_text("utf-8")
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in pins.splitlines() if "==" in line}
    assert names <= pinned


def test_every_dependency_has_its_reason() -> None:
    lists = [(ROOT / "requirements" / name).read_text("utf-8") for name in ("control.in", "test.in", "execution-environment.txt")]
    project = tomllib.loads((ROOT / "services" / "pyproject.toml").read_text("utf-8"))
    lines = [*"\n".join(lists).splitlines(), *project["project"]["dependencies"], *project["build-system"]["requires"]]
    names = {Requirement(line).name for line in lines if line and not line.startswith(("#", "-"))}
    names |= set(load(ROOT / "galaxy.yml")["dependencies"])
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "docs" / "dependencies.md").read_text("utf-8"), re.MULTILINE)
    documented = set(re.findall(r"[\w.-]+", " ".join(rows).lower()))
    assert not {name.lower() for name in names - {"distcloud"}} - documented, "missing in docs/dependencies.md"
    for path in (ROOT / "requirements").glob("system*.txt"):
        for line in path.read_text("utf-8").splitlines():
            assert "#" in line, f"{path.name}: {line} has no reason"


def test_required_collections_are_exactly_those_used() -> None:
    """Both for an installation from a checkout and for one from the artifact."""
    asked = {entry["name"]: entry["version"] for entry in load(ROOT / "requirements.yml")["collections"]}
    assert asked == load(ROOT / "galaxy.yml")["dependencies"]
    used: set[str] = set()
    for path in CODE:
        if path.parts[len(ROOT.parts)] in {"playbooks", "roles"}:
            used |= set(re.findall(r"^\s*(?:- )?((?!ansible\.builtin)\w+\.\w+)\.\w+:", path.read_text("utf-8"), re.MULTILINE))
    assert used - {"hep.distcloud"} <= set(asked), "playbooks and roles use collections that are not required"
