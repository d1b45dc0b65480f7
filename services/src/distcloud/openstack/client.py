"""Calls of OpenStack's services as one project in one region: token, endpoint, pages, errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2

from ..common.logs import MASK
from ..common.text import printable
from .addresses import DEFAULT_POLICY, EndpointPolicy
from .credential import Credential
from .errors import CloudError, ErrorKind
from .http import FAILURES, Answer, check_open, describe, fetch, never_sent, new_client
from .keystone import Keystone, Login

PAGE = 500  # entries asked for at once; a service may give fewer
_PAGES_AT_MOST = 200
_ENTRIES_AT_MOST = 20_000
_LISTING_BYTES = 64 * 2**20  # of all pages together: some 13,000 servers
_TEXT = 255
_EXPLANATION = 65_536  # bytes of a refusal that are searched for a message


class OpenStackClient:
    """`seconds` limits every single HTTP call. `http` replaces the HTTP client (a replay in tests).

    `endpoints` says which addresses may be contacted. `microversions` are sent to the services named there. A login fails when the
    region's catalog lacks the service `requires`.
    All methods raise CloudError.
    """

    def __init__(
        self,
        credential: Credential,
        *,
        seconds: float = 30.0,
        http: httpx2.AsyncClient | None = None,
        microversions: Mapping[str, str] | None = None,
        requires: str = "",
        endpoints: EndpointPolicy = DEFAULT_POLICY,
    ) -> None:
        self._credential = credential
        self._seconds = seconds
        self._http = http or new_client(credential, seconds, endpoints)
        self._policy = endpoints
        self._microversions = dict(microversions or {})
        self._keystone = Keystone(credential, self._http, seconds, requires=requires, endpoints=endpoints)

    async def project(self) -> str:
        """The id of the project that the credential logs in to."""
        return (await self._keystone.login()).project

    async def call(
        self,
        method: str,
        service: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        read_only: bool = False,
    ) -> Any:
        """The JSON answer ({} without one). `read_only`: the call changes nothing, as every GET; its errors are `no_effect`."""
        harmless = read_only or method == "GET"
        answer = await self._answer(method, service, path, body, params, harmless)
        return self._json(answer, f"{method} {service} {path}", harmless)

    async def pages(self, service: str, path: str, key: str, params: Mapping[str, str]) -> AsyncIterator[list[dict[str, Any]]]:
        """The pages of a listing, whose entries stand under `key`."""
        marker: dict[str, str] = {}
        size = entries = 0
        for _ in range(_PAGES_AT_MOST):
            try:
                received = await self._answer("GET", service, path, None, {"limit": str(PAGE), **params, **marker}, True)
            except CloudError as error:
                if marker and error.kind is ErrorKind.REJECTED:  # the entry that the marker names was deleted meanwhile
                    raise self.error(ErrorKind.UNREACHABLE, f"{key} changed while they were listed: {error}", no_effect=True) from error
                raise
            size += len(received.content)
            if size > _LISTING_BYTES:
                raise self.error(ErrorKind.UNREACHABLE, f"returns more than {_LISTING_BYTES >> 20} MiB of {key}", no_effect=True)
            answer = mapping(self._json(received, f"GET {service} {path}", True))
            page = answer.get(key)
            if not isinstance(page, list) or not all(isinstance(entry, dict) for entry in page):
                raise self.error(ErrorKind.UNREACHABLE, f"answered {path} without a list of {key}", no_effect=True)
            entries += len(page)
            if entries > _ENTRIES_AT_MOST:
                raise self.error(ErrorKind.UNREACHABLE, f"returns more than {_ENTRIES_AT_MOST} {key}", no_effect=True)
            # The link itself is not followed: behind a TLS front end it often has the wrong scheme or host.
            links = answer.get(f"{key}_links")
            more = answer.get("next") or any(mapping(link).get("rel") == "next" for link in (links if isinstance(links, list) else []))
            last = page[-1].get("id", "") if page else ""
            del answer, received  # a page may have 8 MiB: not kept while the caller uses it
            yield page
            if not page or not more:
                return
            before, marker = marker, {"marker": str(last)[:_TEXT]}
            if not last or marker == before:
                raise self.error(ErrorKind.UNREACHABLE, f"returns pages of {key} that cannot be continued", no_effect=True)
        raise self.error(ErrorKind.UNREACHABLE, f"returns more than {_PAGES_AT_MOST} pages of {key}", no_effect=True)

    async def close(self) -> None:
        await self._http.aclose()

    def error(self, kind: ErrorKind, message: str, *, no_effect: bool) -> CloudError:
        """An error of this cloud, for callers that reject an answer."""
        return CloudError(kind, self._credential.label, message, no_effect=no_effect)

    async def _answer(
        self, method: str, service: str, path: str, body: Mapping[str, Any] | None, params: Mapping[str, str] | None, harmless: bool
    ) -> Answer:
        """A successful answer."""
        login = await self._keystone.login()
        answer = await self._send(login, method, service, path, body, params, harmless)
        if answer.status == 401:  # the token may have been revoked before its time
            login = await self._keystone.login(refused=login)
            answer = await self._send(login, method, service, path, body, params, harmless)
        if not answer.succeeded:
            raise self._refusal(answer, service, f"{method} {service} {path}", harmless)
        return answer

    def _json(self, answer: Answer, what: str, harmless: bool) -> Any:
        if not answer.content:
            return {}
        try:
            return answer.json()
        except ValueError as error:
            raise self.error(ErrorKind.UNREACHABLE, f"{what}: the response is not JSON", no_effect=harmless) from error

    async def _send(
        self,
        login: Login,
        method: str,
        service: str,
        path: str,
        body: Mapping[str, Any] | None,
        params: Mapping[str, str] | None,
        harmless: bool,
    ) -> Answer:
        if service not in login.endpoints:
            region = self._credential.region or "(any)"
            raise self.error(ErrorKind.REJECTED, f"its catalog has no {service} service in region {region}", no_effect=True)
        headers = {"X-Auth-Token": login.token, "Accept": "application/json"}
        if service in self._microversions:
            headers["OpenStack-API-Version"] = f"{service} {self._microversions[service]}"
        url = f"{login.endpoints[service]}/{path}"
        check_open(self._credential, self._http)
        try:
            self._policy.check_url(url, self._credential.auth.get("auth_url", ""))
            return await fetch(self._http, method, url, seconds=self._seconds, json=body, params=params, headers=headers)
        except FAILURES as error:
            message = f"{service} at {url}: {describe(error, self._seconds)}"
            raise self.error(ErrorKind.UNREACHABLE, message, no_effect=harmless or never_sent(error)) from error

    def _refusal(self, answer: Answer, service: str, what: str, harmless: bool) -> CloudError:
        message = self._message(answer)
        status = answer.status
        if status == 401:
            text = f"{what}: refused (401) with a fresh token; the credential's access rules or its role forbid it"
            return self.error(ErrorKind.AUTH, text, no_effect=True)
        if status in (403, 413) and "quota" in message.lower():
            return self.error(ErrorKind.QUOTA, f"{message}; lower the cloud's limits or increase the quota", no_effect=True)
        if status == 404:
            return self.error(ErrorKind.NOT_FOUND, f"{what}: not found ({message})", no_effect=True)
        if status == 406 and service in self._microversions:
            text = f"its {service} API is too old: version {self._microversions[service]} is needed"
            return self.error(ErrorKind.REJECTED, text, no_effect=True)
        if status < 400:  # a redirect of a proxy, say: whoever answered is not the service
            return self.error(ErrorKind.UNREACHABLE, f"{what}: unexpected status {status}", no_effect=harmless)
        too_many = status == 429 or (status == 413 and "Retry-After" in answer.headers)
        if too_many or status >= 500:
            return self.error(ErrorKind.UNREACHABLE, f"{what}: answered {status} ({message})", no_effect=harmless or too_many)
        return self.error(ErrorKind.REJECTED, f"{what}: refused with {status} ({message})", no_effect=True)

    def _message(self, answer: Answer) -> str:
        """The message in a refusal as OpenStack's services write it, shortened, with our own secrets masked.

        Anything else is not quoted: it may come from another service, to which a wrong endpoint leads.
        """
        text = ""
        try:
            for value in mapping(answer.json()).values() if len(answer.content) <= _EXPLANATION else ():
                message = mapping(value).get("message")
                if isinstance(message, str):
                    text = message
        except ValueError:
            pass
        for secret in self._credential.secrets.values():
            if secret:
                text = text.replace(secret, MASK)
        return printable(text, _TEXT) or "no explanation"


def mapping(value: Any) -> dict[str, Any]:
    """`value` when it is a JSON object, else an empty one: services may violate their own schema."""
    return value if isinstance(value, dict) else {}
