"""The protocol of cloud drivers, and the kinds of errors that the engine distinguishes.

A driver serves one account in one region. It stores nothing about servers: only the cloud's listing says which exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ...openstack.credential import Credential
from ...openstack.errors import CloudError, ErrorKind
from ..domain.model import Flavor, Limits, Resources
from ..domain.states import ServerStatus

__all__ = ["CloudError", "ErrorKind"]

# Metadata keys of our servers: the ownership tag.
META_SCHEDULER = "distcloud_scheduler"  # the scheduler's permanent UUID
META_VM = "distcloud_vm"  # the ledger id
META_GROUP = "distcloud_group"
META_CLOUD = "distcloud_cloud"
TAG_KEYS = (META_SCHEDULER, META_VM, META_GROUP, META_CLOUD)


@dataclass(frozen=True, slots=True)
class Account:
    """One cloud of the catalog with the data needed to log in and to boot servers. `secrets` never leaves the driver.

    `project` is the id of the project that the cloud was enabled for (empty: not known yet); a driver works in no other project.
    """

    group: str
    name: str
    driver: str
    region: str
    auth: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_certificate: str | None = None
    network: str | None = None
    security_groups: tuple[str, ...] = ()
    keypair: str | None = None
    project: str = ""

    @property
    def label(self) -> str:
        return f"{self.group}/{self.name}"

    @property
    def credential(self) -> Credential:
        return Credential(self.label, self.auth, self.secrets, self.region, self.ca_certificate, self.project)


@dataclass(frozen=True, slots=True)
class Server:
    """One server of the account's project. `resources` is None if the cloud does not report them (one of its cells is down).

    `metadata` has only the keys of the ownership tag. Texts have at most 255 printable characters.
    """

    id: str
    name: str
    status: ServerStatus
    metadata: Mapping[str, str] = field(default_factory=dict)
    resources: Resources | None = None
    flavor: str = ""
    image_id: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """All servers of the project. If not `complete`, some may be missing according to the cloud, so absence proves nothing."""

    servers: tuple[Server, ...]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Inventory:
    """What changes rarely: `images` maps names to ids (the newest image of a name), `project` identifies the quota, `networks` are
    the names and ids that identify exactly one network (None: unknown)."""

    flavors: tuple[Flavor, ...]
    images: Mapping[str, str]
    quota: Limits
    project: str
    networks: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class ServerRequest:
    """One server to boot; names are resolved by the driver."""

    vm_id: str
    flavor: str
    image: str
    user_data: bytes = field(repr=False)
    metadata: Mapping[str, str]
    network: str | None = None  # None: the network of the account


class CloudDriver(Protocol):
    """Every method may raise CloudError, and ends within the driver's own timeouts."""

    async def servers(self) -> Listing: ...

    async def inventory(self) -> Inventory: ...

    async def create(self, request: ServerRequest) -> str:
        """Create a server named `request.vm_id`; returns its id. Never retried by the driver, because a response may have been lost."""
        ...

    async def delete(self, server_id: str) -> None:
        """Ask the cloud to delete a server. A server that does not exist is not an error."""
        ...

    async def delete_leftovers(self, server_id: str) -> None:
        """Delete what a deleted server may have left behind (ports)."""
        ...

    async def close(self) -> None: ...
