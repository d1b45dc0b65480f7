"""The renderer's child process: slow and fatal parts are named, others are served, and the event loop goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import pytest

from distcloud.scheduler.worker.configuration import WorkerSettings
from distcloud.scheduler.worker.parts import MAX_PART_BYTES, MetadataPart, UserDataError, template_variables
from distcloud.scheduler.worker.renderer import InProcessRenderer, RenderingUnavailable, SubprocessRenderer

VALUES = template_variables(WorkerSettings(host="vm-sample", domain="d.example", condor_host="c.d.example", group="g"))
# The real child, except that a part with "slow" takes forever and one with "crash" kills it.
PROGRAM = """
import os, signal
from distcloud.common.control import child
from distcloud.scheduler.worker import render_child

def answer(request):
    text = str(request)
    if "slow" in text:
        while True: pass
    if "crash" in text:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "sleep" in text:
        import time; time.sleep(60)
    return render_child.answer(request)

child.serve(answer, cpu_seconds=0.3, memory=256 * 1024 * 1024)
"""
STUB = (sys.executable, "-c", PROGRAM)


def run(script: Callable[[SubprocessRenderer], Awaitable[None]], renderer: SubprocessRenderer) -> None:
    async def main() -> None:
        try:
            await script(renderer)
        finally:
            await renderer.close()

    asyncio.run(main())


def test_answers_equal_those_of_in_process_renderer() -> None:
    async def script(renderer: SubprocessRenderer) -> None:
        here = InProcessRenderer()
        for content in ("a: {{ cs_user }}", "a: {{ nobody }}", "a: [", "é: {{ '\\ud800' }}", "x" * MAX_PART_BYTES + "x"):
            assert await renderer.check("g", content, "cloud-config") == await here.check("g", content, "cloud-config")
        parts = [MetadataPart("a", "a: é"), MetadataPart("b", "#!/bin/sh\n{{ cs_host }}", "x-shellscript", excluded_clouds=("c",))]
        assert await renderer.render("g", parts, VALUES) == await here.render("g", parts, VALUES)
        failing = [parts[0], MetadataPart("late", "a: {{ cs_user < 1 }}")]
        for each in (renderer, here):
            with pytest.raises(UserDataError, match="metadata late of the group: its template fails") as caught:
                await each.render("g", failing, VALUES)
            assert "TypeError" in caught.value.detail
        assert renderer.starts == 1

    run(script, SubprocessRenderer())


def test_slow_part_is_named_and_delays_nobody() -> None:
    async def script(renderer: SubprocessRenderer) -> None:
        assert await renderer.check("g", "a: 1", "cloud-config") == ""
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        assert await renderer.check("g", "slow", "cloud-config") == "takes too long to render; simplify it"
        ticking.cancel()
        assert ticks >= 3, "the event loop waited"
        with pytest.raises(UserDataError, match="metadata b of the cloud: cannot be rendered: the process ended"):
            await renderer.render("g", [MetadataPart("a", "a: 1"), MetadataPart("b", "crash", scope="cloud")], VALUES)
        assert (await renderer.render("g", [MetadataPart("a", "a: 1")], VALUES))[0].text == "a: 1"

    run(script, SubprocessRenderer(STUB))


def test_repeatedly_fatal_parts_block_only_their_owner() -> None:
    now = [1000.0]

    async def script(renderer: SubprocessRenderer) -> None:
        for _ in range(3):
            assert "the process ended" in await renderer.check("mallory", "crash", "cloud-config")
        with pytest.raises(RenderingUnavailable, match="mallory is not rendered for another 60 s"):
            await renderer.check("mallory", "a: 1", "cloud-config")
        assert await renderer.check("alice", "a: 1", "cloud-config") == ""
        now[0] += 61
        assert await renderer.check("mallory", "a: 1", "cloud-config") == ""

    run(script, SubprocessRenderer(STUB, monotonic=lambda: now[0], jitter=lambda: 0.5))


def test_many_requests_of_one_owner_take_turns() -> None:
    async def script(renderer: SubprocessRenderer) -> None:
        done: list[str] = []

        async def check(whose: str) -> None:
            await renderer.check(whose, "a: 1", "cloud-config")
            done.append(whose)

        many = [asyncio.create_task(check("mallory")) for _ in range(20)]
        await asyncio.sleep(0)
        await asyncio.gather(check("alice"), *many)
        assert done.index("alice") <= 2 and len(done) == 21

    run(script, SubprocessRenderer())


def test_killed_child_is_replaced_without_blaming_a_part() -> None:
    async def script(renderer: SubprocessRenderer) -> None:
        assert await renderer.check("g", "a: 1", "cloud-config") == ""
        process = renderer._child._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        assert await renderer.check("g", "a: 1", "cloud-config") == "" and renderer.starts == 2

    run(script, SubprocessRenderer())


def test_child_that_hangs_or_cannot_start_is_reported() -> None:
    async def script(renderer: SubprocessRenderer) -> None:
        with pytest.raises(RenderingUnavailable):
            await renderer.check("g", "sleep", "cloud-config")

    run(script, SubprocessRenderer(STUB, seconds=0.5))
    run(script, SubprocessRenderer(("/nonexistent/program",)))
    run(script, SubprocessRenderer((sys.executable, "-c", "raise SystemExit(3)"), seconds=20))
