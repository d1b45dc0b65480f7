"""The real HTTP client in front of real servers: a cloud that sends bombs, or leads to services of the scheduler's own host."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from distcloud.openstack import CloudError, Credential, EndpointPolicy, ErrorKind, OpenStackClient
from distcloud.openstack import transport as transport_module
from distcloud.openstack.addresses import EndpointRefused
from distcloud.openstack.credential import Credential as Account
from distcloud.openstack.decoding import AnswerTooLarge
from distcloud.openstack.http import fetch, new_client
from distcloud.openstack.transport import GuardedBackend

LOCAL = EndpointPolicy(local=True)
MIB = 2**20


class Peer:
    """A TCP server on loopback that sends `answer` to whoever connects; counts connections and received bytes."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.connections = 0
        self.received = b""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.received += await reader.read(65536)
        writer.write(self.answer)
        writer.close()


@asynccontextmanager
async def listening(*peers: Peer) -> AsyncIterator[None]:
    servers = [await asyncio.start_server(peer.serve, "127.0.0.1", 0) for peer in peers]
    for peer, server in zip(peers, servers, strict=True):
        peer.port = server.sockets[0].getsockname()[1]
    yield
    for server in servers:
        server.close()


def response(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\n{named}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def run(script: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await script()

    asyncio.run(main())


def bomb(size: int, layers: int) -> bytes:
    squeeze = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    found = b"".join(squeeze.compress(bytes(MIB)) for _ in range(size)) + squeeze.flush()
    for _ in range(layers - 1):
        squeeze = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
        found = squeeze.compress(found) + squeeze.flush()
    return found


@pytest.mark.parametrize("layers", [1, 2])
def test_bomb_costs_no_more_memory_than_largest_answer(layers: int) -> None:
    peer = Peer(response(bomb(150, layers), Content_Encoding=", ".join(["gzip"] * layers)))

    async def script() -> None:
        client = new_client(Account("atlas/east", {}), 30, LOCAL)
        async with listening(peer):
            tracemalloc.start()
            with pytest.raises(Exception) as caught:
                await fetch(client, "GET", f"http://127.0.0.1:{peer.port}/", seconds=30)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        await client.aclose()
        assert peak < 20 * MIB
        assert "not asked for" in str(caught.value) if layers > 1 else isinstance(caught.value, AnswerTooLarge)

    run(script)
    assert b"accept-encoding: identity" in peer.received.lower()


def keystone(*endpoints: tuple[str, str]) -> Peer:
    catalog = [{"type": kind, "endpoints": [{"interface": "public", "region_id": "r1", "url": url}]} for kind, url in endpoints]
    token = {"expires_at": "2099-01-01T00:00:00Z", "project": {"id": "p1"}, "catalog": catalog}
    return Peer(response(json.dumps({"token": token}).encode(), "201 Created", X_Subject_Token="t"))


async def refusal(auth_url: str, policy: EndpointPolicy = LOCAL) -> CloudError:
    client = OpenStackClient(Credential("atlas/east", {"auth_url": auth_url}, region="r1"), seconds=10, endpoints=policy)
    try:
        with pytest.raises(CloudError) as caught:
            await client.call("GET", "image", "images")
    finally:
        await client.close()
    return caught.value


def test_local_auth_url_is_not_contacted() -> None:
    peer = Peer(response(b"secret of a local service", "404 Not Found"))

    async def script() -> None:
        async with listening(peer):
            for host in ("127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]"):
                error = await refusal(f"http://{host}:{peer.port}", EndpointPolicy())
                assert error.kind is ErrorKind.AUTH and error.no_effect and "own host or link" in str(error)

    run(script)
    assert peer.connections == 0


@pytest.mark.parametrize(
    "answer",
    [
        response(b"secret of another service", "404 Not Found"),
        response(b"<html>secret</html>", "500 Internal Server Error"),
        response(b'{"secret": "secret"}', "403 Forbidden"),
        response(b'["secret"]', "400 Bad Request"),
        response(b"secret", "302 Found", Location="http://127.0.0.1:1/secret"),
        response(b"secret", Content_Encoding="secret"),
        response(b"secret"),
        b"SSH-2.0-secret\r\n",
        b"HTTP/1.1 secret\r\n\r\n",
    ],
)
def test_answer_of_another_service_is_not_quoted(answer: bytes) -> None:
    peer = Peer(answer)

    async def script() -> None:
        async with listening(peer):
            login = keystone(("image", f"http://127.0.0.1:{peer.port}"))
            async with listening(login):
                error = await refusal(f"http://127.0.0.1:{login.port}")
                assert "secret" not in str(error)

    run(script)
    assert peer.connections == 1


def test_redirect_is_not_followed() -> None:
    target = Peer(response(b"{}"))

    async def script() -> None:
        async with listening(target):
            moved = Peer(response(b"", "307 Temporary Redirect", Location=f"http://127.0.0.1:{target.port}/"))
            async with listening(moved):
                login = keystone(("image", f"http://127.0.0.1:{moved.port}"))
                async with listening(login):
                    assert "unexpected status 307" in str(await refusal(f"http://127.0.0.1:{login.port}"))
                assert "answered 307" in str(await refusal(f"http://127.0.0.1:{moved.port}"))

    run(script)
    assert target.connections == 0


def test_name_of_local_address_is_refused_before_connecting() -> None:
    peer = Peer(b"")

    async def script() -> None:
        async with listening(peer):
            for host in ("localhost", "127.0.0.1", "2130706433"):
                with pytest.raises(EndpointRefused):
                    await GuardedBackend(EndpointPolicy()).connect_tcp(host, peer.port)

    run(script)
    assert peer.connections == 0


def test_name_that_changes_its_address_gets_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async def elsewhere(host: str, port: int) -> list[str]:
        return ["203.0.113.7"]

    monkeypatch.setattr(transport_module, "_resolve", elsewhere)
    peer = Peer(response(b"{}"))

    async def script() -> None:
        client = new_client(Account("atlas/east", {}), 10, EndpointPolicy())
        async with listening(peer):
            with pytest.raises(EndpointRefused):
                await fetch(client, "GET", f"http://localhost:{peer.port}/", seconds=10)
            await client.aclose()
            await asyncio.sleep(0.1)

    run(script)
    assert peer.received == b""
