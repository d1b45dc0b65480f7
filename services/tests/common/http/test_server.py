"""The server notifies the service manager when it serves, and not before."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from fastapi import FastAPI

from distcloud.common.config import ListenSettings
from distcloud.common.http.server import bind, serve
from distcloud.common.systemd import watchdog


@pytest.mark.parametrize("abstract", [False, True])
def test_notifies_ready_when_it_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
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


def test_unreachable_service_manager_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/nobody")

    async def main() -> None:
        stop = asyncio.Event()
        stop.set()
        listen = ListenSettings(port=1)
        await serve(FastAPI(), listen, stop, sock=bind(listen.model_copy(update={"port": 0})))

    asyncio.run(main())


def test_watchdog_is_pinged_until_stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_no_watchdog_no_pings(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asyncio.run(asyncio.wait_for(watchdog(lambda: "", asyncio.Event()), 60))
