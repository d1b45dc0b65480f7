"""Pytest plugin for tests on the lab (`-p unsteady`): a failed test is repeated once, and is unsteady if it passes then.

Only the failure of a test itself is repeated: errors of fixtures are never repeated. Tests marked `fault`, `security` or
`leak` are never repeated, as a failure that comes and goes is what they look for. An unsteady test counts as passed; its name and its
first failure are printed and written to the file that DISTCLOUD_UNSTEADY names.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import call_and_report

ONCE = ("fault", "security", "leak")


class _Sibling:
    """A next test that shares all nodes above an item: only the fixtures of the item itself are torn down."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item

    def listchain(self) -> list[Any]:
        return [*self._item.listchain()[:-1], self]


class Unsteady:
    """Repeats failed tests and keeps the unsteady ones."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        may_repeat = not any(item.get_closest_marker(name) for name in ONCE)
        reports = _attempt(item, nextitem, may_repeat)
        if may_repeat and len(reports) == 3 and reports[1].failed and reports[2].passed:
            repeated = _attempt(item, nextitem, False)
            if all(report.passed for report in repeated):
                self.found.append({"name": item.nodeid, "failure": reports[1].longreprtext[-4000:]})
                reports = repeated
            else:
                # The first failure is the one to look at: the second may only be a consequence of it.
                reports = [*reports[:2], repeated[-1]]
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for entry in self.found:
            terminalreporter.section(f"unsteady: {entry['name']}")
            terminalreporter.write_line(entry["failure"])

    def pytest_sessionfinish(self) -> None:
        path = os.environ.get("DISTCLOUD_UNSTEADY")
        if path and self.found:
            Path(path).write_text(json.dumps(self.found, indent=2) + "\n", "utf-8")


def _attempt(item: Any, nextitem: pytest.Item | None, may_repeat: bool) -> list[pytest.TestReport]:
    """Run the test once, without logging: reports of setup, call (where setup passed) and teardown."""
    if not item._request:
        item._initrequest()
    reports = [call_and_report(item, "setup", log=False)]
    if reports[0].passed:
        reports.append(call_and_report(item, "call", log=False))
    again = may_repeat and reports[-1].failed and len(reports) == 2
    reports.append(call_and_report(item, "teardown", log=False, nextitem=_Sibling(item) if again else nextitem))
    item._request = False
    item.funcargs = None
    return reports


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Unsteady(), "distcloud-unsteady")
