"""A client of an engine's API for the command line. Address and token come from a file or the environment, never from arguments."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from ..config import ConfigError, Settings, load

TIMEOUT = 30.0

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


class ApiClient:
    """A client of one engine; use as a context manager."""

    def __init__(self, engine: str, settings: ClientSettings) -> None:
        try:
            token = settings.token_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{settings.token_file}: cannot read the token: {getattr(error, 'strerror', error)}") from error
        if not token or any(sign.isspace() for sign in token):
            raise ConfigError(f"{settings.token_file}: should contain one token on one line")
        try:
            verify = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{settings.ca}: not a readable PEM file of certificates") from error
        self._url = settings.url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"}
        try:
            self._client = httpx2.Client(base_url=self._url, headers=headers, verify=verify, timeout=TIMEOUT)
        except httpx2.InvalidURL as error:
            setting = f"{variable(engine, 'url')} (or url in {client_paths(engine)[0]})"
            raise ConfigError(f"{setting}: should be an address such as https://central:8443") from error

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
            response = self._client.request(method, path, params={key: value for key, value in params.items() if value is not None})
        except httpx2.TimeoutException as error:
            raise CallError(f"{self._url}: no response within {TIMEOUT:.0f} s") from error
        except (httpx2.HTTPError, UnicodeError) as error:  # the latter from the resolver, for a malformed host name
            raise CallError(f"{self._url}: unreachable: {error}") from error
        except httpx2.InvalidURL as error:
            raise CallError(f"{self._url}: invalid request: {error}") from error
        if response.is_error:
            raise CallError(self._problem(response))
        try:
            return model.model_validate_json(response.content)
        except ValidationError as error:
            raise CallError(self._unexpected(response, error)) from error

    def _problem(self, response: httpx2.Response) -> str:
        """The detail of a problem document, or what else is known of an error response."""
        try:
            body = response.json()
        except ValueError:
            return f"{self._url}: the response is not JSON (HTTP status {response.status_code}); is this the right address?"
        detail = body.get("detail") if isinstance(body, dict) else None
        return str(detail or f"{self._url}: HTTP status {response.status_code}")

    def _unexpected(self, response: httpx2.Response, error: ValidationError) -> str:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            return self._problem(response)
        where = ".".join(str(step) for step in first["loc"]) or "(top)"
        return f"{self._url}: unexpected response, field {where}: {first['msg']}; is this the right address and version?"
