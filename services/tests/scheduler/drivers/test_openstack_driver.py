"""The OpenStack driver against replayed HTTP: its requests, its parsing of responses, and its handling of errors."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from distcloud.openstack import EndpointPolicy
from distcloud.openstack.keystone import Login
from distcloud.scheduler.domain.model import Limits, Resources
from distcloud.scheduler.domain.states import ServerStatus
from distcloud.scheduler.drivers import make_driver
from distcloud.scheduler.drivers.base import Account, CloudError, ErrorKind, ServerRequest
from distcloud.scheduler.drivers.openstack import OpenStackDriver

from ...openstack.support.replay import replay

ACCOUNT = Account(
    "atlas",
    "east",
    "openstack",
    "r1",
    {"auth_url": "http://keystone:5000", "auth_type": "v3applicationcredential", "application_credential_id": "id"},
    {"application_credential_secret": "hush-hush"},
    network="11111111-2222-3333-4444-555555555555",
    security_groups=("workers",),
    keypair="site",
)
CATALOG = [
    {"type": "compute", "endpoints": [{"interface": "public", "region_id": "r1", "url": "http://nova:8774/v2.1"}]},
    {"type": "image", "endpoints": [{"interface": "public", "region_id": "r1", "url": "http://glance:9292"}]},
    {"type": "network", "endpoints": [{"interface": "public", "region_id": "r1", "url": "http://neutron:9696/"}]},
    {"type": "compute", "endpoints": [{"interface": "public", "region_id": "r2", "url": "http://elsewhere/v2.1"}]},
]
FLAVOR = {
    "id": "f1",
    "name": "small",
    "vcpus": 2,
    "ram": 4096,
    "disk": 20,
    "OS-FLV-EXT-DATA:ephemeral": 5,
    "OS-FLV-DISABLED:disabled": False,
}
LIMITS = {"limits": {"absolute": {"maxTotalInstances": 10, "maxTotalCores": -1, "maxTotalRAMSize": 51200}}}
REQUEST = ServerRequest("vm-aaaaaaaaaaaaaaaa", "small", "worker", b"#cloud-config\n", {"distcloud_vm": "vm-aaaaaaaaaaaaaaaa"})


class Cloud:
    """Responses by method and URL; every call is recorded."""

    def __init__(self, **answers: Any) -> None:
        self.calls: list[httpx2.Request] = []
        self.logins = 0
        self.answers: dict[str, Any] = {
            "GET http://nova:8774/v2.1/flavors/detail": {"flavors": [FLAVOR, {**FLAVOR, "name": "off", "OS-FLV-DISABLED:disabled": True}]},
            "GET http://glance:9292/v2/images": {
                "images": [
                    {"id": "new", "name": "worker", "created_at": "2026-02-01T00:00:00Z"},
                    {"id": "old", "name": "worker", "created_at": "2026-01-01T00:00:00Z"},
                ]
            },
            "GET http://nova:8774/v2.1/limits": LIMITS,
            "GET http://nova:8774/v2.1/servers/detail": {"servers": []},
            "GET http://neutron:9696/v2.0/networks": {
                "networks": [
                    {"id": "n1", "name": "one"},
                    {"id": "n2", "name": "two"},
                    {"id": "n3", "name": "two"},
                    {"id": "n4", "name": ""},
                ]
            },
            **answers,
        }

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        self.calls.append(request)
        name = f"{request.method} {str(request.url).split('?')[0]}"
        if name == "POST http://keystone:5000/v3/auth/tokens" and name not in self.answers:
            self.logins += 1
            token = {"expires_at": "2099-01-01T00:00:00.000000Z", "project": {"id": "p1"}, "catalog": CATALOG}
            return httpx2.Response(201, json={"token": token}, headers={"X-Subject-Token": f"t{self.logins}"})
        answer = self.answers[name]
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, httpx2.Response) else httpx2.Response(200, json=answer)

    def driver(self, account: Account = ACCOUNT, seconds: float = 60.0) -> OpenStackDriver:
        return OpenStackDriver(account, seconds=seconds, http=replay(self.handle))


def ask(cloud: Cloud, what: Callable[[OpenStackDriver], Any], account: Account = ACCOUNT) -> Any:
    async def main() -> Any:
        driver = cloud.driver(account)
        try:
            return await what(driver)
        finally:
            await driver.close()

    return asyncio.run(main())


def refusal(cloud: Cloud, what: Callable[[OpenStackDriver], Any], account: Account = ACCOUNT) -> CloudError:
    with pytest.raises(CloudError) as caught:
        ask(cloud, what, account)
    assert "atlas/east" in str(caught.value) and "hush-hush" not in str(caught.value)
    return caught.value


def test_inventory_lists_usable_resources() -> None:
    cloud = Cloud()
    inventory = ask(cloud, lambda driver: driver.inventory())
    (flavor,) = inventory.flavors
    assert (flavor.name, flavor.id, flavor.resources) == ("small", "f1", Resources(2, 4096, 25.0))
    assert inventory.images == {"worker": "new"}, "the newest of two images with the same name is used"
    assert inventory.quota == Limits(10, None, 51200) and inventory.project == "p1"
    assert inventory.networks == {"n1", "n2", "n3", "n4", "one"}, "a name shared by two networks identifies neither"
    forbidden = Cloud(**{"GET http://neutron:9696/v2.0/networks": httpx2.Response(403, json={})})
    assert ask(forbidden, lambda driver: driver.inventory()).networks is None
    assert cloud.logins == 1, "concurrent calls log in once"
    body = json.loads(cloud.calls[0].content)["auth"]
    assert body == {"identity": {"methods": ["application_credential"], "application_credential": {"id": "id", "secret": "hush-hush"}}}


def test_password_login_sends_user_and_project() -> None:
    auth = {
        "auth_url": "http://keystone:5000/v3/",
        "username": "u",
        "project_name": "p",
        "user_domain_name": "D",
        "project_domain_id": "pd",
    }
    cloud = Cloud()
    ask(cloud, lambda driver: driver.servers(), Account("atlas", "east", "openstack", "r1", auth, {"password": "hush-hush"}))
    assert json.loads(cloud.calls[0].content)["auth"] == {
        "identity": {"methods": ["password"], "password": {"user": {"name": "u", "domain": {"name": "D"}, "password": "hush-hush"}}},
        "scope": {"project": {"name": "p", "domain": {"id": "pd"}}},
    }


def test_server_pages_ignore_host_of_links() -> None:
    def page(request: httpx2.Request) -> httpx2.Response:
        marker = request.url.params.get("marker")
        numbers = {None: (0, 1), "s1": (2, 3), "s3": (4,)}[marker]
        body: dict[str, Any] = {
            "servers": [
                {"id": f"s{n}", "name": f"n{n}", "status": "ACTIVE", "flavor": {"vcpus": 1, "ram": 512, "disk": 4}} for n in numbers
            ]
        }
        if numbers[-1] != 4:
            body["servers_links"] = [{"rel": "next", "href": "http://wrong-host/v2.1/servers/detail"}]
        return httpx2.Response(200, json=body)

    listing = ask(Cloud(**{"GET http://nova:8774/v2.1/servers/detail": page}), lambda driver: driver.servers())
    assert [server.id for server in listing.servers] == ["s0", "s1", "s2", "s3", "s4"]
    assert listing.complete and listing.servers[0].resources == Resources(1, 512, 4.0)


def test_cell_down_makes_listing_incomplete() -> None:
    servers = [
        {"id": "a", "status": "UNKNOWN", "tenant_id": "p1"},
        {"id": "b", "name": "vm", "status": "ERROR", "fault": {"message": "no  host"}},
    ]
    cloud = Cloud(**{"GET http://nova:8774/v2.1/servers/detail": {"servers": servers}})
    listing = ask(cloud, lambda driver: driver.servers())
    assert not listing.complete
    assert [(server.status, server.fault) for server in listing.servers] == [(ServerStatus.UNKNOWN, ""), (ServerStatus.ERROR, "no host")]
    assert cloud.calls[-1].headers["OpenStack-API-Version"] == "compute 2.69"


def test_text_of_cloud_is_sanitized() -> None:
    server = r'{"id": "b", "status": "ERROR", "fault": {"message": "no\u0000  host\ud800"}, "metadata": {"distcloud_vm": "\u0000"}}'
    cloud = Cloud(**{"GET http://nova:8774/v2.1/servers/detail": httpx2.Response(200, text=f'{{"servers": [{server}]}}')})
    (found,) = ask(cloud, lambda driver: driver.servers()).servers
    assert (found.fault, found.metadata) == ("no? host?", {"distcloud_vm": "?"})


@pytest.mark.parametrize(
    "change",
    [
        {"id": "x" * 65},
        {"id": "a b"},
        {"id": None, "name": 1},
        {"flavor": {"vcpus": 1e300, "ram": 1}},
        {"flavor": {"vcpus": 2**31, "ram": 1}},
        {"flavor": {"vcpus": "many", "ram": 1}},
        {"flavor": {"vcpus": 1}},
        {"flavor": {"vcpus": 1, "ram": 1, "disk": "Infinity"}},
    ],
)
def test_malformed_server_is_cloud_error(change: dict[str, Any]) -> None:
    listed = {"id": "", "name": "n", "status": "ACTIVE"} | change
    error = refusal(Cloud(**{"GET http://nova:8774/v2.1/servers/detail": {"servers": [listed]}}), lambda driver: driver.servers())
    assert error.kind is ErrorKind.UNREACHABLE and "returned a malformed server" in str(error)


def test_create_sends_ownership_tag_and_settings() -> None:
    cloud = Cloud(**{"POST http://nova:8774/v2.1/servers": httpx2.Response(202, json={"server": {"id": "new-id"}})})
    assert ask(cloud, lambda driver: driver.create(REQUEST)) == "new-id"
    assert json.loads(cloud.calls[-1].content)["server"] == {
        "name": "vm-aaaaaaaaaaaaaaaa",
        "flavorRef": "f1",
        "imageRef": "new",
        "networks": [{"uuid": "11111111-2222-3333-4444-555555555555"}],
        "user_data": base64.b64encode(b"#cloud-config\n").decode(),
        "config_drive": True,
        "metadata": {"distcloud_vm": "vm-aaaaaaaaaaaaaaaa"},
        "security_groups": [{"name": "workers"}],
        "key_name": "site",
    }


def test_network_name_must_be_unique() -> None:
    named = replace(REQUEST, network="prov")
    url = "GET http://neutron:9696/v2.0/networks"
    cloud = Cloud(**{url: {"networks": [{"id": "n1"}]}, "POST http://nova:8774/v2.1/servers": {"server": {"id": "x"}}})
    ask(cloud, lambda driver: driver.create(named))
    assert json.loads(cloud.calls[-1].content)["server"]["networks"] == [{"uuid": "n1"}]
    error = refusal(Cloud(**{url: {"networks": [{"id": "a"}, {"id": "b"}]}}), lambda driver: driver.create(named))
    assert error.kind is ErrorKind.NOT_FOUND and error.no_effect and "2 networks called prov" in str(error)


def nova_says(status: int, message: str = "because") -> httpx2.Response:
    return httpx2.Response(status, json={"badRequest": {"code": status, "message": message}})


@pytest.mark.parametrize(
    ("answer", "kind", "no_effect", "message"),
    [
        (nova_says(403, "Quota exceeded for cores: Requested 1"), ErrorKind.QUOTA, True, "increase the quota"),
        (nova_says(403, "Policy doesn't allow it"), ErrorKind.REJECTED, True, "Policy"),
        (nova_says(400, "secret hush-hush is bad"), ErrorKind.REJECTED, True, r"secret \*\*\*\*\*\*\*\* is bad"),
        (nova_says(409), ErrorKind.REJECTED, True, "409"),
        (nova_says(500), ErrorKind.UNREACHABLE, False, "500"),
        (nova_says(503), ErrorKind.UNREACHABLE, False, "503"),
        (nova_says(429), ErrorKind.UNREACHABLE, True, "429"),
        (httpx2.Response(406, text="no"), ErrorKind.REJECTED, True, "too old: version 2.69"),
        (httpx2.Response(200, text="<html>"), ErrorKind.UNREACHABLE, False, "not JSON"),
        (httpx2.Response(202, content=b'{"server": {"id": "\xff"}}'), ErrorKind.UNREACHABLE, False, "not JSON"),
        (httpx2.Response(502, content="<h1>Übertragung".encode("latin-1")), ErrorKind.UNREACHABLE, False, "answered 502"),
        (httpx2.Response(200, json={"nothing": 1}), ErrorKind.UNREACHABLE, False, "contains no valid server id"),
        (httpx2.Response(200, json={"server": {"id": "x" * 65}}), ErrorKind.UNREACHABLE, False, "contains no valid server id"),
        (httpx2.ConnectError("refused"), ErrorKind.UNREACHABLE, True, "cannot be reached"),
        (httpx2.ReadTimeout("late"), ErrorKind.UNREACHABLE, False, "no answer within"),
        (httpx2.RemoteProtocolError("closed"), ErrorKind.UNREACHABLE, False, "cannot be reached"),
    ],
)
def test_failed_create_tells_whether_it_had_no_effect(answer: Any, kind: ErrorKind, no_effect: bool, message: str) -> None:
    error = refusal(Cloud(**{"POST http://nova:8774/v2.1/servers": answer}), lambda driver: driver.create(REQUEST))
    assert (error.kind, error.no_effect) == (kind, no_effect)
    assert re.search(message, str(error))


def test_revoked_token_is_renewed_once() -> None:
    def fresh(request: httpx2.Request) -> httpx2.Response:
        valid = request.headers["X-Auth-Token"] == "t2"
        return httpx2.Response(200, json={"servers": []}) if valid else httpx2.Response(401, text="expired")

    cloud = Cloud(**{"GET http://nova:8774/v2.1/servers/detail": fresh})
    ask(cloud, lambda driver: driver.servers())
    assert cloud.logins == 2
    error = refusal(Cloud(**{"GET http://nova:8774/v2.1/servers/detail": httpx2.Response(401)}), lambda driver: driver.servers())
    assert error.kind is ErrorKind.AUTH and "access rules" in str(error)


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (httpx2.Response(401), ErrorKind.AUTH, "refuses the credential"),
        (httpx2.Response(404), ErrorKind.AUTH, "no Keystone v3"),
        (httpx2.Response(503), ErrorKind.UNREACHABLE, "503"),
        (httpx2.Response(201, json={"token": {}}), ErrorKind.AUTH, "project"),
        (httpx2.Response(201, json={"token": {"project": {"id": "p" * 65}}}), ErrorKind.AUTH, "project"),
        (httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), ErrorKind.UNREACHABLE, "give the CA"),
        (httpx2.ConnectTimeout("x"), ErrorKind.UNREACHABLE, "no answer within"),
    ],
)
def test_failed_login_says_what_to_do(answer: Any, kind: ErrorKind, message: str) -> None:
    error = refusal(Cloud(**{"POST http://keystone:5000/v3/auth/tokens": answer}), lambda driver: driver.servers())
    assert error.kind is kind and error.no_effect and message in str(error)


def test_credential_of_another_project_is_refused() -> None:
    bound = replace(ACCOUNT, project="p9")
    calls: list[Callable[[OpenStackDriver], Any]] = [
        lambda driver: driver.servers(),
        lambda driver: driver.inventory(),
        lambda driver: driver.create(REQUEST),
        lambda driver: driver.delete("s1"),
    ]
    for what in calls:
        cloud = Cloud()
        error = refusal(cloud, what, bound)
        assert error.kind is ErrorKind.AUTH and error.no_effect and "project p1" in str(error) and "enabled for project p9" in str(error)
        assert {request.url.host for request in cloud.calls} == {"keystone"}
    ask(Cloud(), lambda driver: driver.servers(), replace(ACCOUNT, project="p1"))


def test_unknown_region_error_lists_known_regions() -> None:
    error = refusal(Cloud(), lambda driver: driver.servers(), replace(ACCOUNT, region="r9"))
    assert "region r9" in str(error) and "r1, r2" in str(error)


def test_delete_is_idempotent_and_leftover_ports_are_deleted() -> None:
    deleted: list[str] = []

    def delete(request: httpx2.Request) -> httpx2.Response:
        deleted.append(str(request.url))
        return httpx2.Response(204)

    cloud = Cloud(
        **{
            "DELETE http://nova:8774/v2.1/servers/s": httpx2.Response(404, json={"itemNotFound": {"message": "gone"}}),
            "GET http://neutron:9696/v2.0/ports": {"ports": [{"id": "p1"}, {"id": "p2"}]},
            "DELETE http://neutron:9696/v2.0/ports/p1": delete,
            "DELETE http://neutron:9696/v2.0/ports/p2": delete,
        }
    )

    async def both(driver: OpenStackDriver) -> None:
        await driver.delete("s")
        await driver.delete_leftovers("s")

    ask(cloud, both)
    assert len(deleted) == 2
    ask(Cloud(**{"GET http://neutron:9696/v2.0/ports": httpx2.Response(401)}), lambda driver: driver.delete_leftovers("s"))


def test_hanging_cloud_times_out() -> None:
    async def main() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        account = Account("atlas", "east", "openstack", "r1", {"auth_url": f"http://127.0.0.1:{port}"}, {"password": "x"})
        driver = OpenStackDriver(account, seconds=0.3, endpoints=EndpointPolicy(local=True))
        with pytest.raises(CloudError, match=r"no answer within 0\.3 s"):
            await driver.servers()
        await driver.close()
        server.close()

    asyncio.run(main())


@pytest.mark.parametrize("logged_in", [True, False])
def test_call_waiting_on_closed_driver_has_no_effect(logged_in: bool) -> None:
    """As after a rotated credential: the cloud gets a new monitor, but a waiting call still holds the old driver."""
    cloud = Cloud(**{"POST http://nova:8774/v2.1/servers": {"server": {"id": "x"}}})

    async def late(driver: OpenStackDriver) -> None:
        if logged_in:
            await driver.inventory()
        await driver.close()
        asked = len(cloud.calls)
        try:
            await driver.create(REQUEST)
        finally:
            assert len(cloud.calls) == asked

    error = refusal(cloud, late)
    assert error.kind is ErrorKind.UNREACHABLE and error.no_effect and "its account was changed" in str(error)


def test_running_call_on_closed_driver_may_have_effect() -> None:
    async def main() -> None:
        received = asyncio.Event()

        async def nova(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            received.set()
            await reader.read()
            writer.close()

        server = await asyncio.start_server(nova, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        driver = OpenStackDriver(ACCOUNT, seconds=60, endpoints=EndpointPolicy(local=True))
        login = Login("t", 2.0**40, "p1", {"compute": url})
        sending = asyncio.create_task(driver._client._send(login, "POST", "compute", "servers", {}, None, False))
        await received.wait()
        await driver.close()
        with pytest.raises(CloudError) as caught:
            await sending
        assert caught.value.kind is ErrorKind.UNREACHABLE and not caught.value.no_effect
        server.close()

    asyncio.run(main())


def test_unusable_account_fails_at_driver_creation() -> None:
    with pytest.raises(CloudError, match="ca_certificate"):
        make_driver(replace(ACCOUNT, ca_certificate="not a certificate"))
    with pytest.raises(CloudError, match="driver: vax is not supported"):
        make_driver(replace(ACCOUNT, driver="vax"))
