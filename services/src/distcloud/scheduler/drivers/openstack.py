"""The driver for OpenStack: Nova for servers, Glance for image names, Neutron for networks and leftover ports.

All calls: compute GET servers/detail, POST servers, DELETE servers/ID, GET flavors/detail, GET limits; image GET images;
network GET networks (skipped if not permitted), GET and DELETE ports (leftovers; skipped if not permitted).
"""

from __future__ import annotations

import asyncio
import base64
import re
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpx

from ..domain.model import Flavor, Limits, Resources
from ..domain.states import ServerStatus
from .base import Account, CloudError, ErrorKind, Inventory, Listing, Server, ServerRequest
from .keystone import Keystone, Login, check_open, client_for, describe_failure, never_sent

# 2.69 (Stein): before it, a listing silently omits servers of a cell that is down, and they would look deleted.
# Since 2.47 a server includes its flavor's size, so that foreign servers can be counted without a second request.
_MICROVERSION = "2.69"
_PAGE = 1000
_MAX_PAGES = 200
# Limits of OpenStack's own services; the ledger stores these values and sums of them.
_ID = re.compile(r"[!-~]{1,64}")
_MAX_AMOUNT = 2**31

_Entry = TypeVar("_Entry", Server, Flavor)


class OpenStackDriver:
    """One account in one OpenStack region. `seconds` limits each HTTP call; `client` may be a replay."""

    def __init__(self, account: Account, *, seconds: float = 30.0, client: httpx.AsyncClient | None = None) -> None:
        self._account = account
        self._seconds = seconds
        self._client = client or client_for(account, seconds)
        self._keystone = Keystone(account, self._client, seconds)
        self._flavors: dict[str, str] = {}
        self._images: dict[str, str] = {}
        self._networks: dict[str, str] = {}

    async def servers(self) -> Listing:
        found = await self._pages("compute", "servers/detail", "servers", {"limit": str(_PAGE)})
        servers = tuple(self._parse("server", _server, entry) for entry in found)
        # An entry from a cell that is down is a bare id, and such a cell may also hide servers that were never listed.
        return Listing(servers, complete=all("name" in entry for entry in found))

    async def inventory(self) -> Inventory:
        flavors, images, limits, networks = await asyncio.gather(
            self._pages("compute", "flavors/detail", "flavors", {"limit": str(_PAGE)}),
            self._pages("image", "images", "images", {"limit": str(_PAGE), "status": "active"}),
            self._call("GET", "compute", "limits"),
            self._list_networks(),
        )
        offered = tuple(self._parse("flavor", _flavor, entry) for entry in flavors if not entry.get("OS-FLV-DISABLED:disabled"))
        self._flavors = {flavor.name: flavor.id for flavor in offered}
        # The newest of several images of one name is used: a new build is uploaded under the old name.
        self._images = {str(entry["name"]): str(entry["id"]) for entry in sorted(images, key=_age) if entry.get("name")}
        absolute = _mapping(_mapping(limits).get("limits")).get("absolute")
        login = await self._keystone.login()
        return Inventory(offered, dict(self._images), _quota(_mapping(absolute)), login.project, networks)

    async def create(self, request: ServerRequest) -> str:
        if request.flavor not in self._flavors or request.image not in self._images:
            await self.inventory()
        for kind, name, known in (("flavor", request.flavor, self._flavors), ("image", request.image, self._images)):
            if name not in known:
                raise self._error(ErrorKind.NOT_FOUND, f"has no {kind} {name}; add it to the cloud or configure another", no_effect=True)
        network = request.network or self._account.network
        server: dict[str, Any] = {
            "name": request.vm_id,
            "flavorRef": self._flavors[request.flavor],
            "imageRef": self._images[request.image],
            "networks": [{"uuid": await self._network(network)}] if network else "auto",
            "user_data": base64.b64encode(request.user_data).decode("ascii"),
            "config_drive": True,
            "metadata": dict(request.metadata),
        }
        if self._account.security_groups:
            server["security_groups"] = [{"name": name} for name in self._account.security_groups]
        if self._account.keypair:
            server["key_name"] = self._account.keypair
        response = await self._call("POST", "compute", "servers", body={"server": server})
        try:
            return _id(response["server"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._error(
                ErrorKind.UNREACHABLE, "accepted a create, but its response contains no valid server id", no_effect=False
            ) from error

    async def delete(self, server_id: str) -> None:
        try:
            await self._call("DELETE", "compute", f"servers/{server_id}")
        except CloudError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise

    async def delete_leftovers(self, server_id: str) -> None:
        # Nova deletes its ports with the server, unless Neutron is down at that moment: then a port keeps an address forever.
        try:
            response = await self._call("GET", "network", "ports", params={"device_id": server_id, "fields": "id"})
            for port in response.get("ports", []):
                await self._call("DELETE", "network", f"ports/{port['id']}")
        except CloudError as error:
            if error.kind not in (ErrorKind.AUTH, ErrorKind.NOT_FOUND, ErrorKind.REJECTED):
                raise

    async def close(self) -> None:
        await self._client.aclose()

    async def _list_networks(self) -> frozenset[str] | None:
        try:
            found = await self._pages("network", "networks", "networks", {"limit": str(_PAGE)})
        except CloudError as error:
            if error.kind is ErrorKind.UNREACHABLE:
                raise
            return None  # not permitted, or no Neutron: a missing network is then detected by the create
        names = Counter(str(entry.get("name", "")) for entry in found)
        return frozenset({str(entry["id"]) for entry in found} | {name for name, count in names.items() if name and count == 1})

    async def _network(self, name: str) -> str:
        """Resolve a network, given by id or name, to its id."""
        try:
            return str(uuid.UUID(name))
        except ValueError:
            pass
        if name not in self._networks:
            response = await self._call("GET", "network", "networks", params={"name": name}, read_only=True)
            ids = [str(entry["id"]) for entry in response.get("networks", [])]
            if len(ids) != 1:
                problem = "has no network" if not ids else f"has {len(ids)} networks called"
                raise self._error(ErrorKind.NOT_FOUND, f"{problem} {name}; configure the id of the network to use", no_effect=True)
            self._networks[name] = ids[0]
        return self._networks[name]

    async def _pages(self, service: str, path: str, key: str, params: Mapping[str, str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        marker: dict[str, str] = {}
        for _ in range(_MAX_PAGES):
            response = _mapping(await self._call("GET", service, path, params={**params, **marker}))
            page = response.get(key)
            if not isinstance(page, list):
                raise self._error(ErrorKind.UNREACHABLE, f"returned a malformed response to {path}: {key} is missing", no_effect=True)
            found.extend(page)
            # The link itself is not followed: behind a TLS proxy it often has the wrong scheme or host.
            if not page or not (response.get("next") or any(link.get("rel") == "next" for link in response.get(f"{key}_links", []))):
                return found
            marker = {"marker": str(page[-1]["id"])}
        raise self._error(ErrorKind.UNREACHABLE, f"returned more than {_MAX_PAGES} pages of {key}; giving up", no_effect=True)

    async def _call(
        self,
        method: str,
        service: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        read_only: bool = False,
    ) -> Any:
        login = await self._keystone.login()
        response = await self._send(login, method, service, path, body, params)
        if response.status_code == 401:  # the token may have been revoked before its time
            login = await self._keystone.login(refused=login)
            response = await self._send(login, method, service, path, body, params)
        if response.status_code >= 400:
            error = self._response_error(response, f"{method} {service} {path}")
            error.no_effect = error.no_effect or method == "GET" or read_only
            raise error
        if not response.content:
            return {}
        try:
            return response.json()
        except (ValueError, RecursionError) as error:  # not JSON, or not even UTF-8
            raise self._error(
                ErrorKind.UNREACHABLE, f"{method} {service} {path}: the response is not JSON", no_effect=method == "GET"
            ) from error

    async def _send(
        self, login: Login, method: str, service: str, path: str, body: Mapping[str, Any] | None, params: Mapping[str, str] | None
    ) -> httpx.Response:
        if service not in login.endpoints:
            raise self._error(ErrorKind.REJECTED, f"its catalog has no {service} service in region {self._account.region}", no_effect=True)
        headers = {"X-Auth-Token": login.token, "Accept": "application/json"}
        if service == "compute":
            headers["OpenStack-API-Version"] = f"compute {_MICROVERSION}"
        url = f"{login.endpoints[service]}/{path}"
        check_open(self._account, self._client)
        try:
            async with asyncio.timeout(self._seconds):
                return await self._client.request(method, url, json=body, params=params, headers=headers)
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
            no_effect = method == "GET" or never_sent(error)
            raise self._error(
                ErrorKind.UNREACHABLE, f"{service} at {url}: {describe_failure(error, self._seconds)}", no_effect=no_effect
            ) from error

    def _response_error(self, response: httpx.Response, what: str) -> CloudError:
        message = self._error_message(response)
        status = response.status_code
        if status == 401:
            return self._error(
                ErrorKind.AUTH,
                f"{what}: refused (401) with a fresh token; the credential's access rules or its role forbid it",
                no_effect=True,
            )
        if status in (403, 413) and "quota" in message.lower():
            return self._error(ErrorKind.QUOTA, f"{message}; lower the cloud's limits or increase the quota", no_effect=True)
        if status == 404:
            return self._error(ErrorKind.NOT_FOUND, f"{what}: not found ({message})", no_effect=True)
        if status == 406:
            return self._error(ErrorKind.REJECTED, f"its Nova is older than Stein; compute API {_MICROVERSION} is required", no_effect=True)
        if status == 429 or status >= 500:
            return self._error(ErrorKind.UNREACHABLE, f"{what}: answered {status} ({message})", no_effect=status == 429)
        return self._error(ErrorKind.REJECTED, f"{what}: refused with {status} ({message})", no_effect=True)

    def _error_message(self, response: httpx.Response) -> str:
        """The message in an error response, whatever the service wraps it in; shortened, without our own secrets."""
        text = response.text
        try:
            body = response.json()
            for value in _mapping(body).values():
                message = _mapping(value).get("message")
                if message:
                    text = str(message)
        except (ValueError, RecursionError):
            pass
        for secret in self._account.secrets.values():
            if secret:
                text = text.replace(secret, "********")
        return _one_line(text) or "no explanation"

    def _parse(self, what: str, read: Callable[[Mapping[str, Any]], _Entry], entry: Mapping[str, Any]) -> _Entry:
        try:
            return read(entry)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise self._error(ErrorKind.UNREACHABLE, f"returned a malformed {what}: {_explain(error)}", no_effect=True) from error

    def _error(self, kind: ErrorKind, message: str, *, no_effect: bool) -> CloudError:
        return CloudError(kind, self._account.label, message, no_effect=no_effect)


def _explain(error: Exception) -> str:
    return _one_line(str(error) if type(error) is ValueError else repr(error))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _one_line(text: str) -> str:
    """Untrusted text in a form that every database can store: one line, shortened, without control characters and unpaired surrogates."""
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split())[:255])


def _id(entry: Mapping[str, Any]) -> str:
    """The id of an entry. Raises ValueError for one that the ledger could not store."""
    found = entry["id"]
    if not isinstance(found, str) or not _ID.fullmatch(found):
        raise ValueError("invalid id")
    return found


def _resources(cores: Any, ram_mib: Any, *disks: Any) -> Resources:
    """Raises ValueError for impossible amounts."""
    found = Resources(int(cores), int(ram_mib), sum(float(disk) for disk in disks))
    if not (0 <= found.cores < _MAX_AMOUNT and 0 <= found.ram_mib < _MAX_AMOUNT and 0 <= found.disk_gib < _MAX_AMOUNT):
        raise ValueError("invalid size")
    return found


def _age(image: Mapping[str, Any]) -> str:
    return str(image.get("created_at", ""))


def _server(entry: Mapping[str, Any]) -> Server:
    flavor = _mapping(entry.get("flavor"))
    resources = None
    if "vcpus" in flavor:
        resources = _resources(flavor["vcpus"], flavor["ram"], flavor.get("disk", 0), flavor.get("ephemeral", 0))
    return Server(
        id=_id(entry),
        name=str(entry.get("name", "")),
        status=ServerStatus.of_nova(str(entry.get("status", ""))),
        metadata={str(key): _one_line(str(value)) for key, value in _mapping(entry.get("metadata")).items()},
        resources=resources,
        flavor=_one_line(str(flavor.get("original_name", ""))),
        image_id=_one_line(str(_mapping(entry.get("image")).get("id", ""))),
        fault=_one_line(str(_mapping(entry.get("fault")).get("message", ""))),
    )


def _flavor(entry: Mapping[str, Any]) -> Flavor:
    offered = _resources(entry["vcpus"], entry["ram"], entry["disk"], entry.get("OS-FLV-EXT-DATA:ephemeral", 0))
    return Flavor(str(entry["name"]), offered, str(entry["id"]))


def _quota(absolute: Mapping[str, Any]) -> Limits:
    def bound(key: str) -> int | None:
        value = absolute.get(key)
        return int(value) if isinstance(value, int) and value >= 0 else None  # -1: no limit

    return Limits(vms=bound("maxTotalInstances"), cores=bound("maxTotalCores"), ram_mib=bound("maxTotalRAMSize"))
