"""Runs an application behind the real server while a script of a client talks to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from distcloud.common.config import ListenSettings
from distcloud.common.http.server import bind, serve

Script = Callable[[tuple[str, int]], Awaitable[None]]
Loop = Callable[[], asyncio.AbstractEventLoop]
HELLO = PlainTextResponse("hello")
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def run(loop: Loop, script: Script, app: ASGIApp = HELLO, **tls: Path) -> None:
    async def main() -> None:
        stop = asyncio.Event()
        listen = ListenSettings.model_validate({"port": 1, **tls})
        sock = bind(listen.model_copy(update={"port": 0}))
        serving = asyncio.create_task(serve(app, listen, stop, sock=sock))
        try:
            await asyncio.wait_for(script(sock.getsockname()), 60)
        finally:
            stop.set()
            await serving

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(ConnectionResetError):
        return await asyncio.wait_for(reader.read(), 60)
    return b""
