# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module host_command_info: commands run side by side, and failures are answers."""

from __future__ import annotations

import sys
from pathlib import Path

from ansible_collections.hep.distcloud.plugins.modules import host_command_info
from module_harness import run_module


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_queries_run_in_parallel_and_answer_in_order(tmp_path: Path) -> None:
    met = f"import os, time; from pathlib import Path; mine, other = Path({str(tmp_path)!r}, %r), Path({str(tmp_path)!r}, %r); mine.touch()"
    meet = met + "\nwhile not other.exists(): time.sleep(0.01)\nprint('met')"
    # Each of the first two ends only when the other has begun.
    answers = host_command_info.run_queries(
        [
            {"name": "one", "argv": python(meet % ("a", "b"))},
            {"name": "two", "argv": python(meet % ("b", "a"))},
            {"name": "bad", "argv": python("import sys; print('half'); sys.exit('no luck')")},
        ],
        60,
    )
    assert answers == [
        {"name": "one", "rc": 0, "stdout": "met\n", "stderr": ""},
        {"name": "two", "rc": 0, "stdout": "met\n", "stderr": ""},
        {"name": "bad", "rc": 1, "stdout": "half\n", "stderr": "no luck\n"},
    ]


def test_after_waits_for_the_earlier_query(tmp_path: Path) -> None:
    file = tmp_path / "first"
    first = f"import time; from pathlib import Path; time.sleep(0.2); Path({str(file)!r}).touch()"
    then = f"from pathlib import Path; print(Path({str(file)!r}).exists())"
    answers = host_command_info.run_queries(
        [{"name": "first", "argv": python(first)}, {"name": "then", "after": "first", "argv": python(then)}], 60
    )
    assert answers[1]["stdout"] == "True\n"


def test_timeout_and_missing_command_are_answers() -> None:
    answers = host_command_info.run_queries([{"name": "reads", "argv": python("input()")}, {"name": "gone", "argv": ["/nonexistent"]}], 60)
    assert [answer["rc"] for answer in answers] == [1, 127], "nothing can be read from standard input"
    assert answers[1]["stderr"] == "/nonexistent: No such file or directory"
    (late,) = host_command_info.run_queries([{"name": "slow", "argv": python("while True: pass")}], 0.3)
    assert (late["rc"], late["stderr"]) == (124, f"{sys.executable} did not end within 0.3 s")


def test_module_returns_answers_and_refuses_unknown_predecessors() -> None:
    query = {"name": "one", "argv": python("print(1)")}
    result = run_module(host_command_info.HostCommandInfo, {"queries": [query]}, check=True)
    assert not result.changed and result.data["answers"] == [{"name": "one", "rc": 0, "stdout": "1\n", "stderr": ""}]
    result = run_module(host_command_info.HostCommandInfo, {"queries": [{**query, "after": "later"}, {**query, "name": "later"}]})
    assert result.failed and result.data["msg"].startswith("queries: one: needs")
