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
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeGuard, TypeVar

import httpx2

from ...common.text import printable
from ...openstack import DEFAULT_POLICY, EndpointPolicy, OpenStackClient
from ...openstack.client import mapping
from ..domain.model import Flavor, Limits, Resources
from ..domain.states import ServerStatus
from .base import TAG_KEYS, Account, CloudError, ErrorKind, Inventory, Listing, Server, ServerRequest

# 2.69 (Stein): before it, a listing silently omits servers of a cell that is down, and they would look deleted.
# Since 2.47 a server includes its flavor's size, so that foreign servers can be counted without a second request.
_MICROVERSION = "2.69"
# Limits of OpenStack's own services; the ledger stores these values and sums of them.
_ID = re.compile(r"[!-~]{1,64}")
_MAX_AMOUNT = 2**31
_TEXT = 255  # characters of a name or of another text of a cloud
_PORTS = 20  # left over by one server and deleted
_BATCH = 200  # entries of a listing that are read without a break: the API must respond meanwhile

_Entry = TypeVar("_Entry", Server, Flavor, str)


class OpenStackDriver:
    """One account in one OpenStack region. `seconds` limits each HTTP call; `http` may be a replay."""

    def __init__(
        self,
        account: Account,
        *,
        seconds: float = 30.0,
        http: httpx2.AsyncClient | None = None,
        endpoints: EndpointPolicy = DEFAULT_POLICY,
    ) -> None:
        self._account = account
        self._client = OpenStackClient(
            account.credential,
            seconds=seconds,
            http=http,
            microversions={"compute": _MICROVERSION},
            requires="compute",
            endpoints=endpoints,
        )
        self._flavors: dict[str, str] = {}
        self._images: dict[str, str] = {}
        self._networks: dict[str, str] = {}

    async def servers(self) -> Listing:
        servers: list[Server] = []
        complete = True
        async for entry in self._list("compute", "servers/detail", "servers", {}):
            # An entry from a cell that is down is a bare id, and such a cell may also hide servers that were never listed.
            complete = complete and "name" in entry
            servers.append(self._parse("server", _server, entry))
        return Listing(tuple(servers), complete)

    async def inventory(self) -> Inventory:
        flavors, images, limits, networks = await asyncio.gather(
            self._list_flavors(), self._list_images(), self._client.call("GET", "compute", "limits"), self._list_networks()
        )
        self._flavors = {flavor.name: flavor.id for flavor in flavors}
        self._images = images
        absolute = mapping(mapping(limits).get("limits")).get("absolute")
        return Inventory(flavors, dict(images), _quota(mapping(absolute)), await self._client.project(), networks)

    async def create(self, request: ServerRequest) -> str:
        if request.flavor not in self._flavors or request.image not in self._images:
            await self.inventory()
        for kind, name, known in (("flavor", request.flavor, self._flavors), ("image", request.image, self._images)):
            if name not in known:
                raise self._client.error(
                    ErrorKind.NOT_FOUND, f"has no {kind} {name}; add it to the cloud or configure another", no_effect=True
                )
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
        response = await self._client.call("POST", "compute", "servers", body={"server": server})
        try:
            return _id(response["server"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._client.error(
                ErrorKind.UNREACHABLE, "accepted a create, but its response contains no valid server id", no_effect=False
            ) from error

    async def delete(self, server_id: str) -> None:
        try:
            await self._client.call("DELETE", "compute", f"servers/{server_id}")
        except CloudError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise

    async def delete_leftovers(self, server_id: str) -> None:
        # Nova deletes its ports with the server, unless Neutron is down at that moment: then a port keeps an address forever.
        try:
            response = await self._client.call("GET", "network", "ports", params={"device_id": server_id, "fields": "id"})
            for port in self._entries(response, "ports")[:_PORTS]:
                await self._client.call("DELETE", "network", f"ports/{self._parse('port', _id, port)}")
        except CloudError as error:
            if error.kind not in (ErrorKind.AUTH, ErrorKind.NOT_FOUND, ErrorKind.REJECTED):
                raise

    async def close(self) -> None:
        await self._client.close()

    async def _list(self, service: str, path: str, key: str, params: Mapping[str, str]) -> AsyncIterator[Mapping[str, Any]]:
        async for page in self._client.pages(service, path, key, params):
            for number, entry in enumerate(page):
                if number % _BATCH == _BATCH - 1:
                    await asyncio.sleep(0)
                yield entry

    async def _list_flavors(self) -> tuple[Flavor, ...]:
        found = self._list("compute", "flavors/detail", "flavors", {})
        return tuple([self._parse("flavor", _flavor, entry) async for entry in found if not entry.get("OS-FLV-DISABLED:disabled")])

    async def _list_images(self) -> dict[str, str]:
        """The id by name; of several images of one name the newest: a new build is uploaded under the old name."""
        newest: dict[str, tuple[str, str]] = {}
        async for entry in self._list("image", "images", "images", {"status": "active"}):
            name = entry.get("name")
            if _is_name(name):  # others may be shared by any project, so they are not an error of this cloud
                dated = (_one_line(entry.get("created_at")), self._parse("image", _id, entry))
                newest[name] = dated if name not in newest or dated[0] >= newest[name][0] else newest[name]
        return {name: image for name, (_, image) in newest.items()}

    async def _list_networks(self) -> frozenset[str] | None:
        names: Counter[str] = Counter()
        ids: set[str] = set()
        try:
            async for entry in self._list("network", "networks", "networks", {}):
                ids.add(self._parse("network", _id, entry))
                if _is_name(name := entry.get("name")):
                    names[name] += 1
        except CloudError as error:
            if error.kind is ErrorKind.UNREACHABLE:
                raise
            return None  # not permitted, or no Neutron: a missing network is then detected by the create
        return frozenset(ids | {name for name, count in names.items() if count == 1})

    async def _network(self, name: str) -> str:
        """Resolve a network, given by id or name, to its id."""
        try:
            return str(uuid.UUID(name))
        except ValueError:
            pass
        if name not in self._networks:
            response = await self._client.call("GET", "network", "networks", params={"name": name}, read_only=True)
            ids = [self._parse("network", _id, entry) for entry in self._entries(response, "networks")]
            if len(ids) != 1:
                problem = "has no network" if not ids else f"has {len(ids)} networks called"
                raise self._client.error(ErrorKind.NOT_FOUND, f"{problem} {name}; configure the id of the network to use", no_effect=True)
            self._networks[name] = ids[0]
        return self._networks[name]

    def _entries(self, response: Any, key: str) -> list[Mapping[str, Any]]:
        entries = mapping(response).get(key)
        return [mapping(entry) for entry in entries] if isinstance(entries, list) else []

    def _parse(self, what: str, read: Callable[[Mapping[str, Any]], _Entry], entry: Mapping[str, Any]) -> _Entry:
        try:
            return read(entry)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise self._client.error(ErrorKind.UNREACHABLE, f"returned a malformed {what}: {_explain(error)}", no_effect=True) from error


def _explain(error: Exception) -> str:
    return _one_line(str(error) if type(error) is ValueError else repr(error))


def _one_line(text: Any) -> str:
    """Untrusted text in a form that every database can store: one line, shortened, without control characters and unpaired surrogates.

    Empty for anything but text: the textual form of a nested value may be huge.
    """
    return printable(text[: 4 * _TEXT], _TEXT) if isinstance(text, str) else ""


def _is_name(name: Any) -> TypeGuard[str]:
    """Whether it is a name that can be asked for and stored."""
    return isinstance(name, str) and 0 < len(name) <= _TEXT and name.isprintable()


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


def _server(entry: Mapping[str, Any]) -> Server:
    flavor = mapping(entry.get("flavor"))
    resources = None
    if "vcpus" in flavor:
        resources = _resources(flavor["vcpus"], flavor["ram"], flavor.get("disk", 0), flavor.get("ephemeral", 0))
    metadata = mapping(entry.get("metadata"))
    return Server(
        id=_id(entry),
        name=_one_line(entry.get("name")),
        status=ServerStatus.of_nova(_one_line(entry.get("status"))),
        metadata={key: _one_line(metadata[key]) for key in TAG_KEYS if key in metadata},
        resources=resources,
        flavor=_one_line(flavor.get("original_name")),
        image_id=_one_line(mapping(entry.get("image")).get("id")),
        fault=_one_line(mapping(entry.get("fault")).get("message")),
    )


def _flavor(entry: Mapping[str, Any]) -> Flavor:
    offered = _resources(entry["vcpus"], entry["ram"], entry["disk"], entry.get("OS-FLV-EXT-DATA:ephemeral", 0))
    name, flavor_id = entry["name"], entry["id"]
    if not _is_name(name) or not _is_name(flavor_id):
        raise ValueError("invalid name or id")
    return Flavor(name, offered, flavor_id)


def _quota(absolute: Mapping[str, Any]) -> Limits:
    def bound(key: str) -> int | None:
        value = absolute.get(key)
        return min(int(value), _MAX_AMOUNT) if isinstance(value, int) and value >= 0 else None  # -1: no limit

    return Limits(vms=bound("maxTotalInstances"), cores=bound("maxTotalCores"), ram_mib=bound("maxTotalRAMSize"))
