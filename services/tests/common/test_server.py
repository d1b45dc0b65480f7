"""The server tells the service manager when it serves, and not before."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from fastapi import FastAPI

from distcloud.common import server
from distcloud.common.config import ListenSettings
from distcloud.common.server import bind, serve, watchdog


@pytest.mark.parametrize("abstract", [False, True])
def test_ready_is_told_when_it_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    address = f"@{tmp_path}/notify" if abstract else f"{tmp_path}/notify"
    monkeypatch.setenv("NOTIFY_SOCKET", address)

    async def main() -> None:
        stop = asyncio.Event()
        listen = ListenSettings(port=1)
        sock = bind(listen.model_copy(update={"port": 0}))
        serving = asyncio.create_task(serve(FastAPI(), listen, stop, sock=sock))
        assert await asyncio.wait_for(asyncio.to_thread(manager.recv, 100), 60) == b"READY=1"
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        writer.write(b"GET /openapi.json HTTP/1.0\r\n\r\n")
        assert b" 200 OK" in await asyncio.wait_for(reader.readline(), 60)
        writer.close()
        stop.set()
        await serving

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(60)
        manager.bind(address.replace("@", "\0", 1))
        asyncio.run(main())


@pytest.mark.parametrize("sends", [b"", b"GET / HTT", b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\nGET /"], ids=["nothing", "half", "once"])
def test_a_client_that_says_nothing_more_is_let_go(monkeypatch: pytest.MonkeyPatch, sends: bytes) -> None:
    monkeypatch.setattr(server, "QUIET_SECONDS", 0.2)

    async def script(address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(sends)
        told = b""
        with contextlib.suppress(ConnectionResetError):
            told = await asyncio.wait_for(reader.read(), 60)  # to the end of the connection
        assert told.startswith(b"HTTP/1.1 200" if sends.endswith(b"GET /") else b"")
        writer.close()

    _serve(FastAPI(), script)


def test_a_request_that_takes_its_time_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "QUIET_SECONDS", 0.1)
    app = FastAPI()

    @app.get("/slow")
    async def slow() -> str:
        await asyncio.sleep(0.6)
        return "done"

    async def script(address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET /slow HTTP/1.0\r\n\r\n")
        assert b'"done"' in await asyncio.wait_for(reader.read(), 60)
        writer.close()

    _serve(app, script)


def test_one_client_cannot_take_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_OF_ONE_CLIENT", 3)
    monkeypatch.setattr(server, "QUIET_SECONDS", 600.0)

    async def script(address: tuple[str, int]) -> None:
        held = [await asyncio.open_connection(*address) for _ in range(3)]
        reader, writer = await asyncio.open_connection(*address)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 60) == b""
        reader, writer = held[0]
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 OK" in await asyncio.wait_for(reader.readline(), 60), "those that it has are served"
        for _, each in held:
            each.close()

    _serve(FastAPI(), script)


def _serve(app: FastAPI, script: Callable[[tuple[str, int]], Awaitable[None]]) -> None:
    async def main() -> None:
        stop = asyncio.Event()
        listen = ListenSettings(port=1)
        sock = bind(listen.model_copy(update={"port": 0}))
        serving = asyncio.create_task(serve(app, listen, stop, sock=sock))
        try:
            await script(sock.getsockname())
        finally:
            stop.set()
            await serving

    asyncio.run(main())


def test_a_manager_that_is_gone_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/nobody")

    async def main() -> None:
        stop = asyncio.Event()
        stop.set()
        listen = ListenSettings(port=1)
        await serve(FastAPI(), listen, stop, sock=bind(listen.model_copy(update={"port": 0})))

    asyncio.run(main())


def test_the_watchdog_hears_of_a_service_that_is_not_stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "60000")
    asked: list[int] = []
    enough = asyncio.Event()

    def stuck() -> str:
        asked.append(1)
        if len(asked) > 4:
            enough.set()
        return "it hangs" if len(asked) > 2 else ""

    async def main() -> None:
        stop = asyncio.Event()
        watching = asyncio.create_task(watchdog(stuck, stop))
        await asyncio.wait_for(enough.wait(), 60)
        stop.set()
        await asyncio.wait_for(watching, 60)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(1)
        manager.bind(f"{tmp_path}/notify")
        asyncio.run(main())
        assert [manager.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(100)


@pytest.mark.parametrize("environment", [{}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "60000", "WATCHDOG_PID": "1"}])
def test_without_a_watchdog_of_its_own_nothing_is_watched(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asyncio.run(asyncio.wait_for(watchdog(lambda: "", asyncio.Event()), 60))
