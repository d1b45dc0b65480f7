"""What the engine asks of any cloud, and the kinds of refusal it understands.

A driver knows one account in one region. It keeps no record of servers: the cloud's listing is the truth about what exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from ..domain.model import Flavor, Limits, Resources
from ..domain.states import ServerStatus

# Keys of the metadata on every server of ours.
META_SCHEDULER = "distcloud_scheduler"  # the scheduler's permanent UUID
META_VM = "distcloud_vm"  # the ledger id
META_GROUP = "distcloud_group"
META_CLOUD = "distcloud_cloud"


class ErrorKind(StrEnum):
    AUTH = "auth"  # the account's credential is refused
    QUOTA = "quota"
    NOT_FOUND = "not_found"
    UNREACHABLE = "unreachable"  # no answer, or an answer that says nothing about the request
    REJECTED = "rejected"  # understood and refused


class CloudError(Exception):
    """A call to a cloud failed. The message names cloud and cause and says what to do; it holds no secret.

    `undone` is true when it is certain that the cloud did nothing: only then may a create be taken as not having happened.
    """

    def __init__(self, kind: ErrorKind, cloud: str, message: str, *, no_effect: bool) -> None:
        super().__init__(f"cloud {cloud}: {message}")
        self.kind = kind
        self.cloud = cloud
        self.no_effect = no_effect


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


def check_project(account: Account, project: str) -> None:
    """Raises CloudError for a log-in to another project than the cloud was enabled for.

    A credential carries its project within, so who may change the credential could move the cloud by it. Refused at the log-in, nothing
    is booted or deleted there, and no server at home is taken for gone because that project does not list it.
    """
    if account.project and project != account.project:
        raise CloudError(
            ErrorKind.AUTH,
            account.label,
            f"its credential belongs to project {project}, but the cloud was enabled for project {account.project}; "
            "give it a credential of that project, or have a cloud_admin disable it and enable it again",
            no_effect=True,
        )


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
    complete: bool = True


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

    async def delete_leftovers(self, server_id: str) -> None:
        """Takes away what a deleted server may have left behind (ports)."""
        ...

    async def close(self) -> None: ...
