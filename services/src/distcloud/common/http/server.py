"""Serves an application over TLS 1.2 or later, or over plain HTTP on loopback, until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from ..config import ConfigError, ListenSettings
from ..logs import get_logger
from ..systemd import notify
from .connections import (
    CONNECTIONS,
    CONNECTIONS_PER_CLIENT,
    HANDSHAKE_SECONDS,
    HEADER_SECONDS,
    LOOPBACK_RESERVE,
    Admissions,
    Connection,
    client_of,
)

log = get_logger(__name__)

_REFUSAL_LOG_SECONDS = 60.0
_ACCEPT_PAUSE = 0.2  # seconds to wait when the process has no file descriptor left


class _Server(uvicorn.Server):
    """uvicorn, with an accept loop of its own: connections are counted before their TLS handshake, which has a time limit.

    The service that embeds it handles the signals. systemd is notified once it serves.
    """

    def __init__(self, config: uvicorn.Config, admissions: Admissions) -> None:
        super().__init__(config)
        self.servers = []
        self._admissions = admissions
        self._accepting: list[asyncio.Task[None]] = []
        self._handshakes: set[asyncio.Task[None]] = set()
        self._refused = 0
        self._refusals_logged_at = float("-inf")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        self._accepting = [asyncio.create_task(self._accept(sock)) for sock in sockets or []]
        self.started = True
        notify("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        tasks = [*self._accepting, *self._handshakes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await super().shutdown(sockets)

    async def _accept(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(sock)
            except OSError as error:
                log.warning("accept_failed", error=str(error))
                await asyncio.sleep(_ACCEPT_PAUSE)
                continue
            release = self._admissions.admit(client_of(address))
            if release is None:
                connection.close()
                self._refused += 1
                if loop.time() >= self._refusals_logged_at + _REFUSAL_LOG_SECONDS:
                    log.warning("connections_refused", client=client_of(address), count=self._refused, open=len(self._admissions))
                    self._refused, self._refusals_logged_at = 0, loop.time()
                continue
            task = loop.create_task(self._open(connection, release))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _open(self, connection: socket.socket, release: Callable[[], None]) -> None:
        """Hand an accepted socket to a protocol; with TLS this waits for the handshake."""

        def protocol() -> Connection:
            return Connection(self.config, self.server_state, self.lifespan.state, release=release)

        context = self.config.ssl
        limit = HANDSHAKE_SECONDS if context else None
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(protocol, connection, ssl=context, ssl_handshake_timeout=limit)
        except BaseException as error:
            release()
            connection.close()
            if not isinstance(error, OSError):  # what a client does to the handshake concerns nobody else
                raise


def bind(listen: ListenSettings) -> socket.socket:
    """A listening socket; that of the address `::` accepts IPv4 too. Raises ConfigError naming the address."""
    try:
        family, _, _, _, address = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        both = address[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address[:2], family=family, backlog=256, dualstack_ipv6=both)
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
    sock.setblocking(False)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        http=Connection,
        timeout_keep_alive=int(HEADER_SECONDS),
        timeout_graceful_shutdown=10,
    )
    config.load()
    config.ssl = context
    server = _Server(config, Admissions(CONNECTIONS, CONNECTIONS_PER_CLIENT, LOOPBACK_RESERVE))
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
