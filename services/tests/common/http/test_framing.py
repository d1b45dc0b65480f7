"""Requests that a proxy might delimit differently than the server: each gets one response, and nothing after it is executed."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from distcloud.common.config import ServiceSettings, check
from distcloud.common.http.app import CallerDep, create_app
from distcloud.common.http.auth import Caller, digest_of
from distcloud.common.http.heads import refusal_of
from distcloud.common.http.report import Report

from .serving import Loop, read_to_end, run

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
PUT = b"PUT /outer HTTP/1.1\r\nHost: x\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


class Recorder:
    """An application that remembers which requests it executed, with their bodies. `/slow` takes a while."""

    def __init__(self) -> None:
        self.executed: list[tuple[str, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        if scope["path"] == "/slow":
            await asyncio.sleep(0.3)
        self.executed.append((scope["path"], body))
        await PlainTextResponse(scope["path"])(scope, receive, send)


def exchange(loop: Loop, *conversations: Sequence[bytes], app: Any = None) -> tuple[list[list[bytes]], list[tuple[str, bytes]]]:
    """Send the parts of each conversation with pauses, on connections side by side, until the server closes them.

    Returns the status codes of all responses of each conversation, and what was executed.
    """
    recorder = Recorder()
    statuses: list[list[bytes]] = []

    async def converse(address: tuple[str, int], parts: Sequence[bytes]) -> list[bytes]:
        reader, writer = await asyncio.open_connection(*address)
        ended = asyncio.create_task(read_to_end(reader))
        for part in parts:
            with contextlib.suppress(ConnectionError):
                writer.write(part)
                await writer.drain()
            await asyncio.sleep(0.1)
        received = await ended
        writer.close()
        return re.findall(rb"HTTP/1\.1 (\d{3}) ", received)

    async def script(address: tuple[str, int]) -> None:
        statuses.extend(await asyncio.gather(*(converse(address, parts) for parts in conversations)))

    run(loop, script, app or recorder)
    return statuses, recorder.executed


def test_body_after_an_upgrade_is_never_a_request(loop: Loop) -> None:
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
    conversations: list[Sequence[bytes]] = []
    for head, body in ((b"Content-Length: %d\r\n" % len(SMUGGLED), SMUGGLED), (CHUNKED, chunks)):
        request = PUT + UPGRADE + head + b"\r\n"
        conversations += [(request, body, SMUGGLED), (request + body + SMUGGLED,)]
    assert exchange(loop, *conversations) == ([[b"501"]] * 4, [])


def test_upgrade_without_a_body_is_ignored(loop: Loop) -> None:
    request = b"GET /outer HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n"
    assert exchange(loop, (request + SMUGGLED, SMUGGLED)) == ([[b"200"]], [("/outer", b"")])


BODY = b"2\r\n{}\r\n0\r\n\r\n"
REFUSED = {
    "no host": (b"GET /outer HTTP/1.1\r\n\r\n", b"400"),
    "two hosts": (b"GET /outer HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", b"400"),
    "malformed host": (b"GET /outer HTTP/1.1\r\nHost: evil/path?\r\n\r\n", b"400"),
    "HTTP/0.9": (b"GET /outer\r\n\r\n", b"400"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
    "gzip, chunked": (PUT + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + BODY, b"501"),
    "two codings": (PUT + b"Transfer-Encoding: gzip\r\n" + CHUNKED + b"\r\n" + BODY, b"501"),
    "chunked twice": (PUT + CHUNKED + CHUNKED + b"\r\n" + BODY, b"400"),
    "control character": (PUT + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + BODY, b"400"),
    "identity": (PUT + b"Transfer-Encoding: identity\r\n\r\n{}", b"501"),
    "chunked in HTTP/1.0": (b"PUT /outer HTTP/1.0\r\nHost: x\r\n" + CHUNKED + b"\r\n" + BODY, b"400"),
    "length and coding": (PUT + CHUNKED + b"Content-Length: 12\r\n\r\n" + BODY, b"400"),
    "two lengths": (PUT + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", b"400"),
    "CONNECT": (b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", b"501"),
    "malformed chunk": (PUT + CHUNKED + b"\r\nxyz\r\n", b"400"),
}


def test_ambiguous_request_is_refused(loop: Loop) -> None:
    answers, executed = exchange(loop, *((request + SMUGGLED, SMUGGLED) for request, _ in REFUSED.values()))
    assert dict(zip(REFUSED, answers, strict=True)) == {name: [status] for name, (_, status) in REFUSED.items()}
    assert executed == []


def test_head_is_checked_even_where_the_parser_is_lenient() -> None:
    host = (b"host", b"x")
    lenient = [(b"transfer-encoding", b"xchunked")], [(b"content-length", b"1"), (b"content-length", b"1")]
    assert all(refusal_of("1.1", b"PUT", [host, *headers], upgrade=False) for headers in lenient)
    for headers in ([(b"host", b"[::1]:8443")], [(b"host", b"")], [host, (b"transfer-encoding", b"Chunked \t")]):
        assert refusal_of("1.1", b"PUT", headers, upgrade=False) is None
    assert refusal_of("1.0", b"GET", [], upgrade=False) is None


GARBAGE = [b"\x00\x01garbage\r\n\r\n", b"GET /outer HTTP/1.1\r\n\r\n", b"GET /x HTTP/1.1\r\na: " + b"b" * 200_000]


def test_garbage_does_not_replace_the_response_before_it(loop: Loop) -> None:
    request = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
    conversations = [parts for garbage in GARBAGE for parts in ((request + garbage,), (request, garbage))]
    answers, executed = exchange(loop, *conversations)
    assert answers == [[b"200", status] for status in (b"400", b"400", b"431") for _ in range(2)]
    assert executed == [("/slow", b"")] * len(conversations)


def test_malformed_body_behind_another_request_waits(loop: Loop) -> None:
    request = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + PUT + CHUNKED + b"\r\nxyz\r\n" + SMUGGLED
    assert exchange(loop, (request,)) == ([[b"200", b"400"]], [("/slow", b"")])


async def report(caller: Caller) -> Report:
    return Report(title="Test", problems=[], tables=[], links=[])


@pytest.mark.parametrize(
    ("token", "size", "expected"),
    [("wrong", 2, [b"401"]), ("t", 99_999_999, [b"413"]), ("t", 2, [b"100", b"200"])],
    ids=["no token", "too large", "accepted"],
)
def test_only_a_wanted_body_is_asked_for(loop: Loop, token: str, size: int, expected: list[bytes]) -> None:
    data = {"listen": {"port": 1}, "tokens": [{"name": "me", "scope": "viewer", "sha256": digest_of("t")}]}
    app = create_app("T", check(data, ServiceSettings, "t"), stuck=lambda: "", dependencies=lambda: [], report=report)

    @app.put("/outer")
    async def put(caller: CallerDep, body: dict[str, int]) -> None:
        pass

    head = PUT + f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n".encode()
    head += b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % size
    parts = (head, b"{}") if len(expected) == 2 else (head,)
    assert exchange(loop, parts, app=app)[0] == [expected]
