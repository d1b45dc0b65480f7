"""Bodies of requests: received within bounds, and parsed once, strictly, before any route sees them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Receive

from ..json_limits import JsonLimits, TooComplex
from .problems import Problem

BODY_SECONDS = 30.0  # a client that takes longer to send its body is disconnected
LIMITS = JsonLimits(depth=64, containers=10_000, values=100_000)  # parsing takes some 20 ms at these bounds
PARSED_BODY = "parsed_body"  # key in the state of a request's scope


async def receive_body(headers: Headers, receive: Receive, limit: int) -> bytes:
    """The whole body, at most `limit` bytes. Raises Problem 400, 408 or 413."""
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
        raise Problem(408, "too-slow", f"the body did not arrive within {BODY_SECONDS:.0f} s", headers={"Connection": "close"}) from error


def parse_body(headers: Headers, body: bytes) -> Any:
    """The value that the body stands for. Raises Problem 400, 413 or 415."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "not-json", "send the body as application/json")
    try:
        LIMITS.check(body)
    except TooComplex as error:
        raise Problem(413, "too-complex", f"the body {error}") from error
    return strict_json(body)


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


def keep_parsed(scope: Any, parsed: Any) -> None:
    """Leave the parsed body for the route of the request (`Router`)."""
    scope.setdefault("state", {})[PARSED_BODY] = parsed
