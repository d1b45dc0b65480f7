"""Connections to a cloud that check the address before anything is sent, also when a name is resolved to something else later."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager

import httpcore2
import httpx2

from .addresses import EndpointPolicy, EndpointRefused, parse_address


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Opens TCP connections to addresses that the policy allows. Raises EndpointRefused for others."""

    def __init__(self, policy: EndpointPolicy) -> None:
        self._policy = policy
        self._backend = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature of httpcore2
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        # Before connecting, so that the error does not reveal which local ports are open.
        try:
            async with asyncio.timeout(timeout):
                addresses = await _resolve(host, port)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout("the name was not resolved in time") from error
        for address in addresses:
            self._policy.check_host(address)
        stream = await self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        try:
            peer = stream.get_extra_info("server_addr")
            if not isinstance(peer, tuple):
                raise EndpointRefused("is connected to an unknown address")
            self._policy.check_host(str(peer[0]))
        except EndpointRefused:
            await stream.aclose()
            raise
        return stream

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _resolve(host: str, port: int) -> list[str]:
    if parse_address(host) is not None:
        return [host]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore2.ConnectError(str(error)) from error
    return [str(address[0]) for *_, address in found]


class GuardedTransport(httpx2.AsyncBaseTransport):
    """HTTP/1.1 on a pool of guarded connections. It uses no proxy: the address that a proxy connects to could not be checked."""

    def __init__(self, policy: EndpointPolicy, context: ssl.SSLContext, limits: httpx2.Limits) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=GuardedBackend(policy),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        url = request.url
        sent = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _httpx_errors():
            received = await self._pool.handle_async_request(sent)
        assert isinstance(received.stream, AsyncIterable)
        return httpx2.Response(
            received.status, headers=received.headers, stream=_Body(received, received.stream), extensions=received.extensions
        )

    async def aclose(self) -> None:
        with _httpx_errors():
            await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, response: httpcore2.Response, stream: AsyncIterable[bytes]) -> None:
        self._response = response
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _httpx_errors():
            async for part in self._stream:
                yield part

    async def aclose(self) -> None:
        with _httpx_errors():
            await self._response.aclose()


_ERRORS: dict[type[Exception], type[httpx2.TransportError]] = {
    httpcore2.ConnectTimeout: httpx2.ConnectTimeout,
    httpcore2.ReadTimeout: httpx2.ReadTimeout,
    httpcore2.WriteTimeout: httpx2.WriteTimeout,
    httpcore2.PoolTimeout: httpx2.PoolTimeout,
    httpcore2.ConnectError: httpx2.ConnectError,
    httpcore2.ReadError: httpx2.ReadError,
    httpcore2.WriteError: httpx2.WriteError,
    httpcore2.LocalProtocolError: httpx2.LocalProtocolError,
    httpcore2.RemoteProtocolError: httpx2.RemoteProtocolError,
    httpcore2.UnsupportedProtocol: httpx2.UnsupportedProtocol,
}


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """Raise the errors of the connection pool as those of httpx2, as its own transport does."""
    try:
        yield
    except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.UnsupportedProtocol) as error:
        raise _ERRORS.get(type(error), httpx2.TransportError)(str(error)) from error
