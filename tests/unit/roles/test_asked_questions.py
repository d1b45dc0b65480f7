"""Role site_report: a host is asked by its own commands, side by side."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

FILE = Path(__file__).resolve().parents[3] / "roles" / "site_report" / "files" / "ask.py"
SPEC = importlib.util.spec_from_file_location("ask", FILE)
assert SPEC and SPEC.loader
ask = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ask)


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_every_query_is_answered_in_the_order_asked(tmp_path: Path) -> None:
    met = f"import os, time; from pathlib import Path; mine, other = Path({str(tmp_path)!r}, %r), Path({str(tmp_path)!r}, %r); mine.touch()"
    meet = met + "\nwhile not other.exists(): time.sleep(0.01)\nprint('met')"
    # Each of the first two ends only when the other has begun.
    answers = ask.asked(
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


def test_what_comes_after_another_is_asked_when_that_has_ended(tmp_path: Path) -> None:
    file = tmp_path / "first"
    first = f"import time; from pathlib import Path; time.sleep(0.2); Path({str(file)!r}).touch()"
    then = f"from pathlib import Path; print(Path({str(file)!r}).exists())"
    answers = ask.asked([{"name": "first", "argv": python(first)}, {"name": "then", "after": "first", "argv": python(then)}], 60)
    assert answers[1]["stdout"] == "True\n"


def test_what_does_not_end_or_is_not_there_is_told_as_a_shell_would() -> None:
    answers = ask.asked([{"name": "reads", "argv": python("input()")}, {"name": "gone", "argv": ["/nonexistent"]}], 60)
    assert [answer["rc"] for answer in answers] == [1, 127], "nothing can be read from standard input"
    assert answers[1]["stderr"] == "/nonexistent: No such file or directory"
    (late,) = ask.asked([{"name": "slow", "argv": python("while True: pass")}], 0.3)
    assert (late["rc"], late["stderr"]) == (124, f"{sys.executable} did not end within 0.3 s")
