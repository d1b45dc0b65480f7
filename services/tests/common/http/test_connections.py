"""Misbehaving clients of the HTTP server: they send nothing, too little or too much, or never read."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from distcloud.common.http import connections, server
from distcloud.common.http.connections import Admissions, client_of

from .serving import GET, HELLO, Loop, read_to_end, run


@pytest.mark.parametrize("sent", [b"", b"GET / HTT", GET + b"GET /"], ids=["nothing", "half", "half after one"])
def test_client_without_a_request_is_disconnected(loop: Loop, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.2)

    async def script(address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(sent)
        received = await read_to_end(reader)
        assert received.startswith(b"HTTP/1.1 200") == sent.startswith(GET)
        writer.close()

    run(loop, script)


@pytest.mark.parametrize("drip", [b"\r\n", b"a: b\r\n"], ids=["empty lines", "headers"])
def test_dripping_bytes_do_not_extend_the_deadline(loop: Loop, drip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)

    async def script(address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\n" if drip != b"\r\n" else b"")
        ended = asyncio.create_task(read_to_end(reader))
        while not ended.done():
            with contextlib.suppress(ConnectionError):
                writer.write(drip)
                await writer.drain()
            await asyncio.sleep(0.05)
        writer.close()

    run(loop, script)


def test_slow_response_is_not_cut_off(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.1)
    app = FastAPI()

    @app.get("/")
    async def slow() -> str:
        await asyncio.sleep(0.6)
        return "done"

    async def script(address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert b'"done"' in await read_to_end(reader)
        writer.close()

    run(loop, script, app)


def test_one_client_cannot_take_all_connections(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_PER_CLIENT", 3)

    async def script(address: tuple[str, int]) -> None:
        held = [await asyncio.open_connection(*address) for _ in range(3)]
        reader, writer = await asyncio.open_connection(*address)
        assert await read_to_end(reader) == b""
        writer.close()
        held[0][1].write(GET)
        assert b" 200 OK" in await asyncio.wait_for(held[0][0].readline(), 60), "admitted connections are served"
        held.pop()[1].close()
        while True:  # the closed one makes room
            reader, writer = await asyncio.open_connection(*address)
            with contextlib.suppress(ConnectionError):
                writer.write(GET)
                if b" 200 OK" in await asyncio.wait_for(reader.readline(), 60):
                    break
            await asyncio.sleep(0.05)
        for _, each in held:
            each.close()

    run(loop, script)


def test_connections_in_their_handshake_are_counted_and_ended(
    loop: Loop, certificate: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_PER_CLIENT", 2)
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 1.0)
    context = ssl.create_default_context(cafile=str(certificate["tls_certificate"]))

    async def script(address: tuple[str, int]) -> None:
        silent = [await asyncio.open_connection(*address) for _ in range(2)]
        reader, writer = await asyncio.open_connection(*address)
        assert await read_to_end(reader) == b"", "a third one is closed while two are in their handshake"
        writer.close()
        for reader, writer in silent:
            assert await read_to_end(reader) == b""
            writer.close()
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname="localhost")
                break
            await asyncio.sleep(0.05)
        writer.write(GET)
        assert b" 200 OK" in await asyncio.wait_for(reader.readline(), 60)
        writer.close()

    run(loop, script, HELLO, **certificate)


@pytest.mark.parametrize("head", [b"a: " + b"x" * 200_000, b"a: b\r\n" * 500 + b"\r\n"], ids=["one long header", "many headers"])
def test_oversized_head_is_refused(loop: Loop, head: bytes) -> None:
    async def script(address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\n" + head)
        assert (await read_to_end(reader)).startswith(b"HTTP/1.1 431 ")
        writer.close()

    run(loop, script)


def test_head_is_counted_without_the_body_before_it(loop: Loop) -> None:
    app = FastAPI()

    @app.post("/")
    async def size(request: Request) -> int:
        return len(await request.body())

    async def script(address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000 + b"POST / HTTP/1.1\r\nHo")
        assert (await asyncio.wait_for(reader.readuntil(b"200000"), 60)).startswith(b"HTTP/1.1 200")
        writer.write(b"st: x\r\nContent-Length: 1\r\n\r\nx")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n1"), 60)).startswith(b"HTTP/1.1 200")
        writer.close()

    run(loop, script, app)


def test_trailers_end_the_connection(loop: Loop) -> None:
    async def script(address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        ended = asyncio.create_task(read_to_end(reader))
        sent = 0
        while not ended.done() and sent < 20_000_000:
            with contextlib.suppress(ConnectionError, RuntimeError):
                writer.write(b"a1: b\r\n" * 1000)
                await writer.drain()
            sent += 7000
            await asyncio.sleep(0)
        assert ended.done() and sent < 20_000_000
        writer.close()

    run(loop, script)


def test_this_machine_has_connections_of_its_own() -> None:
    admissions = Admissions(2, 2, loopback_reserve=1)
    assert admissions.admit("192.0.2.1") and admissions.admit("192.0.2.2")
    assert admissions.admit("192.0.2.3") is None
    assert admissions.admit("127.0.0.1") and admissions.admit("127.0.0.1") is None


def test_pipelined_requests_are_answered_in_order_and_limited(loop: Loop) -> None:
    async def script(address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(GET * 10)
        for _ in range(10):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            assert head.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(5) == b"hello"
        writer.close()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(GET * 3000)
        assert (await read_to_end(reader)).count(b"200 OK") < 100
        writer.close()

    run(loop, script)


def test_client_that_does_not_read_is_disconnected(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SEND_SECONDS", 0.3)

    async def script(address: tuple[str, int]) -> None:
        with socket.create_connection(address) as sock:
            sock.setblocking(False)
            running = asyncio.get_running_loop()
            await running.sock_sendall(sock, GET)
            await asyncio.sleep(1.5)
            received = 0
            with contextlib.suppress(ConnectionResetError):
                while chunk := await asyncio.wait_for(running.sock_recv(sock, 1_000_000), 60):
                    received += len(chunk)
            assert received < 50_000_000

    run(loop, script, PlainTextResponse(b"x" * 50_000_000))


PIECES = [
    GET,
    b"POST / HTTP/1.1\r\n",
    b"Host: x\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"\r\n",
    b"5\r\nhello\r\n",
]
PIECES += [b"0\r\n\r\n", b"Upgrade: websocket\r\nConnection: upgrade\r\n", b"CONNECT x:1 HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
PIECES += [b"GET \xff HTTP/1.1\r\n", b"GET http://[::1 HTTP/1.1\r\n", b"\x00", b"\x16\x03\x01"]


def test_server_survives_any_bytes(loop: Loop) -> None:
    async def script(address: tuple[str, int]) -> None:
        generator = random.Random(7)
        for _ in range(300):
            reader, writer = await asyncio.open_connection(*address)
            with contextlib.suppress(ConnectionError):
                writer.write(b"".join(generator.choices(PIECES, k=generator.randint(1, 8))))
                writer.write_eof()
                await asyncio.wait_for(reader.read(), 60)
            writer.close()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(GET)
        assert b" 200 OK" in await asyncio.wait_for(reader.readline(), 60)
        writer.close()

    run(loop, script)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
@settings(deadline=None)
def test_admissions_never_exceed_their_limits(steps: list[tuple[str, bool]]) -> None:
    admissions = Admissions(4, 2)
    held: dict[str, list[Callable[[], None]]] = {"a": [], "b": [], "c": []}
    for client, opens in steps:
        if opens:
            release = admissions.admit(client)
            total = sum(map(len, held.values()))
            assert (release is None) == (total >= 4 or len(held[client]) >= 2)
            if release:
                held[client].append(release)
        elif held[client]:
            release = held[client].pop()
            release()
            release()  # a second call has no effect
        assert len(admissions) == sum(map(len, held.values()))


def test_client_is_ipv4_address_or_ipv6_network() -> None:
    assert client_of(("192.0.2.1", 5)) == client_of(("192.0.2.1", 6)) == client_of(("::ffff:192.0.2.1", 7, 0, 0))
    assert client_of(("192.0.2.1", 5)) != client_of(("192.0.2.2", 5))
    assert client_of(("2001:db8::1", 1, 0, 0)) == client_of(("2001:db8::ffff:2", 1, 0, 0))
    assert client_of(("2001:db8::1", 1, 0, 0)) != client_of(("2001:db8:0:1::1", 1, 0, 0))
    assert client_of(("fe80::1%eth0", 1, 0, 2)) and client_of("") == "local"
