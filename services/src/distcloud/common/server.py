"""Serves an application over TLS 1.2 or later, or over plain HTTP on loopback, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from .config import ConfigError, ListenSettings
from .logs import get_logger

log = get_logger("distcloud.server")

CONNECTIONS = 256
CONNECTIONS_OF_ONE_CLIENT = CONNECTIONS // 2
QUIET_SECONDS = 15.0  # a client that has not sent the head of a request by then is let go


class _Connection(H11Protocol):
    """Uvicorn's own, which waits for a request for ever and lets one client hold all connections: nobody else would be answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        mine = sum(
            1 for other in self.connections if isinstance(other, H11Protocol) and (other.client or "")[:1] == (self.client or "")[:1]
        )
        if mine > CONNECTIONS_OF_ONE_CLIENT:
            transport.abort()
        else:
            self.loop.call_later(QUIET_SECONDS, self._look, None)

    def _look(self, known: object) -> None:
        """Ends the connection when nothing has become of it since the last look, at which `known` was the request answered last."""
        busy = self.cycle is not None and not self.cycle.response_complete
        if self.transport.is_closing():
            return
        if not busy and known is self.cycle:
            self.transport.abort()
            return
        self.loop.call_later(QUIET_SECONDS, self._look, object() if busy else self.cycle)


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: the service that embeds it decides when to stop. It says when it serves."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        notify("READY=1")


def notify(state: str) -> None:
    """Tell systemd how the service is (sd_notify(3), `Type=notify`); nothing where nobody asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.settimeout(5)
            manager.sendto(state.encode(), address)
    except OSError as error:
        log.warning("the service manager was not told", state=state, error=str(error))


async def watchdog(stuck: Callable[[], str], stop: asyncio.Event) -> None:
    """Tell systemd's watchdog (`WatchdogSec=`) that the service lives, thrice in its time, until `stop`, and while `stuck` says nothing."""
    limit, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not limit.isdecimal() or pid not in ("", str(os.getpid())):
        return
    while not stop.is_set():
        if not stuck():
            notify("WATCHDOG=1")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), int(limit) / 3_000_000)


def bind(listen: ListenSettings) -> socket.socket:
    """A listening socket. Raises ConfigError naming the address."""
    try:
        family, _, _, _, address = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=256)
    except OSError as error:
        raise ConfigError(f"listen: cannot listen on {listen.host} port {listen.port}: {error.strerror or error}") from error


def tls_context(listen: ListenSettings) -> ssl.SSLContext | None:
    """The server's side of TLS; None for plain HTTP. Raises ConfigError naming the file."""
    if listen.tls_certificate is None or listen.tls_key is None:
        return None
    for key, path in (("tls_certificate", listen.tls_certificate), ("tls_key", listen.tls_key)):
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise ConfigError(f"listen.{key}: {path}: cannot be read: {error.strerror}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(listen.tls_certificate, listen.tls_key)
    except ssl.SSLError as error:
        raise ConfigError(
            f"listen: {listen.tls_certificate} and {listen.tls_key} are not a PEM certificate and its key: {error.reason or error}"
        ) from error
    return context


async def serve(app: ASGIApp, listen: ListenSettings, stop: asyncio.Event, *, sock: socket.socket | None = None) -> None:
    """Serve until `stop` is set; requests under way are given ten seconds. Raises ConfigError when it cannot begin."""
    context = tls_context(listen)
    sock = sock or bind(listen)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        http=_Connection,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=10,
    )
    config.load()
    config.ssl = context
    server = _Server(config)
    running = asyncio.ensure_future(server.serve(sockets=[sock]))
    waiting = asyncio.ensure_future(stop.wait())
    host, port = sock.getsockname()[:2]
    log.info("listening", host=host, port=port, tls=context is not None)
    try:
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await running
    finally:
        waiting.cancel()
        if not running.done():
            running.cancel()
        sock.close()
