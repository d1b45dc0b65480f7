# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module keystone_catalog against a small Keystone kept in memory behind real HTTP requests."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest
import requests_mock
from ansible_collections.hep.distcloud.plugins.modules import keystone_catalog
from module_harness import run_module

URL = "http://keystone.test:5000/v3"
KINDS = ("projects", "roles", "users", "services", "endpoints", "regions")
PARAMS = {
    "auth_url": URL,
    "password": "admin-secret-word",
    "region": "r",
    "users": [{"name": "glance", "password": "glance-secret"}],
    "services": [{"name": "glance", "type": "image", "public": "https://r.test:9292", "internal": "http://127.0.0.1:9292"}],
    "timeout": 1,
}


class Keystone:
    """Collections by kind, passwords by user, roles by user, and the changing requests."""

    def __init__(self):
        self.kinds = {kind: {} for kind in KINDS}
        self.add("roles", {"name": "admin"})
        self.passwords, self.held, self.changes = {"admin": "admin-secret-word"}, set(), []
        self.down = False

    def add(self, kind, body):
        number = body.get("id") or f"{kind}-{len(self.kinds[kind])}"
        self.kinds[kind][number] = dict(body, id=number)
        return self.kinds[kind][number]

    def answer(self, request, context):
        path = urlsplit(request.url).path[3:]
        body = json.loads(request.text) if request.text else {}
        if self.down:
            context.status_code = 503
            return {}
        if path in ("", "/"):
            return {"version": {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": URL}]}}
        if path == "/auth/tokens":
            user = body["auth"]["identity"]["password"]["user"]
            off = any(one["name"] == user["name"] and not one.get("enabled", True) for one in self.kinds["users"].values())
            context.status_code = 201 if self.passwords.get(user["name"]) == user["password"] and not off else 401
            context.headers["X-Subject-Token"] = "token"
            shown = {"id": "u", "name": user["name"]}
            return {"token": {"methods": ["password"], "user": shown, "expires_at": "2099-01-01T00:00:00.000000Z"}}
        if request.method != "GET":
            self.changes.append(f"{request.method} {path}")
        if path == "/role_assignments":
            return {"role_assignments": [{"user": {"id": user}, "role": {"id": role}} for user, role in self.held]}
        given = re.match(r"/projects/[^/]+/users/([^/]+)/roles/(.+)", path)
        if given:
            self.held.add(given.groups())
            context.status_code = 204
            return {}
        kind, _slash, number = path[1:].partition("/")
        single = kind[:-1]
        if request.method == "GET":
            asked = parse_qs(urlsplit(request.url).query)
            return {kind: [one for one in self.kinds[kind].values() if all(one.get(key) == value[0] for key, value in asked.items())]}
        spec = dict(body[single])
        secret = spec.pop("password", None)
        thing = self.kinds[kind][number] if number else self.add(kind, spec)
        thing.update(spec)
        if secret:
            self.passwords[thing["name"]] = secret
        return {single: thing}


@pytest.fixture
def keystone():
    known = Keystone()
    with requests_mock.Mocker() as mocker:
        mocker.register_uri(requests_mock.ANY, re.compile("^" + URL), json=known.answer)
        yield known


def call(check=False, diff=False, **changes):
    return run_module(keystone_catalog.KeystoneCatalog, dict(PARAMS, **changes), check=check, diff=diff)


def test_full_circle(keystone):
    checked = call(check=True)
    assert checked.changed and keystone.changes == []
    made = call(diff=True)
    assert made.data["done"] == checked.data["done"]
    assert not any(word in made.raw for word in ("glance-secret", "admin-secret-word"))
    urls = {(one["interface"], one["url"]) for one in keystone.kinds["endpoints"].values()}
    assert urls == {("public", "https://r.test:9292"), ("internal", "http://127.0.0.1:9292"), ("admin", "http://127.0.0.1:9292")}
    assert len(keystone.held) == 2
    keystone.changes.clear()
    again = call()
    assert not again.changed and keystone.changes == []


def test_drift_is_predicted_and_repaired(keystone):
    call()
    keystone.passwords["glance"] = "set by hand"
    next(iter(keystone.kinds["endpoints"].values()))["url"] = "http://elsewhere"
    keystone.held.clear()
    checked = call(check=True)
    assert call().data["done"] == checked.data["done"] == [
        "set password of user glance", "give role admin to user glance", "give role service to user glance", "change endpoint image public",
    ]  # fmt: skip
    assert keystone.passwords["glance"] == "glance-secret" and not call().changed


def test_manually_disabled_entry_is_reenabled(keystone):
    call()
    for kind in ("projects", "users", "services", "endpoints"):
        next(iter(keystone.kinds[kind].values()))["enabled"] = False
    checked = call(check=True)
    assert call().data["done"] == checked.data["done"] == [
        "enable project service", "enable user glance", "enable service image", "change endpoint image public",
    ]  # fmt: skip
    assert all(one.get("enabled", True) for kind in keystone.kinds.values() for one in kind.values()) and not call().changed


def test_foreign_entries_are_unchanged(keystone):
    keystone.add("services", {"name": "other", "type": "volume"})
    keystone.add("endpoints", {"service_id": "services-0", "interface": "public", "region_id": "elsewhere", "url": "http://x"})
    call()
    assert "services-0" in keystone.kinds["services"] and len(keystone.kinds["endpoints"]) == 4


def test_without_keystone_only_check_mode_succeeds(keystone):
    keystone.down = True
    assert call(check=True).changed
    result = call()
    assert result.failed and "does not answer" in result.data["msg"]


def test_refused_password_is_reported(keystone):
    result = call(password="wrong-admin-word")
    assert result.failed and "refuses the administrator's password" in result.data["msg"] and "wrong-admin-word" not in result.raw


def test_second_region_waits_for_first(keystone):
    after = {"region": "r2", "after_region": "r", "after_types": ["image"]}
    assert not call(check=True, **after).failed, "check mode does not wait"
    result = call(**after)
    assert result.failed and "region r, whose Keystone is shared, has no endpoints of image" in result.data["msg"]
    assert keystone.changes == []
    call()
    made = call(**after)
    assert made.data["done"] == ["create region r2", *("create endpoint image " + kind for kind in ("public", "internal", "admin"))]
