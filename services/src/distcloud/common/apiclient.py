"""Calls a service's API from the command line: where it is and who we are come from a file or the environment, never from arguments."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2

from .config import ConfigError, Settings, load

# For root and the services, and for everybody else: the folder of the former is closed to other users.
DEFAULT_PATHS = (Path("/etc/distcloud/cli.yml"), Path("/etc/distcloud-public/cli.yml"))
TIMEOUT = 30.0


class CallError(Exception):
    """The call was refused or got no answer, in words for the person at the terminal."""


class ClientSettings(Settings):
    """cli.yml: address of the service, a file with a token, and the authority of its certificate."""

    url: str
    token_file: Path
    ca: Path | None = None


def client_settings(paths: Sequence[Path] = DEFAULT_PATHS) -> ClientSettings:
    """The first file that we may read, with DISTCLOUD_URL, DISTCLOUD_TOKEN_FILE and DISTCLOUD_CA laid over it. Raises ConfigError."""
    given = {"url": "DISTCLOUD_URL", "token_file": "DISTCLOUD_TOKEN_FILE", "ca": "DISTCLOUD_CA"}
    said = {key: os.environ[name] for key, name in given.items() if os.environ.get(name)}
    readable = next((path for path in paths if os.access(path, os.R_OK)), None)
    if readable is not None:
        said = {**load(readable, ClientSettings).model_dump(mode="json", exclude_none=True), **said}
    missing = [f"{given[key]} (or {key} in {paths[0]})" for key in ("url", "token_file") if key not in said]
    if missing:
        raise ConfigError(f"say where the service is: set {' and '.join(missing)}")
    return ClientSettings.model_validate(said)


class ApiClient:
    """One service; use as a context manager."""

    def __init__(self, settings: ClientSettings) -> None:
        try:
            token = settings.token_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{settings.token_file}: the token cannot be read: {getattr(error, 'strerror', error)}") from error
        if not token or any(sign.isspace() for sign in token):
            raise ConfigError(f"{settings.token_file}: should hold one token on one line")
        try:
            verify = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{settings.ca}: is not a readable PEM file of certificates") from error
        self._url = settings.url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"}
        try:
            self._client = httpx2.Client(base_url=self._url, headers=headers, verify=verify, timeout=TIMEOUT)
        except httpx2.InvalidURL as error:
            what = f"DISTCLOUD_URL (or url in {DEFAULT_PATHS[0]})"
            raise ConfigError(f"{what}: should be an address such as https://central:8443") from error

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **params: Any) -> Any:
        return self._call("GET", path, params)

    def post(self, path: str) -> Any:
        return self._call("POST", path, {})

    def _call(self, method: str, path: str, params: dict[str, Any]) -> Any:
        try:
            answer = self._client.request(method, path, params={key: value for key, value in params.items() if value is not None})
        except httpx2.TimeoutException as error:
            raise CallError(f"{self._url} did not answer within {TIMEOUT:.0f} s") from error
        except (httpx2.HTTPError, UnicodeError) as error:  # the latter of the resolver: a name that cannot be one
            raise CallError(f"{self._url} cannot be reached: {error}") from error
        except httpx2.InvalidURL as error:
            raise CallError(f"{self._url} cannot be asked for this: {error}") from error
        try:
            body = answer.json()
        except ValueError as error:
            words = f"the answer is not JSON (HTTP status {answer.status_code}); is this the right address?"
            raise CallError(f"{self._url}: {words}") from error
        if answer.is_error:
            detail = body.get("detail") if isinstance(body, dict) else None
            raise CallError(str(detail or f"{self._url} answered with HTTP status {answer.status_code}"))
        return body
