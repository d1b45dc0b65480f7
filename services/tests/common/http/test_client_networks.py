"""Who counts as one client: an IPv4 address, mapped to IPv6 or not, and the /64 network of an IPv6 address."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest
from httpx2 import ASGITransport, AsyncClient

from distcloud.common.config import ListenSettings
from distcloud.common.http import server
from distcloud.common.http.server import serve

from .serving import GET, HELLO, read_to_end
from .test_http import Service

SAME = [
    ("2001:db8::1", "2001:db8::ffff:2"),
    ("2001:db8:0:1::", "2001:db8:0:1:ffff:ffff:ffff:ffff"),
    ("fe80::1%eth0", "fe80::2%eth1"),
    ("192.0.2.1", "::ffff:192.0.2.1"),
    ("::ffff:192.0.2.1", "::ffff:c000:201"),
]
OTHER = [
    ("2001:db8:0:1::1", "2001:db8:0:2::1"),
    ("192.0.2.1", "192.0.2.2"),
    ("::ffff:192.0.2.1", "::ffff:192.0.2.2"),
    ("192.0.2.1", "::ffff:192.0.2.2"),
]
PAIRS = pytest.mark.parametrize(("first", "second", "same"), [(*pair, True) for pair in SAME] + [(*pair, False) for pair in OTHER])


@PAIRS
def test_one_network_has_one_request_rate(first: str, second: str, same: bool) -> None:
    with asyncio.Runner() as runner:
        app = Service(runner, per_second=1e-6, burst=2).app

        async def status(address: str) -> int:
            async with AsyncClient(transport=ASGITransport(app=app, client=(address, 5)), base_url="http://test") as client:
                return (await client.get("/healthz")).status_code

        assert [runner.run(status(address)) for address in (first, first, first, second)] == [200, 200, 429, 429 if same else 200]


def run(script: Callable[[int], Any], listener: socket.socket, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        stop = asyncio.Event()
        serving = asyncio.create_task(serve(HELLO, ListenSettings(port=1), stop, sock=listener))
        try:
            await asyncio.wait_for(script(listener.getsockname()[1]), 60)
        finally:
            stop.set()
            await serving

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


async def is_served(port: int, source: str, stack: contextlib.ExitStack) -> bool:
    """Whether a connection from this address of the loopback gets a response; it stays open until the stack is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    stack.callback(writer.close)
    with contextlib.suppress(ConnectionError):
        writer.write(GET)
        line = await asyncio.wait_for(reader.readline(), 60)
        return b" 200 OK" in line
    return (await read_to_end(reader)) != b""


@PAIRS
def test_one_network_has_one_connection_limit(first: str, second: str, same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_PER_CLIENT", 1)
    peers = {"127.0.0.2": first, "127.0.0.3": second}

    class Loop(asyncio.SelectorEventLoop):
        """Gives the server other peer addresses than those of the loopback."""

        async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
            connection, address = await super().sock_accept(sock)
            return connection, (peers[address[0]], address[1])

    async def script(port: int) -> None:
        with contextlib.ExitStack() as stack:
            assert await is_served(port, "127.0.0.2", stack)
            assert await is_served(port, "127.0.0.3", stack) is not same

    run(script, socket.create_server(("127.0.0.1", 0)), Loop)


def test_dual_stack_listener_counts_ipv4_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_PER_CLIENT", 1)

    async def script(port: int) -> None:
        with contextlib.ExitStack() as stack:
            assert await is_served(port, "127.0.0.2", stack)
            assert await is_served(port, "127.0.0.3", stack)
            assert not await is_served(port, "127.0.0.2", stack)

    run(script, socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True), asyncio.new_event_loop)
