"""Connections of the HTTP server: how many are admitted, and what one connection may cost.

uvicorn's own protocol waits for a request forever, buffers headers and pipelined requests without a limit, and sees a client only
after its TLS handshake. Here every one of these is bounded, so that clients that say nothing, or too much, exclude nobody else.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

CONNECTIONS = 4096
CONNECTIONS_PER_CLIENT = 128
LOOPBACK_RESERVE = 32  # connections beyond the total for this machine itself: health checks, metrics, the command line
HANDSHAKE_SECONDS = 10.0  # for the TLS handshake, counted from the accept
HEADER_SECONDS = 15.0  # for the head of a request, counted from the accept or from the end of the response before it
SEND_SECONDS = 60.0  # for a client to take what waits to be sent to it
HEADER_BYTES = 65_536  # request line and headers
HEADER_COUNT = 128
LINGER_SECONDS = 1.0  # after a refused head: closing at once, with data unread, would destroy the refusal on its way
PIPELINED_REQUESTS = 32  # requests that wait on one connection for the response before them


def client_of(address: tuple[Any, ...] | str) -> str:
    """The client that a peer address belongs to: an IPv4 address, or the /64 network of an IPv6 address (one host owns as much)."""
    if not isinstance(address, tuple) or not address:
        return "local"
    try:
        ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
    except ValueError:
        return str(address[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))


_LOOPBACK = {client_of(("127.0.0.1",)), client_of(("::1",))}


class Admissions:
    """Counts the connections that are open, those in their TLS handshake included."""

    def __init__(self, total: int, per_client: int, loopback_reserve: int = 0) -> None:
        self._total = total
        self._per_client = per_client
        self._reserve = loopback_reserve
        self._open: Counter[str] = Counter()

    def admit(self, client: str) -> Callable[[], None] | None:
        """A function to call once when the connection has ended, or None when the connection must be closed at once."""
        total = self._total + (self._reserve if client in _LOOPBACK else 0)
        if self._open.total() >= total or self._open[client] >= self._per_client:
            return None
        self._open[client] += 1
        pending = True

        def release() -> None:
            nonlocal pending
            if pending:
                pending = False
                self._open[client] -= 1
                if not self._open[client]:
                    del self._open[client]

        return release

    def __len__(self) -> int:
        return self._open.total()


class Connection(HttpToolsProtocol):
    """One admitted connection."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], *, release: Callable[[], None]) -> None:
        super().__init__(config, server_state, app_state)
        self._release = release
        self._in_head = True
        self._unparsed = 0  # bytes received for a head whose end is not in sight
        self._head_bytes = 0
        self._refused = False
        self._deadline: asyncio.TimerHandle | None = None  # for the next head
        self._send_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        if self._send_deadline is not None:
            self._send_deadline.cancel()
        self._release()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._send_deadline = self.loop.call_later(SEND_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._send_deadline is not None:
            self._send_deadline.cancel()
            self._send_deadline = None

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            # One long line reaches no callback before its end. A chunk may also hold what came before this head.
            self._unparsed += len(data)
            if self._unparsed > HEADER_BYTES + len(data):
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._unparsed = self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            # A trailer of a chunked body: nobody here reads it, and uvicorn would append it to the headers without a limit.
            self.transport.abort()
            raise ConnectionAbortedError
        super().on_header(name, value)
        self._count(len(name) + len(value) + 4)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEADER_BYTES or len(self.headers) > HEADER_COUNT:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            raise ConnectionAbortedError  # ends the parser

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self.pipeline) >= PIPELINED_REQUESTS:
            self.transport.abort()
        if self._refused or self.transport.is_closing():
            # The parser goes on with what it was fed: the request must not start.
            raise ConnectionAbortedError  # ends the parser
        self._cancel_deadline()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline:
            self._await_head()  # also when the connection is closing: a client that does not read keeps it open

    def _await_head(self) -> None:
        """Unlike uvicorn's keep-alive timer this one is only stopped by a complete head."""
        self._cancel_deadline()
        self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _unsupported_upgrade_warning(self) -> None:
        """An upgrade is ignored, as HTTP allows; uvicorn would log two warnings for every request."""

    def send_400_response(self, msg: str) -> None:
        if not self._refused:
            super().send_400_response(msg)

    def _refuse(self, status: HTTPStatus) -> None:
        if self._refused:
            return
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()  # a response is being written: a second one would be taken for a part of it
            return
        self.transport.write(f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._cancel_deadline()
        self._deadline = self.loop.call_later(LINGER_SECONDS, self.transport.abort)
