"""How connections end: a refusal reaches clients that are still sending, and idle clients do not delay the stop."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from distcloud.common.config import ListenSettings
from distcloud.common.http import connections
from distcloud.common.http.server import bind, serve

from .serving import GET, HELLO, Loop, read_to_end, run


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("too large", 413, {"Connection": "close"})(scope, receive, send)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_refusal_reaches_client_that_sends_a_large_body(loop: Loop, tls: bool, certificate: dict[str, Path]) -> None:
    def put(address: tuple[str, int]) -> tuple[int, bytes]:
        if tls:
            context = ssl.create_default_context(cafile=str(certificate["tls_certificate"]))
            client: http.client.HTTPConnection = http.client.HTTPSConnection("localhost", address[1], timeout=60, context=context)
        else:
            client = http.client.HTTPConnection(*address, timeout=60)
        with contextlib.closing(client):
            client.request("PUT", "/", b"x" * 20_000_000)
            response = client.getresponse()
            return response.status, response.read()

    async def script(address: tuple[str, int]) -> None:
        for _ in range(3):
            assert await asyncio.to_thread(put, address) == (413, b"too large")

    run(loop, script, refuse, **(certificate if tls else {}))


@pytest.mark.parametrize("limit", ["LINGER_SECONDS", "LINGER_BYTES"])
def test_client_that_never_stops_sending_is_disconnected(loop: Loop, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LINGER_SECONDS", 60.0)
    monkeypatch.setattr(connections, limit, {"LINGER_SECONDS": 0.2, "LINGER_BYTES": 1_000_000}[limit])

    async def script(address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n")
        assert b" 413 " in await asyncio.wait_for(reader.readline(), 60)
        with pytest.raises(ConnectionError):
            while True:
                writer.write(b"x" * (100_000 if limit == "LINGER_BYTES" else 10))
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()

    run(loop, script, refuse)


class Silent:
    """A client that has got one response and reads nothing any more, not even the end of TLS."""

    def __init__(self, address: tuple[str, int], tls: dict[str, Path]) -> None:
        self.socket: Any = socket.create_connection(address)
        if tls:
            context = ssl.create_default_context(cafile=str(tls["tls_certificate"]))
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.socket.sendall(GET)
        assert self.socket.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_idle_client_does_not_delay_the_stop(loop: Loop, tls: bool, certificate: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.2)
    files = certificate if tls else {}

    async def main() -> None:
        stop = asyncio.Event()
        listen = ListenSettings.model_validate({"port": 1, **files})
        sock = bind(listen.model_copy(update={"port": 0}))
        serving = asyncio.create_task(serve(HELLO, listen, stop, sock=sock))
        client = await asyncio.to_thread(Silent, sock.getsockname(), files)
        stop.set()
        # The server cancels its tasks after ten seconds: it must not come to that.
        await asyncio.wait_for(asyncio.shield(serving), 8)
        client.socket.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


def test_request_under_way_is_answered_before_the_stop(loop: Loop) -> None:
    began = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        began.set()
        await asyncio.sleep(2 * connections.LINGER_SECONDS)
        await HELLO(scope, receive, send)

    async def main() -> None:
        stop = asyncio.Event()
        listen = ListenSettings(port=1)
        sock = bind(listen.model_copy(update={"port": 0}))
        serving = asyncio.create_task(serve(slow, listen, stop, sock=sock))
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        writer.write(GET)
        await asyncio.wait_for(began.wait(), 60)
        stop.set()
        assert (await read_to_end(reader)).endswith(b"hello")
        writer.close()
        await serving

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_wildcard_listens_on_both_versions_of_ip(certificate: dict[str, Path]) -> None:
    with bind(ListenSettings.model_validate({"host": "::", "port": 1, **certificate}).model_copy(update={"port": 0})) as listening:
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, listening.getsockname()[1]), timeout=60).close()
