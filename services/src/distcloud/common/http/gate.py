"""Middleware that every request passes: request id, rate limit, token before body, body size, strict JSON, log line, metrics."""

from __future__ import annotations

import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..config import RequestLimits
from ..logs import get_logger
from ..metrics import ServiceMetrics
from . import problems
from .auth import Caller, keep_caller
from .bodies import keep_parsed, parse_body, receive_body
from .connections import client_of
from .problems import Problem

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
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def wait(self, client: Hashable, now: float) -> float:
        """Seconds until the client may send a request, 0 when it may now. `now` is monotonic."""
        level, at = self._buckets.pop(client, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._per_second)
        allowed = level >= 1
        self._buckets[client] = (level - 1 if allowed else level, now)
        if len(self._buckets) > CLIENTS_REMEMBERED:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - level) / self._per_second


class Gate:
    """ASGI middleware, outermost.

    `authenticate` raises Problem 401 for headers without a valid token. It is asked before a body is read: the body of a request
    that nobody vouches for is not received. The holders of tokens and those without one have rate limits of their own, so that
    nobody who knows no token can use up a holder's requests. HEAD is served as GET, without the body of the response.
    """

    def __init__(self, app: ASGIApp, limits: RequestLimits, metrics: ServiceMetrics, authenticate: Callable[[Headers], Caller]) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._authenticate = authenticate
        self._rate = RateLimiter(limits.per_second, limits.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        if method == "HEAD":
            scope = {**scope, "method": "GET"}
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
            elif method == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                body = await self._admit(scope, headers, receive)
                await self._app(scope, _replay(body, receive), send_out)
            except Problem as problem:
                await problems.response(problem)(scope, receive, send_out)
            except Exception:
                log.exception("request_failed", method=method, path=scope["path"])
                if status == 0:
                    await problems.response(problems.internal(request_id))(scope, receive, send_out)
            finally:
                self._account(method, scope, status, time.monotonic() - began)

    async def _admit(self, scope: Scope, headers: Headers, receive: Receive) -> bytes:
        """The body, when the request is within all bounds."""
        caller: Caller | None = None
        refusal: Problem | None = None
        try:
            caller = self._authenticate(headers)
        except Problem as problem:
            refusal = problem
        client = client_of(scope.get("client") or ())
        wait = self._rate.wait((client, caller.name if caller else ""), time.monotonic())
        if wait:
            seconds = str(int(wait) + 1)
            raise Problem(429, "too-many-requests", f"too many requests; try again in {seconds} s", headers={"Retry-After": seconds})
        if caller is not None:
            keep_caller(scope, caller)
        if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
            return b""
        if refusal is not None:
            refusal.headers["Connection"] = "close"
            raise refusal
        body = await receive_body(headers, receive, self._limits.body_bytes)
        if body:
            keep_parsed(scope, parse_body(headers, body))
        return body

    def _account(self, method: str, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "(none)")
        method = method if method in METHODS else "(other)"
        self._metrics.answered(method, route, status, seconds)
        level = log.debug if route in ("/healthz", "/readyz", "/metrics") else log.info
        caller = scope.get("state", {}).get("caller", "")
        level("request", method=method, path=scope["path"][:256], status=status, seconds=round(seconds, 4), caller=caller)


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
