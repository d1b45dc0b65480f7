# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Client of the REST API of an engine (Cloud Scheduler, ...): authentication, TLS, and errors as failures.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import json
import os
import ssl
import typing as t
from http.client import HTTPException
from ipaddress import ip_address
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from ansible.module_utils.urls import open_url

from .._core.module import Failure

MAX_RESPONSE = 32 * 1024 * 1024


def connection_options() -> dict[str, t.Any]:
    """Options of every module that calls an engine; each engine describes them in its doc fragment."""
    return {
        "api_url": {"type": "str", "required": True},
        "api_token": {"type": "str", "required": True, "no_log": True},
        "ca_path": {"type": "path"},
        "validate_certs": {"type": "bool", "default": True},
        "timeout": {"type": "int", "default": 30},
    }


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class NotListening(Failure):
    """Nothing listens at the address: the service is not installed yet, or stopped."""


class ApiClient:
    """One request, one response. Raises Failure for everything that is not a success.

    ``service`` is the engine's name in messages, ``scheduler`` for example.
    """

    def __init__(self, service: str, params: dict[str, t.Any]) -> None:
        self._service = service
        self._base = params["api_url"].rstrip("/")
        parts = urlsplit(self._base)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise Failure("api_url: should be an http or https URL without user and password", self._service, "api_url")
        self._local = _is_loopback(parts.hostname)
        if parts.scheme == "http" and not self._local:
            raise Failure(
                "api_url: should begin with https://; the token is sent without TLS only to the host on which the module runs "
                "(http://127.0.0.1)",
                self._service,
                "api_url",
            )
        self._token = params["api_token"]
        self._ca_path = params.get("ca_path")
        self._validate = params.get("validate_certs", True)
        self._timeout = params.get("timeout", 30)

    def get(self, *path: str, **query: t.Any) -> t.Any:
        """Parameters of the query that are None or empty are left out; a list is repeated."""
        return self._request("GET", path, query=query)

    def get_or_none(self, *path: str) -> t.Any:
        """None if the resource, or what it belongs to, does not exist."""
        try:
            return self.get(*path)
        except Failure as failure:
            if failure.code == 404 and failure.details.get("type") != "no-such-path":
                return None
            raise

    def put(self, path: t.Sequence[str], spec: dict[str, t.Any], dry_run: bool) -> dict[str, t.Any]:
        response: dict[str, t.Any] = self._request("PUT", path, body=spec, dry_run=dry_run)
        return response

    def delete(self, path: t.Sequence[str], dry_run: bool) -> dict[str, t.Any]:
        response: dict[str, t.Any] = self._request("DELETE", path, dry_run=dry_run)
        return response

    def post(self, path: t.Sequence[str]) -> dict[str, t.Any]:
        response: dict[str, t.Any] = self._request("POST", path)
        return response

    def _request(
        self,
        method: str,
        path: t.Sequence[str],
        body: dict[str, t.Any] | None = None,
        dry_run: bool = False,
        query: dict[str, t.Any] | None = None,
    ) -> t.Any:
        if self._ca_path and self._validate and not os.path.exists(self._ca_path):
            raise NotListening(f"ca_path: file {self._ca_path} does not exist", self._service, "ca_path")
        url = "/".join([self._base, "v1"] + [quote(part, safe="") for part in path])
        query = {"dry_run": "true"} if dry_run else {key: value for key, value in (query or {}).items() if value not in (None, [])}
        if query:
            url += "?" + urlencode(query, doseq=True)
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        data = None
        if body is not None:
            data = json.dumps(body).encode("utf-8")
            headers["Content-Type"] = "application/json"
        try:
            response = open_url(
                url,
                method=method,
                data=data,
                headers=headers,
                timeout=self._timeout,
                validate_certs=self._validate,
                ca_path=self._ca_path,
                follow_redirects="none",
                use_netrc=False,
                use_proxy=not self._local,
                http_agent="ansible-hep.distcloud",
            )
            return self._parsed(response.read(MAX_RESPONSE), method, url)
        except HTTPError as error:
            raise self._refused(error, method, url)
        except (URLError, OSError, HTTPException, ValueError) as error:
            raise self._unreachable(error)

    def _parsed(self, raw: bytes, method: str, url: str) -> t.Any:
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            raise Failure(
                f"{method} {url}: the response is not JSON; check that api_url is the address of the {self._service}",
                self._service,
                "not_json",
            )

    def _refused(self, error: HTTPError, method: str, url: str) -> Failure:
        """The problem (RFC 9457) that the server describes."""
        try:
            problem = json.loads(error.read(MAX_RESPONSE))
            detail = problem["detail"]
        except (ValueError, RecursionError, KeyError, TypeError, OSError, HTTPException):
            return Failure(
                f"{method} {url}: HTTP status {error.code} without an explanation; check that api_url is the address of the "
                f"{self._service}",
                self._service,
                error.code,
            )
        details: dict[str, t.Any] = {"type": str(problem.get("type", "")).rsplit(":", 1)[-1]}
        if problem.get("errors"):
            details["errors"] = problem["errors"]
        request_id = error.headers.get("X-Request-Id") if error.headers else None
        if request_id:
            details["request_id"] = request_id
        return Failure(f"the {self._service} refused: {detail}", self._service, error.code, details)

    def _unreachable(self, error: Exception) -> Failure:
        reason = getattr(error, "reason", None) or error
        where = f"the {self._service} at {self._base}" + self._through_proxy()
        if isinstance(reason, ConnectionRefusedError):
            return NotListening(f"{where} cannot be reached: connection refused; check that it is running", self._service, "refused")
        if isinstance(reason, ssl.SSLCertVerificationError):
            return Failure(
                f"{where}: its certificate is not accepted: {reason.verify_message}; set ca_path to the authority that issued it",
                self._service,
                "certificate",
            )
        if isinstance(reason, TimeoutError) or "timed out" in str(reason):
            return Failure(f"{where} did not answer within {self._timeout} s", self._service, "timeout")
        return Failure(f"{where} cannot be reached: {reason}", self._service, "unreachable")

    def _through_proxy(self) -> str:
        """Names the variable that sets the proxy in use: a failure may be its fault."""
        host = urlsplit(self._base).hostname or ""
        proxies = getproxies_environment()
        if self._local or not proxies.get("https") or proxy_bypass(host, proxies):
            return ""
        return " (through the proxy that https_proxy sets)"
