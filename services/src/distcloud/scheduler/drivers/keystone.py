"""Login to OpenStack: a token and the service endpoints, renewed before the token expires.

Uses asynchronous HTTP with httpx instead of keystoneauth's sessions: a hanging call can be cancelled (a thread cannot), so that
one dead region never exhausts a shared thread pool; and a CA can be given as text, without a file.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from .base import Account, CloudError, ErrorKind, check_project

_RENEW_BEFORE = 300.0
_VERSION_IN_PATH = re.compile(r"/v\d+(\.\d+)?(/[^/]+)?$")
_PROJECT_ID = re.compile(r"[!-~]{1,64}")  # as Keystone stores them; the catalog stores it
# Service catalogs list endpoints with or without a version; these are the versions that the driver supports.
_VERSIONS = {"compute": "v2.1", "image": "v2", "network": "v2.0"}
_SERVICE_TYPES = {"compute": ("compute",), "image": ("image",), "network": ("network",)}


@dataclass(frozen=True, slots=True)
class Login:
    """A token with its expiry time, and the endpoints of the services in the region."""

    token: str
    expires_at: float
    project: str
    endpoints: Mapping[str, str]


def client_for(account: Account, seconds: float) -> httpx.AsyncClient:
    """An HTTP client that trusts only the account's CA, if it has one. Raises CloudError if that is not a valid certificate."""
    verify: ssl.SSLContext | bool = True
    if account.ca_certificate:
        try:
            verify = ssl.create_default_context(cadata=account.ca_certificate)
        except ssl.SSLError as error:
            raise CloudError(
                ErrorKind.AUTH,
                account.label,
                "ca_certificate: is not a PEM certificate; give the text of the CA's certificate",
                no_effect=True,
            ) from error
    limits = httpx.Limits(max_connections=8, max_keepalive_connections=4, keepalive_expiry=30)
    return httpx.AsyncClient(verify=verify, timeout=httpx.Timeout(seconds, connect=min(seconds, 10.0)), limits=limits)


def check_open(account: Account, client: httpx.AsyncClient) -> None:
    """Raise CloudError for a closed client: its account was changed while the call waited.

    Call this immediately before sending: then nothing was sent, which is not certain of a call that is interrupted later.
    """
    if client.is_closed:
        message = "was not called: its account was changed meanwhile; the call is repeated with the new one"
        raise CloudError(ErrorKind.UNREACHABLE, account.label, message, no_effect=True)


class Keystone:
    """The login of one account; concurrent calls share one request."""

    def __init__(self, account: Account, client: httpx.AsyncClient, seconds: float) -> None:
        self._account = account
        self._client = client
        self._seconds = seconds
        self._login: Login | None = None
        self._lock = asyncio.Lock()

    async def login(self, *, refused: Login | None = None) -> Login:
        """A valid login; `refused` is one that a service has rejected, so that it is not returned again."""
        async with self._lock:
            current = self._login
            if current is None or current is refused or current.expires_at - _RENEW_BEFORE < time.time():
                current = self._login = await self._ask()
            return current

    async def _ask(self) -> Login:
        label = self._account.label
        url = self._account.auth.get("auth_url", "").rstrip("/")
        if not url.startswith(("http://", "https://")):
            raise CloudError(ErrorKind.AUTH, label, "auth.auth_url: missing, or not an http(s) URL", no_effect=True)
        if not url.endswith("/v3"):
            url += "/v3"
        body = {"auth": _request(self._account)}
        check_open(self._account, self._client)
        try:
            async with asyncio.timeout(self._seconds):
                response = await self._client.post(f"{url}/auth/tokens", json=body)
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise CloudError(
                ErrorKind.UNREACHABLE, label, f"Keystone at {url}: {describe_failure(error, self._seconds)}", no_effect=True
            ) from error
        if response.status_code in (401, 403):
            raise CloudError(
                ErrorKind.AUTH, label, f"Keystone at {url} refuses the credential; check it, and whether it has expired", no_effect=True
            )
        if response.status_code == 404:
            raise CloudError(ErrorKind.AUTH, label, f"no Keystone v3 at {url}; check auth.auth_url", no_effect=True)
        if response.status_code >= 400:
            kind = ErrorKind.UNREACHABLE if response.status_code >= 500 or response.status_code == 429 else ErrorKind.REJECTED
            raise CloudError(kind, label, f"Keystone at {url} answered {response.status_code}", no_effect=True)
        try:
            token = response.json()["token"]
            project = str(token["project"]["id"])
            if not _PROJECT_ID.fullmatch(project):
                raise ValueError("invalid project id")
            check_project(self._account, project)
            return Login(
                token=response.headers["X-Subject-Token"],
                expires_at=datetime.fromisoformat(token["expires_at"].replace("Z", "+00:00")).timestamp(),
                project=project,
                endpoints=_endpoints(self._account, token.get("catalog", [])),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CloudError(
                ErrorKind.AUTH, label, f"Keystone at {url} returned no project-scoped token; set the project in auth", no_effect=True
            ) from error


def _request(account: Account) -> dict[str, Any]:
    auth, secrets = account.auth, account.secrets
    if auth.get("auth_type") == "v3applicationcredential" or "application_credential_id" in auth:
        credential = {"id": auth.get("application_credential_id", ""), "secret": secrets.get("application_credential_secret", "")}
        return {"identity": {"methods": ["application_credential"], "application_credential": credential}}
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


def _endpoints(account: Account, catalog: list[dict[str, Any]]) -> dict[str, str]:
    interface = account.auth.get("interface", "public").removesuffix("URL")
    found: dict[str, str] = {}
    elsewhere: set[str] = set()
    for service, types in _SERVICE_TYPES.items():
        for entry in catalog:
            if entry.get("type") not in types:
                continue
            for endpoint in entry.get("endpoints", []):
                if endpoint.get("interface") != interface:
                    continue
                region = endpoint.get("region_id") or endpoint.get("region") or ""
                if account.region and region != account.region:
                    elsewhere.add(region)
                    continue
                url = str(endpoint["url"]).rstrip("/")
                found.setdefault(service, url if _VERSION_IN_PATH.search(url) else f"{url}/{_VERSIONS[service]}")
    if "compute" not in found:
        hint = f"; the catalog has {', '.join(sorted(elsewhere))}" if elsewhere else ""
        raise CloudError(
            ErrorKind.REJECTED,
            account.label,
            f"no {interface} compute endpoint in region {account.region or '(any)'}{hint}",
            no_effect=True,
        )
    return found


def describe_failure(error: BaseException, seconds: float) -> str:
    """Describe an error below HTTP."""
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return f"no answer within {seconds:g} s"
    message = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in message:
        return f"its certificate is not trusted ({message[:160]}); give the CA that signed it as ca_certificate"
    return f"cannot be reached ({message[:200]})"


def never_sent(error: BaseException) -> bool:
    """Whether the request was certainly not sent, so that it cannot have had an effect."""
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.InvalidURL | httpx.UnsupportedProtocol)
