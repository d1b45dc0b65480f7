"""HTTP without a network: answers of a handler, as a stream of bytes that are still encoded, as they come from a connection."""

from __future__ import annotations

from collections.abc import Callable

import httpx2

Handler = Callable[[httpx2.Request], httpx2.Response]


class Replay(httpx2.AsyncBaseTransport):
    """httpx2's MockTransport reads and decodes an answer before the client sees it."""

    def __init__(self, handler: Handler) -> None:
        self._mock = httpx2.MockTransport(handler)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = await self._mock.handle_async_request(request)
        assert isinstance(answer.stream, httpx2.AsyncByteStream)
        return httpx2.Response(answer.status_code, headers=answer.headers, stream=answer.stream)


def replay(handler: Handler) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=Replay(handler))
