"""Hostile input: the API either returns a problem or does what was requested; it never fails with an internal error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distcloud.scheduler.catalog.schemas import AuthRequest, CloudRequest, GroupRequest, MetadataRequest

from ...common.support.api_client import token
from ..support.api_world import Client, client

AUTH = {"auth_url": "https://k/v3", "application_credential_id": "i", "application_credential_secret": "s"}
NASTY = ["", " ", "\x00", "\ud800", "é" * 300, "a" * 70_000, "../../etc/passwd", "'; DROP TABLE groups; --", "{{ 7 * 7 }}", "\r\nX: y", "0"]
values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(NASTY),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.sampled_from(NASTY), inner, max_size=3),
    max_leaves=6,
)


def bodies(*models: Any) -> Any:
    """Objects with mostly valid keys and mostly invalid values."""
    names = sorted({name for model in models for name in model.model_fields})
    return st.dictionaries(st.sampled_from(names) | st.text(max_size=5), values, max_size=4) | values


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with client(tmp_path_factory.mktemp("hostile")) as found:
        found("PUT", "/v1/groups/atlas", {})
        found("PUT", "/v1/groups/atlas/clouds/c", {"region": "r", "auth": AUTH})
        yield found


def check(answer: Any, sent: str) -> None:
    assert answer.status_code in (200, 400, 404, 409, 413, 415, 422), (answer.status_code, answer.text, sent)
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]


PATHS = [
    ("/v1/groups/atlas", (GroupRequest,)),
    ("/v1/groups/atlas/clouds/c", (CloudRequest, AuthRequest)),
    ("/v1/groups/atlas/clouds/d", (CloudRequest,)),
    ("/v1/groups/atlas/metadata/m", (MetadataRequest,)),
]


@pytest.mark.parametrize(("path", "models"), PATHS)
def test_arbitrary_json_never_causes_internal_error(call: Client, path: str, models: Any) -> None:
    @given(bodies(*models))
    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    def send(body: Any) -> None:
        raw = json.dumps(body).encode("utf-8")
        answer = call("PUT", path, content=raw, headers={"Content-Type": "application/json"}, params={"dry_run": "true"})
        check(answer, repr(body))

    send()


@pytest.mark.parametrize("key", sorted(CloudRequest.model_fields))
@pytest.mark.parametrize("value", [*NASTY, 10**400, -1, 1e308, [], {}, [[]], {"a": {"b": []}}, True], ids=repr)
def test_arbitrary_value_of_any_cloud_field(call: Client, key: str, value: Any) -> None:
    raw = json.dumps({key: value}).encode("utf-8")
    check(call("PUT", "/v1/groups/atlas/clouds/c", content=raw, headers={"Content-Type": "application/json"}), f"{key}={value!r}")
    shown = call("GET", "/v1/groups/atlas/clouds/c")
    assert shown.status_code == 200
    assert shown.json()["auth"]["application_credential_secret"] == "********"


@pytest.mark.parametrize("name", ["a%00b", "%2e%2e", "a%2fb", "%F0%9F%92%A9", "-a", "a" * 64, "a%0a", "%ff", "a'b"])
def test_invalid_names_are_refused(call: Client, name: str) -> None:
    for path in (f"/v1/groups/{name}", f"/v1/groups/atlas/clouds/{name}", f"/v1/groups/atlas/metadata/{name}"):
        for method in ("GET", "PUT", "DELETE"):
            answer = call(method, path, {} if method == "PUT" else None)
            assert answer.status_code in (404, 405, 422), (path, answer.status_code)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer  ", "Bearer \xff\xfe", "bearer " + token("admin") + " x", "Bearer " + "x" * 20_000, "Negotiate abc"]
)
def test_malformed_authorization_header_is_refused(call: Client, header: str) -> None:
    answer = call("GET", "/v1/groups", who=None, headers={"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_oversized_body_is_refused(call: Client) -> None:
    raw = b'{"content": "' + b"a" * 2_000_000 + b'"}'
    answer = call("PUT", "/v1/groups/atlas/metadata/m", content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize("entry", ["{{<<: [{}]}}", "[{}]"], ids=["merges", "lists"])
def test_exponentially_expanding_part_is_refused(call: Client, entry: str) -> None:
    lines = ["a0: &a0 {k: v}", *(f"a{level}: &a{level} {entry.format(', '.join([f'*a{level - 1}'] * 9))}" for level in range(1, 7))]
    answer = call("PUT", "/v1/groups/atlas/metadata/m", {"content": "\n".join(lines)})
    assert answer.status_code == 422 and "aliases" in answer.json()["detail"]
    few = call("PUT", "/v1/groups/atlas/metadata/m", {"content": "\n".join([*lines[:3], "self: &self [*self]"])})
    assert few.status_code == 200
