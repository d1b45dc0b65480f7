"""Bodies of requests: their structure is bounded, and they are parsed strictly, once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from httpx2 import ASGITransport, AsyncClient
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from distcloud.common.config import ServiceSettings, check
from distcloud.common.http import bodies
from distcloud.common.http.app import CallerDep, create_app
from distcloud.common.http.auth import Authenticator, Caller, digest_of
from distcloud.common.http.bodies import parse_body, strict_json
from distcloud.common.http.problems import Problem
from distcloud.common.http.report import Report
from distcloud.common.http.router import Router


def test_overlong_number_is_rejected() -> None:
    with pytest.raises(Problem, match="too long"):
        strict_json(b"9" * 5000)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_strict_json_parses_or_rejects(raw: bytes) -> None:
    try:
        parsed = strict_json(raw)
    except Problem as problem:
        assert problem.status == 400
    else:
        assert parsed == json.loads(raw)


def test_costly_body_is_refused() -> None:
    headers = Headers({"content-type": "application/json"})
    with pytest.raises(Problem, match="the body has more than 10000 objects and arrays") as raised:
        parse_body(headers, b"[" + b"[]," * 10_000 + b"[]]")
    assert (raised.value.status, raised.value.kind) == (413, "too-complex")


def test_body_is_parsed_and_its_sender_identified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def report(caller: Caller) -> Report:
        raise AssertionError

    calls: list[str] = []

    class Counting(Authenticator):
        def identify(self, token: str) -> Caller | None:
            calls.append("identify")
            return super().identify(token)

    def parse(body: bytes) -> Any:
        calls.append("parse")
        return strict_json(body)

    monkeypatch.setattr(bodies, "strict_json", parse)
    monkeypatch.setattr("distcloud.common.http.app.Authenticator", Counting)
    monkeypatch.setattr("starlette.requests.Request.json", lambda _: pytest.fail("the body was parsed a second time"))
    token = {"name": "me", "scope": "viewer", "sha256": digest_of("secret")}
    app = create_app(
        "Test", check({"listen": {"port": 1}, "tokens": [token]}, ServiceSettings, "test"), stuck=str, dependencies=list, report=report
    )
    router = Router()

    @router.put("/echo")
    async def echo(caller: CallerDep, body: dict[str, int]) -> dict[str, int]:
        return body

    app.include_router(router)

    async def put() -> Any:
        async with AsyncClient(transport=ASGITransport(app=app), base_url="http://test") as client:
            return await client.put("/echo", json={"a": 1}, headers={"Authorization": "Bearer secret"})

    answer = asyncio.run(put())
    assert (answer.status_code, answer.json(), calls) == (200, {"a": 1}, ["identify", "parse"])
