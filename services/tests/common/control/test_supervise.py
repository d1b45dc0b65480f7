"""Real child processes: responses, errors, crashes, hangs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from distcloud.common.control.supervise import ChildError, ChildTimeout, JsonChild, run_command

CHILD = """
import json, os, sys, time
for line in sys.stdin:
    q = json.loads(line)
    if q["do"] == "hang": time.sleep(600)
    if q["do"] == "die": print("last words", file=sys.stderr, flush=True); os._exit(3)
    if q["do"] == "noise": sys.stderr.write("x" * 1_000_000)
    if q["do"] == "nonsense": print("not json", flush=True); continue
    if q["do"] == "fail": print(json.dumps({"error": "ValueError: no"}), flush=True); continue
    print(json.dumps({"result": [os.getpid(), q["do"], os.environ.get("SPECIAL")]}), flush=True)
"""


def child() -> JsonChild:
    return JsonChild("child", [sys.executable, "-c", CHILD], {"SPECIAL": "yes"})


def test_requests_are_served_by_one_process() -> None:
    async def main() -> None:
        one = child()
        answers = await asyncio.gather(*(one.ask({"do": str(number)}, 60) for number in range(20)))
        assert [answer[1] for answer in answers] == [str(number) for number in range(20)]
        assert len({answer[0] for answer in answers}) == 1 and answers[0][2] == "yes"
        assert (await one.ask({"do": "noise"}, 60))[1] == "noise"
        with pytest.raises(ChildError, match="ValueError: no"):
            await one.ask({"do": "fail"}, 60)
        assert (await one.ask({"do": "on"}, 60))[0] == answers[0][0], "an error is a response, and the child keeps running"
        await one.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [("hang", ChildTimeout, "no answer within"), ("die", ChildError, r"\(3\) last words"), ("nonsense", ChildError, "child: ")],
)
def test_failing_child_is_replaced(what: str, kind: type[ChildError], words: str) -> None:
    async def main() -> None:
        one = child()
        pid = (await one.ask({"do": "x"}, 60))[0]
        with pytest.raises(kind, match=words):
            await one.ask({"do": what}, 1.0 if what == "hang" else 60)
        after = (await one.ask({"do": "y"}, 60))[0]
        assert after != pid
        assert one.starts == 2
        await one.close()
        for number in (pid, after):
            with pytest.raises(ProcessLookupError):
                os.kill(number, 0)

    asyncio.run(main())


def test_error_names_missing_program() -> None:
    async def main() -> None:
        with pytest.raises(ChildError, match="child"):
            await JsonChild("child", ["/nowhere/program"]).ask({}, 5)
        with pytest.raises(ChildError, match="/nowhere/program"):
            await run_command(["/nowhere/program"], seconds=5)

    asyncio.run(main())


def test_timeout_kills_the_process_group() -> None:
    async def main() -> None:
        done = await run_command([sys.executable, "-c", "import sys; print(sys.stdin.read()); sys.exit(4)"], seconds=60, stdin=b"hello")
        assert (done.code, done.output.strip()) == (4, "hello")
        began = time.monotonic()
        with pytest.raises(ChildTimeout):
            await run_command(["/bin/sh", "-c", "sleep 600 & sleep 600"], seconds=0.5)
        assert time.monotonic() - began < 300

    asyncio.run(main())


def test_cancelled_start_kills_the_process_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = tmp_path / "child"
    script = f"sleep 600 & echo $! > {begun}.new; mv {begun}.new {begun}; wait"
    tasks: list[asyncio.Task[Any]] = []

    class Cancelled(subprocess.Popen[bytes]):
        """Cancels after the command has started a child and before asyncio has returned the command's process."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            end = time.monotonic() + 60
            while not begun.exists() and time.monotonic() < end:
                time.sleep(0.02)
            tasks[-1].cancel()

    monkeypatch.setattr(subprocess, "Popen", Cancelled)

    async def main(call: Coroutine[Any, Any, Any]) -> None:
        tasks.append(asyncio.create_task(call))
        with pytest.raises(asyncio.CancelledError):
            await tasks[-1]

    for call in (run_command(["sh", "-c", script], seconds=60), JsonChild("child", ["sh", "-c", script]).ask({}, 60)):
        asyncio.run(main(call))
        lingering = int(begun.read_text())
        end = time.monotonic() + 60
        while running(lingering) and time.monotonic() < end:
            time.sleep(0.02)
        assert not running(lingering)
        begun.unlink()


def running(pid: int) -> bool:
    """Whether a process runs; a zombie does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
