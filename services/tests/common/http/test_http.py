"""The HTTP side of every service: problems, limits, request ids, probes, report, metrics, logs without secrets."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient, Response
from hypothesis import given, settings
from hypothesis import strategies as st

from distcloud.common.config import LogSettings, RequestLimits, ServiceSettings, check
from distcloud.common.http import bodies, gate
from distcloud.common.http.app import CallerDep, Dependency, create_app
from distcloud.common.http.auth import Caller, digest_of
from distcloud.common.http.gate import RateLimiter
from distcloud.common.http.problems import MEDIA_TYPE
from distcloud.common.http.report import Report, ReportProblem
from distcloud.common.logs import configure, get_logger
from distcloud.common.storage.database import DatabaseUnavailable

TOKEN = "unmistakable-token"


async def report(caller: Caller) -> Report:
    return Report(title="Test", problems=[ReportProblem(name="disk", detail=f"full, {caller.name}")], tables=[], links=[])


class Service:
    """A small service in a separate event loop."""

    def __init__(self, runner: asyncio.Runner, **requests: Any) -> None:
        data = {
            "listen": {"port": 1},
            "tokens": [{"name": "me", "scope": "viewer", "sha256": digest_of(TOKEN)}],
            "requests": {"per_second": 1e6, "burst": 1_000_000, "body_bytes": 2048, **requests},
        }
        self.problem = ""
        self.dependencies: list[Dependency] = []
        self.runner = runner
        checked = check(data, ServiceSettings, "test")
        self.app = create_app("Test", checked, stuck=lambda: self.problem, dependencies=lambda: self.dependencies, report=report)
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

        @app.get("/database")
        async def database() -> None:
            raise DatabaseUnavailable("database x: unavailable")

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
        ("GET", "/who", {"headers": {"Authorization": "Bearer wrong"}}, 401, "unauthorized"),
        ("GET", "/who", {"headers": {"Authorization": "Basic eDp5"}}, 401, "unauthorized"),
        ("GET", "/who", {"headers": {"Authorization": "Bearer"}}, 401, "unauthorized"),
        ("PUT", "/echo/1", {"json": {"a": "x"}}, 422, "invalid"),
        ("PUT", "/echo/x", {"json": {"a": 1}}, 422, "invalid"),
        ("PUT", "/echo/1", {}, 422, "invalid"),
        ("PUT", "/echo/1", {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415, "not-json"),
        ("PUT", "/echo/1", {"data": {"a": "1"}}, 415, "not-json"),
        ("GET", "/broken", {}, 500, "internal"),
        ("GET", "/database", {}, 503, "database"),
        ("GET", "/v1/report", {"headers": {"Authorization": "Bearer wrong"}}, 401, "unauthorized"),
    ],
)
def test_every_error_is_a_problem_document(service: Service, method: str, path: str, options: Any, status: int, kind: str) -> None:
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
def test_ambiguous_json_is_rejected(service: Service, raw: bytes, words: str) -> None:
    answer = service("PUT", "/echo/1", content=raw, headers=JSON)
    assert answer.status_code in (400, 413, 422)
    assert words in answer.json()["detail"]


REFUSED_BODIES = [b"{", b"[" * 2000, b" " * 3000, b"{}"]


@pytest.mark.parametrize("raw", REFUSED_BODIES, ids=["malformed", "nested", "too large", "valid"])
@pytest.mark.parametrize("token", [None, "Bearer wrong"])
def test_token_is_checked_before_the_body(service: Service, raw: bytes, token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "parse_body", lambda _: pytest.fail("a body without a valid token was parsed"))
    headers = {"Content-Type": "text/plain"} | ({"Authorization": token} if token else {})
    del service.client.headers["Authorization"]
    assert service("PUT", "/echo/1", content=raw, headers=headers).status_code == 401


def test_body_without_a_token_is_not_received(service: Service) -> None:
    async def untouchable() -> AsyncIterator[bytes]:
        pytest.fail("a body without a valid token was received")
        yield b""

    del service.client.headers["Authorization"]
    answer = service("PUT", "/echo/1", content=untouchable(), headers=JSON)
    assert (answer.status_code, answer.headers["connection"]) == (401, "close")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/v1/report", "/who", "/none", "/broken"])
def test_head_is_answered_like_get_without_a_body(service: Service, path: str) -> None:
    got, head = service("GET", path), service("HEAD", path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    ours = [{key: value for key, value in answer.headers.items() if key != "x-request-id"} for answer in (got, head)]
    if path not in ("/metrics", "/broken"):  # whose bodies differ each time
        assert ours[0] == ours[1]


def test_head_needs_the_same_token_and_a_get_route(service: Service) -> None:
    assert service("HEAD", "/who", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert service("HEAD", "/echo/1").status_code == 405
    assert set(service("DELETE", "/who").headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert not any("head" in item for item in service("GET", "/openapi.json").json()["paths"].values())
    assert 'distcloud_http_requests_total{method="HEAD",route="/who",status="401"} 1.0' in service("GET", "/metrics").text


def test_body_size_is_limited_with_or_without_length(service: Service) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b" " * 1000

    for content in (b" " * 3000, chunks()):
        answer = service("PUT", "/echo/1", content=content, headers=JSON)
        assert answer.status_code == 413
        assert "2048" in answer.json()["detail"]


def test_slow_body_times_out(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)
    never = asyncio.Event()

    async def drip() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    assert service("PUT", "/echo/1", content=drip(), headers=JSON).status_code == 408


def test_rate_limit_sends_retry_after() -> None:
    with asyncio.Runner() as runner:
        service = Service(runner, per_second=0.001, burst=2)
        answers = [service("GET", "/who") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 900 <= int(answers[2].headers["retry-after"]) <= 1001


def test_requests_without_a_token_use_up_only_their_own_limit() -> None:
    with asyncio.Runner() as runner:
        service = Service(runner, per_second=0.001, burst=2)
        anonymous = [service("GET", "/who", headers={"Authorization": f"Bearer guess-{number}"}).status_code for number in range(4)]
        holder = [service("GET", "/who").status_code for _ in range(3)]
    assert (anonymous, holder) == ([401, 401, 429, 429], [200, 200, 429])


def test_overlong_token_is_refused(service: Service) -> None:
    answer = service("GET", "/who", headers={"Authorization": "Bearer " + "x" * 5000})
    assert (answer.status_code, "too long" in answer.json()["detail"]) == (401, True)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 5)), max_size=60))
@settings(max_examples=50, deadline=None)
def test_rate_limit_holds_for_each_client(calls: list[tuple[str, float]]) -> None:
    limiter, now = RateLimiter(2.0, 3), 0.0
    allowed = {"a": 0, "b": 0}
    for client, pause in calls:
        now += pause
        allowed[client] += limiter.wait(client, now) == 0
    assert all(count <= 3 + 2.0 * now + 1e-6 for count in allowed.values())


def test_rate_limiter_memory_is_bounded() -> None:
    limiter = RateLimiter(1.0, 1)
    for number in range(3 * gate.CLIENTS_REMEMBERED):
        limiter.wait(str(number), 0.0)
    assert len(limiter._buckets) <= gate.CLIENTS_REMEMBERED


def test_probes_and_metrics_require_no_token(service: Service) -> None:
    assert service("GET", "/healthz", headers={"Authorization": ""}).json() == {"status": "ok"}
    service.problem = "its loop is stuck"
    sick = service("GET", "/healthz")
    assert (sick.status_code, sick.json()["problem"]) == (503, "its loop is stuck")
    for dependencies, status, code in (
        ([Dependency("a"), Dependency("b", required=False)], "ready", 200),
        ([Dependency("a"), Dependency("b", "unreachable", required=False)], "degraded", 200),
        ([Dependency("a", "unreachable"), Dependency("b", required=False)], "failing", 503),
    ):
        service.dependencies = dependencies
        answer = service("GET", "/readyz", headers={"Authorization": ""})
        assert (answer.status_code, answer.json()["status"]) == (code, status)
    assert answer.json()["dependencies"][0] == {"name": "a", "ok": False, "required": True, "problem": "unreachable"}
    service("PUT", "/echo/1", json={"a": 1})
    service("GET", "/never/seen")
    text = service("GET", "/metrics").text
    assert 'distcloud_http_requests_total{method="PUT",route="/echo/{number}",status="200"} 1.0' in text
    assert "/never" not in text
    assert "/echo/1" not in text


def test_api_page_is_self_contained(service: Service) -> None:
    page = service("GET", "/docs")
    assert page.status_code == 200
    assert "/echo/{number}" in page.text
    assert "<script" not in page.text
    assert "http" not in page.text.replace("xmlns", "")
    assert service("GET", "/openapi.json").json()["openapi"].startswith("3.")


def test_openapi_declares_problem_documents(service: Service) -> None:
    paths = [service("GET", "/openapi.json").json()["paths"] for _ in range(2)][1]
    declared = paths["/echo/{number}"]["put"]["responses"]
    assert list(declared) == ["200", "default"] and list(declared["default"]["content"]) == [MEDIA_TYPE]
    refused = service("PUT", "/echo/one", json={})
    assert refused.status_code == 422 and refused.headers["content-type"] == MEDIA_TYPE
    for path in ("/healthz", "/readyz"):
        assert "503" in paths[path]["get"]["responses"]


def test_request_id_is_kept_if_valid(service: Service) -> None:
    assert service("GET", "/who", headers={"X-Request-Id": "run-2026-11-21.1"}).headers["x-request-id"] == "run-2026-11-21.1"
    for odd in ("short", "x" * 65, "semi;colon;in;it"):
        assert service("GET", "/who", headers={"X-Request-Id": odd}).headers["x-request-id"] != odd


def test_log_has_the_caller_but_no_secret(service: Service) -> None:
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


def test_report_requires_a_token_and_knows_its_caller(service: Service) -> None:
    assert service("GET", "/v1/report").json() == {
        "title": "Test",
        "problems": [{"name": "disk", "detail": "full, me"}],
        "tables": [],
        "links": [],
    }


def test_openapi_describes_every_response(service: Service) -> None:
    schema = service("GET", "/openapi.json").json()
    for path in ("/readyz", "/v1/report"):
        name = schema["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[-1]
        declared = schema["components"]["schemas"][name]
        assert sorted(declared["required"]) == sorted(declared["properties"])
