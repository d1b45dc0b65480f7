"""A client of an engine's API for the command line. Address and token come from a file or the environment, never from arguments."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from ..config import ConfigError, Settings, is_loopback, load
from ..json_limits import JsonLimits, TooComplex
from .connection import proxy_for, tls_context

TIMEOUT = 30.0
MAX_RESPONSE = 67_108_864  # bytes
LIMITS = JsonLimits(depth=64, containers=5_000_000, values=20_000_000)

Model = TypeVar("Model", bound=BaseModel)


class CallError(Exception):
    """The call was rejected or got no response; the message is for the person at the terminal."""


class ClientSettings(Settings):
    """cli.yml: address of the service, a file with a token, and the CA of its certificate."""

    url: str
    token_file: Path
    ca: Path | None = None


def client_paths(engine: str) -> tuple[Path, Path]:
    """For root and the engine's user, and for everybody else: the folder of the former is closed to other users."""
    return Path(f"/etc/distcloud/{engine}/cli.yml"), Path(f"/etc/distcloud-public/{engine}/cli.yml")


def variable(engine: str, key: str) -> str:
    """The environment variable that overrides a key of cli.yml."""
    return f"DISTCLOUD_{engine}_{key}".upper()


def client_settings(engine: str, paths: Sequence[Path] | None = None) -> ClientSettings:
    """The first readable file, overridden by DISTCLOUD_<ENGINE>_URL, _TOKEN_FILE and _CA. Raises ConfigError."""
    paths = client_paths(engine) if paths is None else paths
    names = {key: variable(engine, key) for key in ClientSettings.model_fields}
    given = {key: os.environ[name] for key, name in names.items() if os.environ.get(name)}
    readable = next((path for path in paths if os.access(path, os.R_OK)), None)
    if readable is not None:
        given = {**load(readable, ClientSettings).model_dump(mode="json", exclude_none=True), **given}
    missing = [f"{names[key]} (or {key} in {paths[0]})" for key in ("url", "token_file") if key not in given]
    if missing:
        raise ConfigError(f"the API of {engine} is not configured; set {' and '.join(missing)}")
    return ClientSettings.model_validate(given)


def _http_client(engine: str, settings: ClientSettings, token: str) -> httpx2.Client:
    """A client that sends the token over TLS, or to this machine itself and never through a proxy. Raises ConfigError."""
    setting = f"{variable(engine, 'url')} (or url in {client_paths(engine)[0]})"
    try:
        url = httpx2.URL(settings.url.rstrip("/"))
    except httpx2.InvalidURL as error:
        raise ConfigError(f"{setting}: should be an address such as https://central:8443") from error
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise ConfigError(f"{setting}: should be an address such as https://central:8443, without user and password")
    local = is_loopback(url.host)
    if url.scheme == "http" and not local:
        raise ConfigError(f"{setting}: should begin with https://; a token is sent without TLS only to this machine (http://127.0.0.1)")
    return httpx2.Client(
        base_url=url,
        headers={"Authorization": f"Bearer {token}"},
        verify=tls_context(settings.ca),
        proxy=None if local else proxy_for(url.host),
        trust_env=False,
        timeout=TIMEOUT,
    )


class ApiClient:
    """A client of one engine; use as a context manager."""

    def __init__(self, engine: str, settings: ClientSettings) -> None:
        try:
            token = settings.token_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{settings.token_file}: cannot read the token: {getattr(error, 'strerror', error)}") from error
        if not token or any(sign.isspace() for sign in token):
            raise ConfigError(f"{settings.token_file}: should contain one token on one line")
        self._url = settings.url.rstrip("/")
        self._client = _http_client(engine, settings, token)

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, model: type[Model], **params: Any) -> Model:
        return self._call("GET", path, model, params)

    def post(self, path: str, model: type[Model]) -> Model:
        return self._call("POST", path, model, {})

    def _call(self, method: str, path: str, model: type[Model], params: dict[str, Any]) -> Model:
        try:
            response, content = self._received(method, path, {key: value for key, value in params.items() if value is not None})
        except httpx2.TimeoutException as error:
            raise CallError(f"{self._url}: no response within {TIMEOUT:.0f} s") from error
        except (httpx2.HTTPError, UnicodeError) as error:  # the latter from the resolver, for a malformed host name
            raise CallError(f"{self._url}: unreachable: {error}") from error
        except httpx2.InvalidURL as error:
            raise CallError(f"{self._url}: invalid request: {error}") from error
        try:
            LIMITS.check(content)
        except TooComplex as error:
            raise CallError(f"{self._url}: the response {error}; is this the right address?") from error
        if response.is_error:
            raise CallError(self._problem(response.status_code, content))
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            raise CallError(self._unexpected(response.status_code, content, error)) from error

    def _received(self, method: str, path: str, params: dict[str, Any]) -> tuple[httpx2.Response, bytes]:
        content = bytearray()
        with self._client.stream(method, path, params=params) as response:
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > MAX_RESPONSE:
                    raise CallError(f"{self._url}: the response is larger than {MAX_RESPONSE} bytes; is this the right address?")
        return response, bytes(content)

    def _problem(self, status: int, content: bytes) -> str:
        """The detail of a problem document, or what else is known of an error response."""
        try:
            body = json.loads(content)
        except ValueError:
            return f"{self._url}: the response is not JSON (HTTP status {status}); is this the right address?"
        detail = body.get("detail") if isinstance(body, dict) else None
        return str(detail or f"{self._url}: HTTP status {status}")

    def _unexpected(self, status: int, content: bytes, error: ValidationError) -> str:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            return self._problem(status, content)
        where = ".".join(str(step) for step in first["loc"]) or "(top)"
        return f"{self._url}: unexpected response, field {where}: {first['msg']}; is this the right address and version?"
