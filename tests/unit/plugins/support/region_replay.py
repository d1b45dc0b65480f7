# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replays a region: login and catalog always answer, everything else is an ordered list of expected calls."""

from __future__ import annotations

import json
import typing as t
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

import requests_mock

KEYSTONE = "http://region.test:5000/v3"
ROOTS = {
    "identity": KEYSTONE,
    "compute": "http://region.test:8774/v2.1",
    "network": "http://region.test:9696/v2.0",
    "image": "http://region.test:9292/v2",
    "block-storage": "http://region.test:8776/v3/project-1",
}
CATALOG = {
    "identity": KEYSTONE,
    "compute": "http://region.test:8774/v2.1",
    "network": "http://region.test:9696",
    "image": "http://region.test:9292",
}
AUTH = {
    "auth_url": KEYSTONE,
    "username": "account-user",
    "password": "the-accounts-password",
    "project_name": "account-project",
    "user_domain_name": "Default",
    "project_domain_name": "Default",
}
LOGIN: dict[str, t.Any] = {"auth": AUTH, "region_name": "test"}


@dataclass
class Call:
    """One expected request: service, path with query, required content, and the response."""

    method: str
    service: str
    path: str
    answer: t.Any = None
    status: int = 200
    body: t.Any = None  # None: not looked at
    query: dict[str, str] | None = None


@dataclass
class Region:
    """The expected calls and the actual ones."""

    calls: list[Call]
    login: int = 201  # status of a login by password
    credential_login: int = 201
    catalog: dict[str, str] = field(default_factory=lambda: CATALOG)
    seen: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    mocker: t.Any = None

    def token(self, request: t.Any, context: t.Any) -> dict[str, t.Any]:
        identity = request.json()["auth"]["identity"]
        checks_a_password = request.json()["auth"].get("scope") == "unscoped"
        if checks_a_password and self.calls and self.calls[0].path == "/auth/tokens":
            return t.cast("dict[str, t.Any]", self.answer(request, context))
        context.status_code = self.credential_login if "application_credential" in identity["methods"] else self.login
        if context.status_code != 201:
            return {"error": {"message": "refused"}}
        context.headers["X-Subject-Token"] = "token"
        catalog = [
            {
                "type": kind,
                "id": kind,
                "name": kind,
                "endpoints": [{"id": kind, "interface": "public", "region": "test", "region_id": "test", "url": url}],
            }
            for kind, url in self.catalog.items()
        ]
        domain = {"id": "default", "name": "Default"}
        return {
            "token": {
                "methods": identity["methods"],
                "user": {"id": "user-1", "name": "account-user", "domain": domain},
                "project": {"id": "project-1", "name": "account-project", "domain": domain},
                "roles": [{"id": "r1", "name": "member"}],
                "expires_at": "2099-01-01T00:00:00.000000Z",
                "issued_at": "2026-01-01T00:00:00.000000Z",
                "catalog": catalog,
            }
        }

    def answer(self, request: t.Any, context: t.Any) -> t.Any:
        line = f"{request.method} {request.url}"
        self.seen.append(line)
        if not self.calls:
            self.wrong.append(f"unexpected {line}")
            context.status_code = 500
            return None
        call = self.calls.pop(0)
        expected = urlsplit(ROOTS[call.service] + call.path)
        got = urlsplit(request.url)
        if (request.method, got.netloc, got.path) != (call.method, expected.netloc, expected.path):
            self.wrong.append(f"{line} instead of {call.method} {call.service} {call.path}")
        if call.query is not None and dict(parse_qsl(got.query)) != call.query:
            self.wrong.append(f"{line}: query {dict(parse_qsl(got.query))} instead of {call.query}")
        if call.body is not None and request.json() != call.body:
            self.wrong.append(f"{line}: body {json.dumps(request.json())} instead of {json.dumps(call.body)}")
        context.status_code = call.status
        return call.answer


@contextmanager
def replay(
    *calls: Call, login: int = 201, credential_login: int = 201, volumes: bool = False, catalog: dict[str, str] | None = None
) -> t.Iterator[Region]:
    """A region that expects exactly these calls in this order; optionally with a volume service or other URLs in its catalog."""
    more = {"volumev3": ROOTS["block-storage"]} if volumes else {}
    region = Region(list(calls), login, credential_login, {**CATALOG, **more, **(catalog or {})})
    with requests_mock.Mocker() as mocker, mock.patch("time.sleep"):
        mocker.register_uri(requests_mock.ANY, requests_mock.ANY, json=region.answer)
        version = {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": KEYSTONE + "/"}]}
        mocker.register_uri("GET", KEYSTONE, json={"version": version})
        mocker.register_uri("POST", KEYSTONE + "/auth/tokens", json=region.token)
        region.mocker = mocker
        yield region
    assert not region.wrong, region.wrong
    assert not region.calls, f"expected calls that were not made: {region.calls}"
