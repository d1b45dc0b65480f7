"""Connections of the HTTP server: how many are admitted, and what one connection may cost.

uvicorn's own protocol waits for a request forever, buffers headers and pipelined requests without a limit, and sees a client only
after its TLS handshake. Here every one of these is bounded, so that clients that say nothing, or too much, exclude nobody else.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from .heads import MALFORMED, TOO_LARGE, Refusal, refusal_of

CONNECTIONS = 4096
CONNECTIONS_PER_CLIENT = 128
LOOPBACK_RESERVE = 32  # connections beyond the total for this machine itself: health checks, metrics, the command line
HANDSHAKE_SECONDS = 10.0  # for the TLS handshake, counted from the accept
HEADER_SECONDS = 15.0  # for the head of a request, counted from the accept or from the end of the response before it
SEND_SECONDS = 60.0  # for a client to take what waits to be sent to it
HEADER_BYTES = 65_536  # request line and headers
HEADER_COUNT = 128
LINGER_SECONDS = 1.0  # between the end of the last response and the end of the connection, whatever the client does
LINGER_BYTES = 33_554_432  # that are read and dropped meanwhile
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


class _Transport:
    """A connection's transport, except that `close` is what the connection makes of it: uvicorn closes in many places."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None], is_closing: Callable[[], bool]) -> None:
        self._transport = transport
        self.write = transport.write
        self.close = close
        self.is_closing = is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(HttpToolsProtocol):
    """One admitted connection."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], *, release: Callable[[], None]) -> None:
        super().__init__(config, server_state, app_state)
        self._release = release
        self._raw: asyncio.Transport = None  # type: ignore[assignment]  # until connection_made, as in the base class
        self._in_head = True
        self._in_body = False
        self._unparsed = 0  # bytes received for a head whose end is not in sight
        self._head_bytes = 0
        self._ended = False  # what arrives now is dropped
        self._dropped = 0
        self._refusal: Refusal | None = None  # to send after the responses to the requests before
        self._closing = False
        self._deadline: asyncio.TimerHandle | None = None  # for the next head, or for the end of the connection
        self._send_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._raw = transport
        super().connection_made(_Transport(transport, self._close, self._is_closing))  # type: ignore[arg-type]
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = self._ended = True
        self._cancel_deadline()
        if self._send_deadline is not None:
            self._send_deadline.cancel()
        self._release()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._send_deadline = self.loop.call_later(SEND_SECONDS, self._raw.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._send_deadline is not None:
            self._send_deadline.cancel()
            self._send_deadline = None

    def data_received(self, data: bytes) -> None:
        if self._ended:
            self._dropped += len(data)
            if self._dropped > LINGER_BYTES:
                self._raw.abort()
            return
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            # One long line reaches no callback before its end. A chunk may also hold what came before this head.
            self._unparsed += len(data)
            if self._unparsed > HEADER_BYTES + len(data):
                self._refuse(TOO_LARGE)

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
            self._raw.abort()
            raise ConnectionAbortedError
        super().on_header(name, value)
        self._count(len(name) + len(value) + 4)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEADER_BYTES or len(self.headers) > HEADER_COUNT:
            self._refuse(TOO_LARGE)
            raise ConnectionAbortedError  # ends the parser

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self.pipeline) >= PIPELINED_REQUESTS:
            self._raw.abort()
        if self._ended or self.transport.is_closing():
            # The parser goes on with what it was fed: the request must not start.
            raise ConnectionAbortedError  # ends the parser
        upgrade = self.parser.should_upgrade()
        refusal = refusal_of(self.parser.get_http_version(), self.parser.get_method(), self.headers, upgrade=upgrade)
        if refusal is not None:
            self._refuse(refusal)
            raise ConnectionAbortedError
        self._cancel_deadline()
        super().on_headers_complete()
        self._in_body = True
        if upgrade:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_body = False

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.pipeline or self.transport.is_closing():
            return
        if self._refusal is not None:
            self._send_refusal(self._refusal)
        else:
            self._await_head()

    def _await_head(self) -> None:
        """Unlike uvicorn's keep-alive timer this one is only stopped by a complete head."""
        self._cancel_deadline()
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._raw.abort)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _unsupported_upgrade_warning(self) -> None:
        """The parser stops here: what follows may be another protocol, so it is dropped. uvicorn would log two warnings."""
        self._ended = True

    def send_400_response(self, msg: str) -> None:
        self._refuse(MALFORMED)

    def _refuse(self, refusal: Refusal) -> None:
        """Read no more requests; the response comes after those to complete requests, which must not be taken for it."""
        if self._ended:
            return
        self._ended = True
        self._cancel_deadline()
        if self._in_body:
            if self.pipeline:
                self.pipeline.popleft()  # this request, which waits for the one before it
                self._refusal = refusal
            elif self.cycle.response_started:
                self._raw.abort()
            else:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
                self._send_refusal(refusal)
        elif self.cycle is not None and not self.cycle.response_complete:
            self._refusal = refusal
        else:
            self._send_refusal(refusal)

    def _send_refusal(self, refusal: Refusal) -> None:
        self._raw.write(refusal.encode())
        self._close()

    def _is_closing(self) -> bool:
        return self._closing or self._raw.is_closing()

    def _close(self) -> None:
        """Close after everything is sent. With data unread that would destroy the response on its way: then the client closes first.

        Over TLS a half-closed connection cannot be read, so it stays open meanwhile.
        """
        if self._is_closing():
            return
        unread = self._in_body or self._ended or bool(self.pipeline)
        self._closing = self._ended = True
        self.flow.resume_reading()
        if not unread:
            self._raw.close()
        elif self._raw.can_write_eof():
            self._raw.write_eof()
        self._cancel_deadline()
        self._deadline = self.loop.call_later(LINGER_SECONDS, self._end, self.loop.time() + HEADER_SECONDS)

    def _end(self, latest: float) -> None:
        if self._raw.get_write_buffer_size() and self.loop.time() < latest:
            self._deadline = self.loop.call_later(LINGER_SECONDS, self._end, latest)
        else:
            self._raw.abort()
