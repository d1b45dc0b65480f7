"""What the engine asks of any cloud, and the kinds of refusal it understands.

A driver knows one account in one region. It keeps no record of servers: the cloud's listing is the truth about what exists.
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

# Keys of the metadata on every server of ours.
META_SCHEDULER = "distcloud_scheduler"  # the scheduler's permanent UUID
META_VM = "distcloud_vm"  # the ledger id
META_GROUP = "distcloud_group"
META_CLOUD = "distcloud_cloud"


@dataclass(frozen=True, slots=True)
class Account:
    """One cloud of the catalogue with what is needed to log in and to boot there. `secrets` never leaves the driver.

    `project` is the id of the project that the cloud was enabled for (empty: not known yet); a driver works in no other.
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
    """One server of the account's project. `resources` is None where the cloud does not say (a cell of it is down)."""

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
    """All servers of the project. `whole` false: the cloud itself said that some may lack, so absence proves nothing."""

    servers: tuple[Server, ...]
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Inventory:
    """What changes seldom: `images` are name -> id (the newest of a name), `project` the key of the quota, `networks` the names
    and ids that stand for one network each (None: not to be known)."""

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
    network: str | None = None  # None: the account's


class CloudDriver(Protocol):
    """Every method may raise CloudError, and ends within the driver's own time-outs."""

    async def servers(self) -> Listing: ...

    async def inventory(self) -> Inventory: ...

    async def create(self, request: ServerRequest) -> str:
        """The new server's id. It is named `request.vm_id`. Never repeated by the driver: an answer may have been lost."""
        ...

    async def delete(self, server_id: str) -> None:
        """Asks the cloud to delete; a server that is not there (any more) is no error."""
        ...

    async def sweep(self, server_id: str) -> None:
        """Takes away what a deleted server may have left behind (ports)."""
        ...

    async def close(self) -> None: ...
