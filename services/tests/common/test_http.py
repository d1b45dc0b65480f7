"""What every service's HTTP side does whatever the service: problems, bounds, ids, health, metrics, logs without secrets."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response
from hypothesis import given, settings
from hypothesis import strategies as st

from distcloud.common import gate
from distcloud.common.app import CallerDep, Part, create_app
from distcloud.common.auth import digest_of
from distcloud.common.config import LogSettings, RequestLimits, ServiceSettings, check
from distcloud.common.gate import RateLimiter, strict_json
from distcloud.common.logs import configure, get_logger
from distcloud.common.problems import MEDIA_TYPE, Problem

TOKEN = "unmistakable-token"


class Service:
    """A small service in an event loop of its own."""

    def __init__(self, runner: asyncio.Runner, **requests: Any) -> None:
        data = {
            "listen": {"port": 1},
            "tokens": [{"name": "me", "scope": "viewer", "sha256": digest_of(TOKEN)}],
            "requests": {"per_second": 1e6, "burst": 1_000_000, "body_bytes": 2048, **requests},
        }
        self.problem = ""
        self.parts: list[Part] = []
        self.runner = runner
        checked = check(data, ServiceSettings, "test")
        self.app = create_app("Test", checked, alive=lambda: self.problem, parts=lambda: self.parts)
        self._routes(self.app)
        transport = ASGITransport(app=self.app, raise_app_exceptions=False)
        self.client = AsyncClient(transport=transport, base_url="http://test", headers={"Authorization": f"Bearer {TOKEN}"})

    def _routes(self, app: FastAPI) -> None:
        @app.get("/who")
        async def who(caller: CallerDep) -> str:
            return caller.name

        @app.put("/echo/{number}")
        async def echo(number: int, body: dict[str, int]) -> dict[str, int]:
            return body

        @app.get("/broken")
        async def broken() -> None:
            raise RuntimeError("unmistakable detail")

    def __call__(self, method: str, path: str, **options: Any) -> Response:
        return self.runner.run(self.client.request(method, path, **options))


@pytest.fixture
def service() -> Iterator[Service]:
    with asyncio.Runner() as runner:
        yield Service(runner)


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "kind"),
    [
        ("GET", "/none", {}, 404, "no-such-path"),
        ("GET", "/who/", {}, 404, "no-such-path"),
        ("DELETE", "/who", {}, 405, "method-not-allowed"),
        ("GET", "/who", {"headers": {"Authorization": "Bearer wrong"}}, 401, "unauthorised"),
        ("GET", "/who", {"headers": {"Authorization": "Basic eDp5"}}, 401, "unauthorised"),
        ("GET", "/who", {"headers": {"Authorization": "Bearer"}}, 401, "unauthorised"),
        ("PUT", "/echo/1", {"json": {"a": "x"}}, 422, "invalid"),
        ("PUT", "/echo/x", {"json": {"a": 1}}, 422, "invalid"),
        ("PUT", "/echo/1", {}, 422, "invalid"),
        ("PUT", "/echo/1", {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415, "not-json"),
        ("PUT", "/echo/1", {"data": {"a": "1"}}, 415, "not-json"),
        ("GET", "/broken", {}, 500, "internal"),
    ],
)
def test_every_refusal_is_a_problem(service: Service, method: str, path: str, options: Any, status: int, kind: str) -> None:
    answer = service(method, path, **options)
    assert answer.status_code == status
    assert answer.headers["content-type"] == MEDIA_TYPE
    body = answer.json()
    assert body["type"] == f"urn:distcloud:problem:{kind}"
    assert body["status"] == status
    assert body["detail"]
    assert "unmistakable" not in answer.text
    assert answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe{\x00}\x00", "UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"b": {"a": 1, "a": 2}}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b"[" * 2000, "nested"),
    ],
)
def test_a_body_that_a_careful_reader_would_not_accept(service: Service, raw: bytes, words: str) -> None:
    answer = service("PUT", "/echo/1", content=raw, headers=JSON)
    assert answer.status_code in (400, 422)
    assert words in answer.json()["detail"]


REFUSED_BODIES = [b"{", b"[" * 2000, b" " * 3000, b"{}"]


@pytest.mark.parametrize("raw", REFUSED_BODIES, ids=["malformed", "nested", "too large", "valid"])
@pytest.mark.parametrize("token", [None, "Bearer wrong"])
def test_token_is_checked_before_the_body(service: Service, raw: bytes, token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "strict_json", lambda _: pytest.fail("a body without a valid token was parsed"))
    headers = {"Content-Type": "text/plain"} | ({"Authorization": token} if token else {})
    del service.client.headers["Authorization"]
    assert service("PUT", "/echo/1", content=raw, headers=headers).status_code == 401


def test_body_without_a_token_is_not_received(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "UNAUTHORIZED_BODY_SECONDS", 0.2)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 10_000
            yield b" " * 10_000

    async def stalled() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    del service.client.headers["Authorization"]
    for content in (endless(), stalled()):
        assert service("PUT", "/echo/1", content=content, headers=JSON).status_code == 401
    assert sent < 2 * gate.UNAUTHORIZED_BODY_BYTES


def test_a_body_is_bounded_whether_its_length_is_told_or_not(service: Service) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b" " * 1000

    for content in (b" " * 3000, chunks()):
        answer = service("PUT", "/echo/1", content=content, headers=JSON)
        assert answer.status_code == 413
        assert "2048" in answer.json()["detail"]


def test_a_client_that_never_ends_its_body_is_let_go(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BODY_SECONDS", 0.05)
    never = asyncio.Event()

    async def drip() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    assert service("PUT", "/echo/1", content=drip(), headers=JSON).status_code == 408


def test_too_many_requests_are_told_when_to_come_back() -> None:
    with asyncio.Runner() as runner:
        service = Service(runner, per_second=0.001, burst=2)
        answers = [service("GET", "/who") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 900 <= int(answers[2].headers["retry-after"]) <= 1001


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 5)), max_size=60))
@settings(max_examples=50, deadline=None)
def test_no_client_gets_more_than_its_rate(calls: list[tuple[str, float]]) -> None:
    limiter, now = RateLimiter(2.0, 3), 0.0
    allowed = {"a": 0, "b": 0}
    for client, pause in calls:
        now += pause
        allowed[client] += limiter.wait(client, now) == 0
    assert all(count <= 3 + 2.0 * now + 1e-6 for count in allowed.values())


def test_the_limiter_forgets_clients_instead_of_growing() -> None:
    limiter = RateLimiter(1.0, 1)
    for number in range(3 * gate.CLIENTS_REMEMBERED):
        limiter.wait(str(number), 0.0)
    assert len(limiter._buckets) <= gate.CLIENTS_REMEMBERED


def test_a_number_of_absurd_length_is_refused() -> None:
    with pytest.raises(Problem, match="too long"):
        strict_json(b"9" * 5000)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_strict_json_parses_or_refuses(raw: bytes) -> None:
    try:
        parsed = strict_json(raw)
    except Problem as problem:
        assert problem.status == 400
    else:
        assert parsed == json.loads(raw)


def test_health_and_metrics_need_no_token(service: Service) -> None:
    assert service("GET", "/healthz", headers={"Authorization": ""}).json() == {"status": "ok"}
    service.problem = "its loop is stuck"
    sick = service("GET", "/healthz")
    assert (sick.status_code, sick.json()["problem"]) == (503, "its loop is stuck")
    for parts, status, code in (
        ([Part("a"), Part("b", needed=False)], "ready", 200),
        ([Part("a"), Part("b", "is away", needed=False)], "degraded", 200),
        ([Part("a", "is away"), Part("b", needed=False)], "failing", 503),
    ):
        service.parts = parts
        answer = service("GET", "/readyz", headers={"Authorization": ""})
        assert (answer.status_code, answer.json()["status"]) == (code, status)
    assert answer.json()["parts"][0] == {"name": "a", "ok": False, "needed": True, "problem": "is away"}
    service("PUT", "/echo/1", json={"a": 1})
    service("GET", "/never/heard/of")
    text = service("GET", "/metrics").text
    assert 'distcloud_http_requests_total{method="PUT",route="/echo/{number}",status="200"} 1.0' in text
    assert "/never" not in text
    assert "/echo/1" not in text


def test_the_page_of_the_api_needs_nothing_from_elsewhere(service: Service) -> None:
    page = service("GET", "/docs")
    assert page.status_code == 200
    assert "/echo/{number}" in page.text
    assert "<script" not in page.text
    assert "http" not in page.text.replace("xmlns", "")
    assert service("GET", "/openapi.json").json()["openapi"].startswith("3.")


def test_the_description_tells_errors_as_they_come(service: Service) -> None:
    paths = [service("GET", "/openapi.json").json()["paths"] for _ in range(2)][1]
    told = paths["/echo/{number}"]["put"]["responses"]
    assert list(told) == ["200", "default"] and list(told["default"]["content"]) == [MEDIA_TYPE]
    refused = service("PUT", "/echo/one", json={})
    assert refused.status_code == 422 and refused.headers["content-type"] == MEDIA_TYPE
    for path in ("/healthz", "/readyz"):
        assert "503" in paths[path]["get"]["responses"]


def test_a_request_id_is_taken_over_if_it_is_harmless(service: Service) -> None:
    assert service("GET", "/who", headers={"X-Request-Id": "run-2026-11-21.1"}).headers["x-request-id"] == "run-2026-11-21.1"
    for odd in ("short", "x" * 65, "semi;colon;in;it"):
        assert service("GET", "/who", headers={"X-Request-Id": odd}).headers["x-request-id"] != odd


def test_the_log_says_who_did_what_and_no_secret(service: Service) -> None:
    stream = io.StringIO()
    configure(LogSettings(), stream)
    try:
        service("GET", "/who", headers={"X-Request-Id": "request-one"})
        service("GET", "/broken")
        log = get_logger("test")
        log.info("made", password="unmistakable", auth={"application_credential_secret": "unmistakable"}, token_expires_at=5)
    finally:
        configure(LogSettings(level="error"))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    who = next(line for line in lines if line.get("path") == "/who")
    assert (who["caller"], who["status"], who["request_id"]) == ("me", 200, "request-one")
    assert any("RuntimeError" in line.get("exception", "") for line in lines)
    assert TOKEN not in stream.getvalue()
    made = lines[-1]
    assert made["password"] == made["auth"]["application_credential_secret"] == "********"
    assert made["token_expires_at"] == 5


def test_limits_have_sane_defaults() -> None:
    assert RequestLimits().body_bytes == 1_048_576
