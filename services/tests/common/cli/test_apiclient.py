"""The API client: where its settings come from, and errors that a person understands."""

from __future__ import annotations

import gzip
from pathlib import Path

import httpx2
import pytest
import yaml

from distcloud.common.cli.apiclient import ApiClient, CallError, ClientSettings, client_paths, client_settings
from distcloud.common.config import ConfigError
from distcloud.common.http.schemas import Response


class Status(Response):
    healthy: bool


def client(tmp_path: Path, respond: httpx2.MockTransport) -> ApiClient:
    (tmp_path / "token").write_text("t\n")
    made = ApiClient("demo", ClientSettings(url="https://demo", token_file=tmp_path / "token"))
    made._client = httpx2.Client(base_url="https://demo", transport=respond)
    return made


def test_each_engine_has_its_own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client_paths("demo") == (Path("/etc/distcloud/demo/cli.yml"), Path("/etc/distcloud-public/demo/cli.yml"))
    own, public = tmp_path / "own.yml", tmp_path / "public.yml"
    for path in (own, public):
        path.write_text(yaml.safe_dump({"url": "https://c:8443", "token_file": str(path.with_suffix(".token"))}))
    monkeypatch.setenv("DISTCLOUD_OTHER_TOKEN_FILE", "/other")
    assert client_settings("demo", (own, public)).token_file == own.with_suffix(".token")
    # Simulates another user: as root no mode keeps us out.
    monkeypatch.setattr("distcloud.common.cli.apiclient.os.access", lambda path, _: path != own)
    assert client_settings("demo", (own, public)).token_file == public.with_suffix(".token")
    monkeypatch.setenv("DISTCLOUD_DEMO_TOKEN_FILE", "/mine")
    assert client_settings("demo", (own, public)).token_file == Path("/mine")


def test_missing_address_names_variable_and_file(tmp_path: Path) -> None:
    expected = "the API of demo is not configured; set DISTCLOUD_DEMO_URL (or url in .*none) and DISTCLOUD_DEMO_TOKEN_FILE"
    with pytest.raises(ConfigError, match=expected.replace("(", r"\(").replace(")", r"\)")):
        client_settings("demo", (tmp_path / "none",))


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (httpx2.Response(404, json={"detail": "there is no VM vm-1"}), "there is no VM vm-1"),
        (httpx2.Response(502, text="<html>"), "the response is not JSON \\(HTTP status 502\\)"),
        (httpx2.Response(500, json=[]), "HTTP status 500"),
        (httpx2.Response(200, text="<html>"), "the response is not JSON"),
        (httpx2.Response(200, content=b"[" * 100_000), "is nested more than 64 levels deep"),
        (httpx2.Response(500, content=b'{"detail": ' * 100_000), "is nested more than 64 levels deep"),
        (httpx2.Response(200, json={"healthy": "perhaps"}), "unexpected response, field healthy: .*right address and version"),
    ],
)
def test_errors_are_messages(tmp_path: Path, response: httpx2.Response, message: str) -> None:
    with client(tmp_path, httpx2.MockTransport(lambda _: response)) as api, pytest.raises(CallError, match=message):
        api.get("/v1/status", Status)


def test_unreachable_service_is_named(tmp_path: Path) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("connection refused")

    with (
        client(tmp_path, httpx2.MockTransport(refuse)) as api,
        pytest.raises(CallError, match="https://demo: unreachable: connection refused"),
    ):
        api.get("/v1/status", Status)


def test_endless_response_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distcloud.common.cli.apiclient.MAX_RESPONSE", 1000)
    zipped = httpx2.Response(200, content=gzip.compress(b" " * 100_000), headers={"Content-Encoding": "gzip"})
    with client(tmp_path, httpx2.MockTransport(lambda _: zipped)) as api, pytest.raises(CallError, match="larger than 1000 bytes"):
        api.get("/v1/status", Status)


def test_parameters_without_value_are_left_out(tmp_path: Path) -> None:
    def respond(request: httpx2.Request) -> httpx2.Response:
        assert request.url.query == b"state=ready&state=error"
        return httpx2.Response(200, json={"healthy": True})

    with client(tmp_path, httpx2.MockTransport(respond)) as api:
        assert api.get("/v1/status", Status, state=["ready", "error"], cloud=None).healthy
