"""Login to an OpenStack: a token and the endpoints of its services, renewed before the token expires."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx2

from .addresses import DEFAULT_POLICY, EndpointPolicy, EndpointRefused
from .credential import Credential
from .errors import CloudError, ErrorKind
from .http import FAILURES, check_open, describe, fetch

_RENEW_BEFORE = 300.0
_VERSION_IN_PATH = re.compile(r"/v\d+(\.\d+)?(/[^/]+)?$")
_ENDPOINT = 2048  # characters of an endpoint's URL
_SERVICE_TYPE = 255  # and of a service's type
_SERVICES = 100  # kept of a catalog
_PROJECT_ID = re.compile(r"[!-~]{1,64}")  # as Keystone stores them; the ledger keeps it
# Catalogs list endpoints with or without a version; these are the versions that are spoken here.
VERSIONS = {"compute": "v2.1", "image": "v2", "network": "v2.0"}


@dataclass(frozen=True, slots=True)
class Login:
    """A token with its expiry (seconds since the epoch) and the endpoints of the services in the credential's region."""

    token: str
    expires_at: float
    project: str
    endpoints: Mapping[str, str]


class Keystone:
    """The login of one credential. Calls that need it at the same time share one request."""

    def __init__(
        self,
        credential: Credential,
        client: httpx2.AsyncClient,
        seconds: float,
        *,
        requires: str = "",
        endpoints: EndpointPolicy = DEFAULT_POLICY,
    ) -> None:
        """A catalog without the service `requires` in the region makes the login fail."""
        self._credential = credential
        self._client = client
        self._seconds = seconds
        self._requires = requires
        self._policy = endpoints
        self._login: Login | None = None
        self._lock = asyncio.Lock()

    async def login(self, *, refused: Login | None = None) -> Login:
        """A valid login; `refused` is a login that a service rejected, to be replaced."""
        async with self._lock:
            current = self._login
            if current is None or current is refused or current.expires_at - _RENEW_BEFORE < time.time():
                current = self._login = await self._request()
            return current

    async def _request(self) -> Login:
        credential = self._credential
        url = credential.auth.get("auth_url", "").rstrip("/")
        if not url.startswith(("http://", "https://")):
            raise self._error(ErrorKind.AUTH, "auth.auth_url: is missing or not an http(s) URL; give Keystone's address")
        if not url.endswith("/v3"):
            url += "/v3"
        check_open(credential, self._client)
        try:
            self._policy.check_url(url, url)
            answer = await fetch(self._client, "POST", f"{url}/auth/tokens", seconds=self._seconds, json={"auth": request_body(credential)})
        except EndpointRefused as error:
            raise self._error(ErrorKind.AUTH, f"auth.auth_url: {url} {error}") from error
        except FAILURES as error:
            raise self._error(ErrorKind.UNREACHABLE, f"Keystone at {url}: {describe(error, self._seconds)}") from error
        if answer.status in (401, 403):
            raise self._error(ErrorKind.AUTH, f"Keystone at {url} refuses the credential; check it, or whether it has expired")
        if answer.status == 404:
            raise self._error(ErrorKind.AUTH, f"no Keystone v3 at {url}; check auth.auth_url")
        if not answer.succeeded:
            kind = ErrorKind.UNREACHABLE if answer.status >= 500 or answer.status < 400 or answer.status == 429 else ErrorKind.REJECTED
            raise self._error(kind, f"Keystone at {url} answered {answer.status}")
        try:
            token = answer.json()["token"]
            project = str(token["project"]["id"])
            if not _PROJECT_ID.fullmatch(project):
                raise ValueError("invalid project id")
            credential.check_project(project)
            return Login(
                token=answer.headers["X-Subject-Token"],
                expires_at=datetime.fromisoformat(token["expires_at"].replace("Z", "+00:00")).timestamp(),
                project=project,
                endpoints=self._endpoints(token.get("catalog")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._error(ErrorKind.AUTH, f"Keystone at {url} returned no project-scoped token; name the project in auth") from error

    def _endpoints(self, catalog: Any) -> dict[str, str]:
        """Service type -> address with version, for the credential's region and interface."""
        interface = self._credential.auth.get("interface", "public").removesuffix("URL")
        region = self._credential.region
        found: dict[str, str] = {}
        elsewhere: set[str] = set()
        for service, endpoint in _entries(catalog):
            if endpoint.get("interface") != interface:
                continue
            its_region = str(endpoint.get("region_id") or endpoint.get("region") or "")
            if region and its_region != region:
                if service == self._requires:
                    elsewhere.add(its_region)
                continue
            url = str(endpoint.get("url") or "").rstrip("/")
            if not url or len(url) > _ENDPOINT or len(service) > _SERVICE_TYPE or len(found) >= _SERVICES:
                continue
            versioned = service not in VERSIONS or _VERSION_IN_PATH.search(url)
            found.setdefault(service, url if versioned else f"{url}/{VERSIONS[service]}")
        if self._requires and self._requires not in found:
            hint = f"; the catalog has {', '.join(sorted(elsewhere)[:10])}" if elsewhere else ""
            raise self._error(ErrorKind.REJECTED, f"no {interface} {self._requires} endpoint in region {region or '(any)'}{hint}")
        return found

    def _error(self, kind: ErrorKind, message: str) -> CloudError:
        return CloudError(kind, self._credential.label, message, no_effect=True)  # a login changes nothing


def _entries(catalog: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Service type and endpoint of each well-formed entry: a faulty entry of one service must not hide the others."""
    for entry in catalog if isinstance(catalog, list) else []:
        endpoints = entry.get("endpoints") if isinstance(entry, dict) else None
        for endpoint in endpoints if isinstance(endpoints, list) else []:
            if isinstance(endpoint, dict):
                yield str(entry.get("type", "")), endpoint


def request_body(credential: Credential) -> dict[str, Any]:
    """The `auth` object of POST /v3/auth/tokens: an application credential, or a password with its project."""
    auth, secrets = credential.auth, credential.secrets
    if auth.get("auth_type") == "v3applicationcredential" or "application_credential_id" in auth:
        application = {"id": auth.get("application_credential_id", ""), "secret": secrets.get("application_credential_secret", "")}
        return {"identity": {"methods": ["application_credential"], "application_credential": application}}
    user = {
        "name": auth.get("username", ""),
        "domain": _domain(auth, "user_domain"),
        "password": secrets.get("password", ""),
    }
    if auth.get("project_id"):
        project: dict[str, Any] = {"id": auth["project_id"]}
    else:
        project = {"name": auth.get("project_name", ""), "domain": _domain(auth, "project_domain")}
    return {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": {"project": project}}


def _domain(auth: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {"id": auth[f"{prefix}_id"]} if auth.get(f"{prefix}_id") else {"name": auth.get(f"{prefix}_name") or "Default"}
