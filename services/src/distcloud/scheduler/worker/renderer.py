"""Checks and renders metadata parts in a bounded child process, because a small template or document may cost a lot of time or memory."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Final, Protocol

from ...common.control.keyed_breaker import KeyedCircuitBreaker
from ...common.control.supervise import ChildError, ChildExited, JsonChild
from .parts import MetadataPart, RenderedPart, UserDataError, check_part, oversize, render_part

_COMMAND: Final = (sys.executable, "-m", "distcloud.scheduler.worker.render_child")
# Wall-clock seconds for a part with the wait for its turn, for a machine that hangs; the child's own timer limits its CPU time.
_ANSWER_TIMEOUT: Final = 30.0
_MAX_CPU_SECONDS: Final = 3.0  # for all parts of one worker
# Sent from outside: by the administrator, or by the kernel when memory is short. The first one is not blamed on the part.
_EXTERNAL_SIGNALS: Final = frozenset(-number for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))


class RenderingUnavailable(Exception):
    """Parts cannot be checked or rendered now; the message says why."""


class PartRenderer(Protocol):
    """Checks and renders metadata parts. `whose` names the one who is to wait when such parts are slow: a group, or a cloud."""

    async def check(self, whose: str, content: str, mime_type: str) -> str:
        """What is wrong with a part that is about to be stored, or an empty string. Raises RenderingUnavailable."""
        ...

    async def render(self, whose: str, parts: Sequence[MetadataPart], values: Mapping[str, str]) -> list[RenderedPart]:
        """The parts for a worker with these template variables. Raises UserDataError, RenderingUnavailable."""
        ...


class InProcessRenderer:
    """Renders in this process, which waits for slow parts."""

    async def check(self, whose: str, content: str, mime_type: str) -> str:
        return oversize(content) or check_part(content, mime_type)

    async def render(self, whose: str, parts: Sequence[MetadataPart], values: Mapping[str, str]) -> list[RenderedPart]:
        return [render_part(part, values) for part in parts]


class SubprocessRenderer:
    """A `PartRenderer` that works in one child process, part after part; whoever has many parts takes turns with the others.

    One whose parts end the child repeatedly is refused for a while.
    """

    def __init__(
        self,
        command: Sequence[str] = _COMMAND,
        *,
        seconds: float = _ANSWER_TIMEOUT,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._child = JsonChild("rendering of metadata", command)
        self._seconds = seconds
        self._failing = KeyedCircuitBreaker(monotonic, jitter)
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiting: dict[str, int] = defaultdict(int)

    @property
    def starts(self) -> int:
        """How often the child was started."""
        return self._child.starts

    async def check(self, whose: str, content: str, mime_type: str) -> str:
        if too_long := oversize(content):
            return too_long
        try:
            answer = await self._ask(whose, {"ask": "check", "content": content, "mime_type": mime_type})
        except UserDataError as error:
            return str(error)
        return str(answer["error"])

    async def render(self, whose: str, parts: Sequence[MetadataPart], values: Mapping[str, str]) -> list[RenderedPart]:
        rendered: list[RenderedPart] = []
        spent = 0.0
        for part in parts:
            try:
                answer = await self._ask(whose, {"ask": "render", "part": asdict(part), "values": dict(values)})
            except UserDataError as error:
                raise UserDataError(f"{part.label}: {error}") from error
            if answer["error"]:
                raise UserDataError(str(answer["error"]), str(answer["detail"]))
            spent += float(answer["cpu_seconds"])
            if spent > _MAX_CPU_SECONDS:
                raise UserDataError(f"{part.label} and those before it take longer than {_MAX_CPU_SECONDS:g} s to render; simplify them")
            rendered.append(RenderedPart(**answer["rendered"]))
        return rendered

    async def close(self) -> None:
        """End the child; the next call starts a new one."""
        await self._child.close()

    async def _ask(self, whose: str, request: Mapping[str, Any]) -> Any:
        """Raises UserDataError if the part ends the child."""
        try:
            async with asyncio.timeout(self._seconds), self._turn(whose):
                if wait := self._failing.wait(whose):
                    why = f"because of other parts: {self._failing.error(whose)}"
                    raise RenderingUnavailable(f"metadata of {whose} is not rendered for another {wait:.0f} s, {why}")
                return await self._ask_in_turn(whose, request)
        except TimeoutError as error:
            raise RenderingUnavailable(f"metadata of {whose} was not rendered within {self._seconds:g} s; the machine is busy") from error

    async def _ask_in_turn(self, whose: str, request: Mapping[str, Any]) -> Any:
        for last in (False, True):
            try:
                answer = await self._child.ask(request, self._seconds)
            except ChildExited as error:
                if error.code in _EXTERNAL_SIGNALS and not last:
                    continue
                if error.code >= 0:  # it ended by itself, so it is not the part
                    raise RenderingUnavailable(str(error)) from error
                slow = error.code == -signal.SIGPROF
                why = "takes too long to render" if slow else f"cannot be rendered: the process ended ({error.code})"
                self._failing.failed(whose, why)
                raise UserDataError(f"{why}; simplify it") from error
            except ChildError as error:
                if not last:
                    continue
                raise RenderingUnavailable(str(error)) from error
            self._failing.succeeded(whose)
            return answer
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def _turn(self, whose: str) -> AsyncIterator[None]:
        """One request of each at a time: the child serves those that wait in the order in which they came."""
        self._waiting[whose] += 1
        try:
            async with self._turns[whose]:
                yield
        finally:
            self._waiting[whose] -= 1
            if not self._waiting[whose]:
                del self._waiting[whose], self._turns[whose]
