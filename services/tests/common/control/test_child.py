"""The child's side of `JsonChild`: limits on CPU time and memory, and errors that are answers."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from distcloud.common.control.supervise import ChildError, ChildExited, JsonChild

PROGRAM = """
from distcloud.common.control import child

def answer(request):
    if request["ask"] == "endless":
        while True: pass
    if request["ask"] == "huge":
        return len(bytearray(request["bytes"]))
    if request["ask"] == "deep":
        def deep(n): return deep(n + 1)
        return deep(0)
    return request["ask"].upper()

child.serve(answer, cpu_seconds=0.2, memory=64 * 1024 * 1024)
"""


def test_child_is_bounded_and_replaced() -> None:
    async def main() -> None:
        child = JsonChild("child", [sys.executable, "-c", PROGRAM])
        try:
            assert await child.ask({"ask": "hello"}, 60) == "HELLO"
            with pytest.raises(ChildError, match="MemoryError"):
                await child.ask({"ask": "huge", "bytes": 200 * 1024 * 1024}, 60)
            with pytest.raises(ChildError, match="RecursionError"):
                await child.ask({"ask": "deep"}, 60)
            assert child.starts == 1, "an error is an answer"
            with pytest.raises(ChildExited) as exited:
                await child.ask({"ask": "endless"}, 60)
            assert exited.value.code == -signal.SIGPROF
            assert await child.ask({"ask": "again"}, 60) == "AGAIN" and child.starts == 2
        finally:
            await child.close()

    asyncio.run(main())
