"""Child processes that may hang: requests are lines of JSON; a child that does not respond in time is killed and replaced.

Libraries that block without a timeout (HTCondor's bindings) run in such a child; the service itself never blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_ANSWER_LIMIT = 64 * 1024 * 1024  # one line: ten thousand grouped jobs are a few MiB
_LINE_LIMIT = 64 * 1024  # of a command whose output is read as a whole: asyncio's own
_ERROR_KEPT = 4096
_ERROR_SHOWN = 300


class ChildError(Exception):
    """The child returned an error, died, or did not respond in time; the message says which."""


class ChildTimeout(ChildError):
    """No response within the time allowed; the child has been killed."""


class ChildExited(ChildError):
    """The child ended before it answered. `code` is its return code, negative for a signal."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class JsonChild:
    """One child process that answers each request line with one response line: {"result": ...} or {"error": "..."}.

    Requests are served one after the other; `child.serve` is the other side. The child is started on the first request, and again after
    it died or was killed.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._command = tuple(command)
        self._environment = dict(environment or {})
        self._process: asyncio.subprocess.Process | None = None
        self._errors: asyncio.Task[None] | None = None
        self._stderr_tail = bytearray()
        self._lock = asyncio.Lock()
        self.starts = 0

    async def ask(self, request: Mapping[str, Any], seconds: float) -> Any:
        """Raises ChildTimeout or ChildError. `seconds` bounds the whole call, including the wait for earlier requests."""
        try:
            async with asyncio.timeout(seconds), self._lock:
                try:
                    return await self._exchange(request)
                except (asyncio.CancelledError, OSError, ValueError):
                    # After a half-finished exchange the next response would belong to the wrong request.
                    self._kill()
                    raise
        except TimeoutError as error:
            raise ChildTimeout(f"{self.name}: no answer within {seconds:g} s") from error
        except (OSError, ValueError) as error:
            raise ChildError(f"{self.name}: {error}") from error

    async def _exchange(self, request: Mapping[str, Any]) -> Any:
        process = await self._running()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(request).encode("utf-8") + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
        if not line.endswith(b"\n"):
            errors = self._errors
            self._kill()
            code = await process.wait()
            if errors is not None:
                await asyncio.wait([errors])
            message = " ".join(self._stderr_tail.decode("utf-8", "replace").split())[-_ERROR_SHOWN:]
            raise ChildExited(f"{self.name}: the child process ended ({code}) {message}".rstrip(), code)
        answer = json.loads(line)
        if "error" in answer:
            raise ChildError(f"{self.name}: {answer['error']}")
        return answer.get("result")

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        self._stderr_tail.clear()
        self.starts += 1
        self._process = await _start(self._command, self._environment, stdin=asyncio.subprocess.PIPE, limit=_ANSWER_LIMIT)
        self._errors = asyncio.create_task(self._read_stderr(self._process))
        return self._process

    async def _read_stderr(self, process: asyncio.subprocess.Process) -> None:
        """Keeps the end of stderr, so that a full pipe never blocks the child and its death can be explained."""
        assert process.stderr is not None
        while chunk := await process.stderr.read(4096):
            self._stderr_tail.extend(chunk)
            del self._stderr_tail[:-_ERROR_KEPT]

    def _kill(self) -> None:
        """Kills the child and drops it at once: until it is reaped it would still look alive."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            _kill_group(process)

    async def close(self) -> None:
        process = self._process
        self._kill()
        if process is not None:
            await process.wait()
        if self._errors is not None:
            await asyncio.wait([self._errors])


async def _start(
    command: Sequence[str], environment: Mapping[str, str], *, stdin: int, limit: int = _LINE_LIMIT
) -> asyncio.subprocess.Process:
    """Starts a command in its own process group, so that its children die with it, also when the start is cancelled."""
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,
            limit=limit,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # asyncio would kill the command alone and leave the processes that it started.
        with contextlib.suppress(OSError):  # it could not be started, so there is nothing to kill
            process = await starting
            _kill_group(process)
            await process.wait()
        raise


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Finished:
    """A completed command."""

    code: int
    output: str
    errors: str


async def run_command(
    command: Sequence[str], *, seconds: float, environment: Mapping[str, str] | None = None, stdin: bytes | None = None
) -> Finished:
    """Runs one command without a shell; kills its whole process group when it takes longer than `seconds` (ChildTimeout)."""
    try:
        process = await _start(
            command, environment or {}, stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL
        )
    except OSError as error:
        raise ChildError(f"{command[0]}: cannot be started: {error}") from error
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate(stdin)
    except (TimeoutError, asyncio.CancelledError) as error:
        _kill_group(process)
        await process.wait()
        if isinstance(error, TimeoutError):
            raise ChildTimeout(f"{command[0]}: not finished within {seconds:g} s") from error
        raise
    assert process.returncode is not None
    return Finished(process.returncode, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace"))
