"""Middleware that every request passes: request id, rate limit, token before body, body size, strict JSON, log line, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..config import RequestLimits
from ..logs import get_logger
from ..metrics import ServiceMetrics
from . import problems
from .connections import client_of
from .problems import Problem

BODY_SECONDS = 30.0  # a client that takes longer to send its body is disconnected
UNAUTHORIZED_BODY_BYTES = 65_536  # of the body of a refused request that are read and dropped, so that the client gets the refusal
UNAUTHORIZED_BODY_SECONDS = 2.0
CLIENTS_REMEMBERED = 4096
METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")

log = get_logger(__name__)


class RateLimiter:
    """A token bucket per client; the least recently seen clients are evicted."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str, now: float) -> float:
        """Seconds until the client may send a request, 0 when it may now. `now` is monotonic."""
        level, at = self._buckets.pop(client, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._per_second)
        allowed = level >= 1
        self._buckets[client] = (level - 1 if allowed else level, now)
        if len(self._buckets) > CLIENTS_REMEMBERED:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - level) / self._per_second


def strict_json(body: bytes) -> Any:
    """Parse JSON strictly: UTF-8, unique keys, no NaN, no unpaired surrogates. Raises Problem 400."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in items:
            if key in found:
                raise Problem(400, "malformed", f"the body gives the key {key[:64]!r} twice")
            found[key] = value
        return found

    def constant(name: str) -> Any:
        raise Problem(400, "malformed", f"the body contains {name}, which is not JSON")

    try:
        parsed = json.loads(body.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
        json.dumps(parsed, ensure_ascii=False).encode("utf-8")
        return parsed
    except UnicodeEncodeError as error:
        raise Problem(400, "malformed", "the body contains an unpaired surrogate (\\ud800 to \\udfff)") from error
    except UnicodeDecodeError as error:
        raise Problem(400, "malformed", f"the body is not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise Problem(400, "malformed", f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except (RecursionError, ValueError) as error:
        raise Problem(400, "malformed", "the body is nested too deeply or holds a number that is too long") from error


class Gate:
    """ASGI middleware, outermost.

    `authenticate` raises Problem 401 for headers without a valid token. It is asked before a body is read: the body of a request
    that nobody vouches for is dropped unparsed, and at most `UNAUTHORIZED_BODY_BYTES` of it are received.
    """

    def __init__(self, app: ASGIApp, limits: RequestLimits, metrics: ServiceMetrics, authenticate: Callable[[Headers], object]) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._authenticate = authenticate
        self._rate = RateLimiter(limits.per_second, limits.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else secrets.token_hex(8)
        began = time.monotonic()
        status = 0

        async def send_out(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                out = MutableHeaders(scope=message)
                out["x-request-id"] = request_id
                for name, value in SAFE_HEADERS.items():
                    out.setdefault(name, value)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                body = await self._admit(scope, headers, receive)
                await self._app(scope, _replay(body, receive), send_out)
            except Problem as problem:
                await problems.response(problem)(scope, receive, send_out)
            except Exception:
                log.exception("request_failed", method=scope["method"], path=scope["path"])
                if status == 0:
                    await problems.response(problems.internal(request_id))(scope, receive, send_out)
            finally:
                self._account(scope, status, time.monotonic() - began)

    async def _admit(self, scope: Scope, headers: Headers, receive: Receive) -> bytes:
        """The body, when the request is within all bounds."""
        client = client_of(scope.get("client") or ())
        wait = self._rate.wait(client, time.monotonic())
        if wait:
            seconds = str(int(wait) + 1)
            raise Problem(429, "too-many-requests", f"too many requests; try again in {seconds} s", headers={"Retry-After": seconds})
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            try:
                self._authenticate(headers)
            except Problem as problem:
                problem.headers["Connection"] = "close"
                await _drop_body(receive)
                raise
        body = await self._body(headers, receive)
        if body:
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise Problem(415, "not-json", "send the body as application/json")
            strict_json(body)
        return body

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        limit = self._limits.body_bytes
        too_large = Problem(413, "too-large", f"the body is larger than {limit} bytes", headers={"Connection": "close"})
        announced = headers.get("content-length", "0")
        if not announced.isdecimal():
            raise Problem(400, "malformed", "Content-Length is not a number")
        if len(announced) > 12 or int(announced) > limit:
            raise too_large
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise Problem(400, "malformed", "the connection was closed before the body was complete")
                    size += len(message.get("body", b""))
                    if size > limit:
                        raise too_large
                    chunks.append(message.get("body", b""))
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError as error:
            raise Problem(408, "too-slow", f"the body did not arrive within {BODY_SECONDS:.0f} s") from error

    def _account(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "(none)")
        method = scope["method"] if scope["method"] in METHODS else "(other)"
        self._metrics.answered(method, route, status, seconds)
        level = log.debug if route in ("/healthz", "/readyz", "/metrics") else log.info
        caller = scope.get("state", {}).get("caller", "")
        level("request", method=method, path=scope["path"][:256], status=status, seconds=round(seconds, 4), caller=caller)


async def _drop_body(receive: Receive) -> None:
    """Receive a little of a body that nobody will look at: closing a socket with unread data would destroy the response before it."""
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(UNAUTHORIZED_BODY_SECONDS):
            while size <= UNAUTHORIZED_BODY_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that hands out the body once and then whatever the connection says next."""
    pending = True

    async def again() -> Message:
        nonlocal pending
        if pending:
            pending = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again
