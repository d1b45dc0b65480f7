"""Runs a playbook and reports which task changed what on which host, so that a test can compare a dry run with the run after it.

Check mode is accurate when `--check --diff` reports the tasks, items and diffs of the run that follows it, and a check after that run
reports no change.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
INVENTORIES = ROOT / "inventories"
NOTHING = r"(?!)"


@dataclass(frozen=True, order=True)
class Change:
    """One task (one item of a loop) that changed a host or would change it; the task's name is without its role's."""

    host: str
    task: str
    item: str = ""
    diff: str = ""

    def __str__(self) -> str:
        return f"{self.host}: {self.task}" + (f" ({self.item})" if self.item else "")


@dataclass(frozen=True)
class Run:
    """The result of one run: changes in task order, the message of each failed host, the other messages of each host, and all output."""

    changes: list[Change]
    failures: dict[str, str]
    messages: dict[str, list[str]] = field(default_factory=dict)
    output: str = field(default="", repr=False)

    @property
    def changed(self) -> list[str]:
        return [str(change) for change in self.changes]


class Playbook:
    """A playbook on running hosts; `inventories` follow the lab's, `environment` defaults to that of the process."""

    def __init__(self, path: Path, *inventories: Path, environment: Mapping[str, str] | None = None) -> None:
        places = [f"--inventory={place}" for place in (INVENTORIES / "common", INVENTORIES / "lab", *inventories)]
        self._command = [str(Path(sys.executable).parent / "ansible-playbook"), "--diff", *places, str(path)]
        self._environment = {
            name: value
            for name, value in (os.environ if environment is None else environment).items()
            if not name.startswith("ANSIBLE_") or name == "ANSIBLE_COLLECTIONS_PATH"
        } | {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.json",
        }

    def run(self, *arguments: str, again: str = NOTHING, **variables: Any) -> Run:
        """Run the playbook with further arguments and variables. Text that matches the expression `again` differs in every run (a
        signature) and is left out when diffs are compared."""
        command = [*self._command, *arguments, *(["--extra-vars", json.dumps(variables)] if variables else [])]
        done = subprocess.run(command, cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=1800, check=False)
        try:
            # With -v lines stand before the report; in the report every other brace is indented.
            report = json.loads(done.stdout[("\n" + done.stdout).rindex("\n{\n") :])
        except ValueError:
            pytest.fail(f"ansible-playbook ended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        tasks = [task for play in report["plays"] for task in play["tasks"]]
        changes, failures = [], {}
        messages: dict[str, list[str]] = {}
        for task in tasks:
            for host, result in sorted(task["hosts"].items()):
                changes += sorted(_changes(host, task["task"]["name"].rpartition(" : ")[2], result, again))
                if report["stats"][host]["failures"] + report["stats"][host]["unreachable"] and _failed(result):
                    failures[host] = f"{task['task']['name']}: {_message(result)}"
                elif message := result.get("msg"):
                    messages.setdefault(host, []).extend(map(str, message if isinstance(message, list) else [message]))
        return Run(changes, failures, messages, done.stdout + done.stderr)

    def repairs_drift(self, *arguments: str, again: str = NOTHING, settled: bool = True, **variables: Any) -> list[str]:
        """Repair drift: the run makes the changes that a dry run predicted, and a check after it reports none (skipped if `settled` is
        false, as a third run of a large playbook takes minutes). Returns the changes, each as "host: task (item)"."""
        check = ("--check", *arguments)
        predicted = self.run(*check, again=again, **variables)
        assert not predicted.failures, f"in check mode: {predicted.failures}"
        applied = self.run(*arguments, again=again, **variables)
        assert not applied.failures, applied.failures
        differing = "\n".join(map(repr, sorted(set(predicted.changes) ^ set(applied.changes))))
        assert predicted.changes == applied.changes, f"--check --diff differs from the run that followed:\n{differing}"
        if settled:
            after = self.run(*check, again=again, **variables)
            assert (after.changes, after.failures) == ([], {}), "not settled after one run"
        return applied.changed

    def refuses(self, *arguments: str, **variables: Any) -> str:
        """Run the playbook with variables that it must refuse before it changes anything; returns its messages."""
        refused = self.run(*arguments, **variables)
        assert refused.failures, f"not refused: {variables}"
        assert not refused.changes, "refused, but only after changes"
        return "\n".join(refused.failures.values())


def _changes(host: str, task: str, result: dict[str, Any], again: str) -> list[Change]:
    if "results" in result:
        return [
            Change(host, task, _item(one), _diff(one, again)) for one in result["results"] if isinstance(one, dict) and one.get("changed")
        ]
    if result.get("changed") and "paths" in result:  # of module config_files: many files in one task
        return [Change(host, task, path, _diff({"diff": one}, again)) for path, one in zip(result["paths"], result["diff"], strict=True)]
    return [Change(host, task, "", _diff(result, again))] if result.get("changed") else []


def _item(result: dict[str, Any]) -> str:
    item = result.get("item", "")
    if isinstance(item, dict):  # as loop_control.label shows it
        item = next((item[key] for key in ("label", "name", "key", "dest", "path") if key in item), item)
    return item if isinstance(item, str) else json.dumps(item, sort_keys=True)


def _diff(result: dict[str, Any], again: str) -> str:
    """The diff without its headers, which have names of temporary files."""
    diffs = result.get("diff") or []
    diffs = diffs if isinstance(diffs, list) else [diffs]
    kept = [{key: one[key] for key in ("before", "after", "prepared") if key in one} for one in diffs if isinstance(one, dict)]
    return re.sub(again, "...", "\n".join(json.dumps(one, indent=1, sort_keys=True).replace("\\n", "\n") for one in kept if one))


def _failed(result: dict[str, Any]) -> bool:
    return bool(result.get("failed") or result.get("unreachable"))


def _message(result: dict[str, Any]) -> str:
    parts = [one for one in result.get("results", []) if isinstance(one, dict) and _failed(one)] or [result]
    return "\n".join(str(one[key]) for one in parts for key in ("msg", "stderr", "stdout") if one.get(key))
