"""The OpenStack client against replayed HTTP: login, endpoints, pages, and answers that are too large or malformed."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distcloud.openstack import CloudError, Credential, ErrorKind, OpenStackClient
from distcloud.openstack import client as client_module

from .support.replay import Handler, Replay, replay

AUTH = {"auth_url": "http://keystone:5000", "application_credential_id": "id"}
CREDENTIAL = Credential("atlas/east", AUTH, {"application_credential_secret": "hush-hush"}, region="r1")
CATALOG = [
    {"type": "image", "endpoints": [{"interface": "public", "region_id": "r1", "url": "http://glance:9292/"}]},
    {"type": "object-store", "endpoints": [{"interface": "public", "region_id": "r1", "url": "http://swift/v1/AUTH_p1"}]},
    {"type": "image", "endpoints": [{"interface": "public", "region_id": "r2", "url": "http://elsewhere/v2"}]},
]


def ask(handler: Handler, question: Callable[[OpenStackClient], Awaitable[Any]], **options: Any) -> Any:
    def handle(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "keystone":
            token = {"expires_at": "2099-01-01T00:00:00.000000Z", "project": {"id": "p1"}, "catalog": CATALOG}
            return httpx2.Response(201, json={"token": token}, headers={"X-Subject-Token": "t"})
        return handler(request)

    async def main() -> Any:
        client = OpenStackClient(CREDENTIAL, http=replay(handle), **options)
        try:
            return await question(client)
        finally:
            await client.close()

    return asyncio.run(main())


async def images(client: OpenStackClient) -> list[dict[str, Any]]:
    return [entry async for page in client.pages("image", "images", "images", {}) for entry in page]


def test_every_service_of_the_region_can_be_called() -> None:
    urls: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        urls.append(str(request.url))
        return httpx2.Response(204)

    assert ask(handler, lambda client: client.call("GET", "image", "images")) == {}
    ask(handler, lambda client: client.call("HEAD", "object-store", "container"))
    assert urls == ["http://glance:9292/v2/images", "http://swift/v1/AUTH_p1/container"]
    with pytest.raises(CloudError, match="no compute service in region r1"):
        ask(handler, lambda client: client.call("GET", "compute", "servers"))
    with pytest.raises(CloudError, match="no public compute endpoint in region r1"):
        ask(handler, images, requires="compute")


def test_listing_is_limited_in_entries_and_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = itertools.count()

    def endless(request: httpx2.Request) -> httpx2.Response:
        page = next(asked)
        return httpx2.Response(200, json={"images": [{"id": f"{page}-{number}"} for number in range(10)], "next": "/more"})

    with pytest.raises(CloudError, match="more than 200 pages"):
        ask(endless, images)
    monkeypatch.setattr(client_module, "_ENTRIES_AT_MOST", 55)
    with pytest.raises(CloudError, match="more than 55 images"):
        ask(endless, images)


KEYS = st.sampled_from(["images", "images_links", "next", "rel", "id", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["images", "images_links", "next", "rel", "id", "x"]), inner)
    ),
    max_leaves=12,
)


@given(JSON)
@settings(deadline=None, max_examples=200)
def test_any_json_gives_listing_or_cloud_error(answer: Any) -> None:
    try:
        found = ask(lambda _: httpx2.Response(200, json=answer), images)
    except CloudError:
        return
    assert all(isinstance(entry, dict) for entry in found)


@given(st.integers(400, 599), JSON)
@settings(deadline=None, max_examples=100)
def test_any_refusal_is_an_error_of_the_cloud(status: int, answer: Any) -> None:
    with pytest.raises(CloudError, match="cloud atlas/east: "):
        ask(lambda _: httpx2.Response(status, json=answer), images)


def test_deeply_nested_answers_are_refused() -> None:
    for status in (200, 400):
        with pytest.raises(CloudError):
            ask(lambda _, status=status: httpx2.Response(status, content=b"[" * 200_000), images)  # type: ignore[misc]


def test_listing_is_limited_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_LISTING_BYTES", 1000)
    asked = itertools.count()
    with pytest.raises(CloudError, match="more than 0 MiB of images"):
        ask(lambda _: httpx2.Response(200, json={"images": [{"id": f"{next(asked)}" + "x" * 400}], "next": "/more"}), images)


@pytest.mark.parametrize("status", [301, 302, 304])
def test_redirect_is_not_a_success(status: int) -> None:
    with pytest.raises(CloudError, match=f"unexpected status {status}"):
        ask(lambda _: httpx2.Response(status, headers={"Location": "http://elsewhere"}), images)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "http://\ud800", "http://x\x00y", "nonsense", "http://" + "x" * 1_000_000])
def test_malformed_endpoint_is_an_error_of_the_cloud(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOG[0], "endpoints", [{"interface": "public", "region_id": "r1", "url": url}])

    async def main() -> None:
        token = {"expires_at": "2099-01-01T00:00:00Z", "project": {"id": "p1"}, "catalog": CATALOG}
        login = httpx2.Response(201, content=json.dumps({"token": token}).encode(), headers={"X-Subject-Token": "t"})
        keystone = Replay(lambda _: login)
        client = OpenStackClient(CREDENTIAL, seconds=2, http=httpx2.AsyncClient(mounts={"all://keystone": keystone}))
        try:
            with pytest.raises(CloudError) as caught:
                await client.call("GET", "image", "images")
        finally:
            await client.close()
        message = str(caught.value)
        assert caught.value.no_effect and len(message) <= 1000 and message.isprintable()
        message.encode()

    asyncio.run(main())


@pytest.mark.parametrize("last", [{"id": "1"}, {}], ids=["repeats", "has no id"])
def test_listing_that_cannot_be_continued_ends(last: dict[str, str]) -> None:
    asked = 0

    def handler(request: httpx2.Request) -> httpx2.Response:
        nonlocal asked
        asked += 1
        return httpx2.Response(200, json={"images": [last], "next": "/more"})

    with pytest.raises(CloudError, match="cannot be continued"):
        ask(handler, images)
    assert asked <= 2


def test_deleted_marker_is_not_an_error_of_the_credential() -> None:
    """The last entry of a page may be deleted before the next page is asked for."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        if "marker" in request.url.params:
            return httpx2.Response(400, json={"badRequest": {"message": "marker [1] not found", "code": 400}})
        return httpx2.Response(200, json={"images": [{"id": "1"}], "next": "/more"})

    with pytest.raises(CloudError, match="changed while they were listed") as raised:
        ask(handler, images)
    assert raised.value.kind is ErrorKind.UNREACHABLE


@pytest.mark.parametrize(("headers", "kind"), [({"Retry-After": "3"}, ErrorKind.UNREACHABLE), ({}, ErrorKind.REJECTED)])
def test_limited_rate_is_temporary(headers: dict[str, str], kind: ErrorKind) -> None:
    with pytest.raises(CloudError) as raised:
        ask(lambda _: httpx2.Response(413, headers=headers, json={}), images)
    assert raised.value.kind is kind


@pytest.mark.parametrize(
    "faulty",
    [
        None,
        {"type": "volume", "endpoints": None},
        {"type": "volume", "endpoints": ["x", {"interface": "public", "region_id": "r1"}]},
        {"type": "volume"},
        "x",
    ],
)
def test_faulty_catalog_entry_hides_no_other_service(faulty: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "CATALOG", [faulty, *CATALOG])
    assert ask(lambda _: httpx2.Response(204), lambda client: client.call("GET", "image", "images")) == {}


def test_login_without_catalog_lacks_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "CATALOG", None)
    with pytest.raises(CloudError, match="no image service in region r1"):
        ask(lambda _: httpx2.Response(204), lambda client: client.call("GET", "image", "images"))
