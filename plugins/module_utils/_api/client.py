# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Cloud Scheduler's REST API, as far as modules speak it.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import json
import os
import ssl
import typing as t
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit

from ansible.module_utils.urls import open_url

from .._core.module import Failure

SERVICE = "scheduler"
MAX_ANSWER = 32 * 1024 * 1024


def connection_options() -> dict[str, t.Any]:
    """Options by which every module reaches the scheduler; described in the doc fragment `scheduler`."""
    return {
        "api_url": {"type": "str", "required": True},
        "api_token": {"type": "str", "required": True, "no_log": True},
        "ca_path": {"type": "path"},
        "validate_certs": {"type": "bool", "default": True},
        "timeout": {"type": "int", "default": 30},
    }


class NotThere(Failure):
    """Nothing listens at the address: the scheduler is not installed yet, or stopped."""


class SchedulerClient:
    """One request, one answer. Raises Failure for everything that is not a success."""

    def __init__(self, params: dict[str, t.Any]) -> None:
        self._base = params["api_url"].rstrip("/")
        parts = urlsplit(self._base)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise Failure("api_url: should be an http or https URL without user and password", SERVICE, "api_url")
        self._token = params["api_token"]
        self._ca_path = params.get("ca_path")
        self._validate = params.get("validate_certs", True)
        self._timeout = params.get("timeout", 30)

    def get(self, *path: str) -> t.Any:
        return self._ask("GET", path)

    def get_or_none(self, *path: str) -> t.Any:
        """None where the thing itself, or what it belongs to, does not exist."""
        try:
            return self.get(*path)
        except Failure as failure:
            if failure.code == 404 and failure.details.get("type") != "no-such-path":
                return None
            raise

    def put(self, path: t.Sequence[str], wish: dict[str, t.Any], dry_run: bool) -> dict[str, t.Any]:
        answer: dict[str, t.Any] = self._ask("PUT", path, body=wish, dry_run=dry_run)
        return answer

    def delete(self, path: t.Sequence[str], dry_run: bool) -> dict[str, t.Any]:
        answer: dict[str, t.Any] = self._ask("DELETE", path, dry_run=dry_run)
        return answer

    def post(self, path: t.Sequence[str]) -> dict[str, t.Any]:
        answer: dict[str, t.Any] = self._ask("POST", path)
        return answer

    def _ask(self, method: str, path: t.Sequence[str], body: t.Optional[dict[str, t.Any]] = None, dry_run: bool = False) -> t.Any:
        if self._ca_path and self._validate and not os.path.exists(self._ca_path):
            raise NotThere("ca_path: there is no file %s" % self._ca_path, SERVICE, "ca_path")
        url = "/".join([self._base, "v1"] + [quote(part, safe="") for part in path])
        if dry_run:
            url += "?dry_run=true"
        headers = {"Authorization": "Bearer %s" % self._token, "Accept": "application/json"}
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
                http_agent="ansible-hep.distcloud",
            )
            return self._parsed(response.read(MAX_ANSWER), method, url)
        except HTTPError as error:
            raise self._refused(error, method, url)
        except (URLError, OSError, HTTPException, ValueError) as error:
            raise self._unreachable(error)

    def _parsed(self, raw: bytes, method: str, url: str) -> t.Any:
        try:
            return json.loads(raw)
        except ValueError:
            raise Failure(
                "%s %s: the answer is not JSON; is api_url really the address of a Cloud Scheduler?" % (method, url), SERVICE, "not_json"
            )

    def _refused(self, error: HTTPError, method: str, url: str) -> Failure:
        """The server's problem in its own words."""
        try:
            problem = json.loads(error.read(MAX_ANSWER))
            detail = problem["detail"]
        except (ValueError, KeyError, TypeError, OSError, HTTPException):
            return Failure(
                "%s %s was answered with HTTP status %s and no explanation; is api_url really the address of a Cloud Scheduler?"
                % (method, url, error.code),
                SERVICE,
                error.code,
            )
        details: dict[str, t.Any] = {"type": str(problem.get("type", "")).rsplit(":", 1)[-1]}
        if problem.get("errors"):
            details["errors"] = problem["errors"]
        request_id = error.headers.get("X-Request-Id") if error.headers else None
        if request_id:
            details["request_id"] = request_id
        return Failure("the scheduler refused: %s" % detail, SERVICE, error.code, details)

    def _unreachable(self, error: Exception) -> Failure:
        reason = getattr(error, "reason", None) or error
        where = "the scheduler at %s" % self._base
        if isinstance(reason, ConnectionRefusedError):
            return NotThere("%s cannot be reached: connection refused; is it running?" % where, SERVICE, "refused")
        if isinstance(reason, ssl.SSLCertVerificationError):
            return Failure(
                "the certificate of %s is not accepted: %s; give the right authority in ca_path" % (where, reason.verify_message),
                SERVICE,
                "certificate",
            )
        if isinstance(reason, TimeoutError) or "timed out" in str(reason):
            return Failure("%s did not answer within %s s" % (where, self._timeout), SERVICE, "timeout")
        return Failure("%s cannot be reached: %s" % (where, reason), SERVICE, "unreachable")
