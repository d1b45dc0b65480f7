"""A snapshot of the catalog for the engine: groups, clouds with decrypted secrets, and cloud-init parts, read in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from ...common.secretbox import SecretBox, SecretError
from ...common.storage.database import Database
from ...openstack.addresses import identity_service
from ..domain.model import Cloud, CloudKey, Group, Limits
from ..drivers.base import Account
from ..store.tables import CloudRow, GroupRow, MetadataRow
from ..worker.parts import MetadataPart


@dataclass(frozen=True, slots=True)
class CloudSpec:
    """The desired state of a cloud: `cloud` holds nothing observed. `problem` says why its secrets cannot be used."""

    cloud: Cloud
    account: Account
    flavor_exclusions: frozenset[str] = frozenset()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class CatalogSnapshot:
    """The whole catalog at one moment."""

    groups: tuple[Group, ...] = ()
    clouds: Mapping[CloudKey, CloudSpec] = field(default_factory=dict)
    parts: Mapping[CloudKey, tuple[MetadataPart, ...]] = field(default_factory=dict)  # cloud "" holds those of the group

    def parts_for(self, key: CloudKey) -> tuple[MetadataPart, ...]:
        return (*self.parts.get((key[0], ""), ()), *(self.parts.get(key, ()) if key[1] else ()))


async def load_catalog(database: Database, box: SecretBox) -> CatalogSnapshot:
    """Read the catalog. Raises DatabaseError."""
    async with database.read() as session:
        groups = (await session.scalars(select(GroupRow).order_by(GroupRow.name))).all()
        clouds = (await session.scalars(select(CloudRow).order_by(CloudRow.group_name, CloudRow.name))).all()
        metadata = (await session.scalars(select(MetadataRow).order_by(MetadataRow.priority, MetadataRow.name))).all()
    parts: dict[CloudKey, list[MetadataPart]] = {}
    for row in metadata:
        parts.setdefault((row.group_name, row.cloud), []).append(
            MetadataPart(
                name=row.name,
                content=row.content,
                mime_type=row.mime_type,
                priority=row.priority,
                scope="cloud" if row.cloud else "group",
                enabled=row.enabled,
                excluded_clouds=tuple(row.excluded_clouds),
            )
        )
    return CatalogSnapshot(
        groups=tuple(_group(row) for row in groups),
        clouds={(row.group_name, row.name): _cloud(row, box) for row in clouds},
        parts={key: tuple(found) for key, found in parts.items()},
    )


async def record_projects(database: Database, projects: Mapping[CloudKey, tuple[Account, str]]) -> None:
    """Bind each cloud to the project of its account, unless the project is known already or the account has changed since.

    Raises DatabaseError.
    """

    async def work(session: AsyncSession) -> None:
        for key, (account, project) in sorted(projects.items()):
            row = await session.get(CloudRow, key, with_for_update=True)
            if row is not None and row.project is None and (row.region, _auth(row)) == (account.region, account.auth):
                row.project = project

    await database.run(work)


def _group(row: GroupRow) -> Group:
    return Group(
        name=row.name,
        keep_alive=row.keep_alive,
        default_flavor=row.default_flavor,
        default_image=row.default_image,
        aliases={str(alias): tuple(clouds) for alias, clouds in (row.aliases or {}).items()},
    )


def _cloud(row: CloudRow, box: SecretBox) -> CloudSpec:
    problem = ""
    secrets: dict[str, str] = {}
    try:
        secrets = box.open_mapping(row.auth_secrets)
    except SecretError as error:
        problem = f"{error}; set the cloud's secret again"
    except Exception as error:  # whatever was stored there: only this cloud must be unusable
        problem = f"its stored secrets cannot be read ({type(error).__name__}); set the cloud's secret again"
    cloud = Cloud(
        name=row.name,
        group=row.group_name,
        region=row.region,
        enabled=row.enabled,
        frozen=row.frozen,
        credential_expires_at=row.credential_expires_at,
        priority=row.priority,
        limits=Limits(row.max_vms, row.max_cores, row.max_ram_mib),
        soft_limits=Limits(row.soft_max_vms, row.soft_max_cores, row.soft_max_ram_mib),
        default_flavor=row.default_flavor,
        default_image=row.default_image,
        network=row.network,
        keystone=identity_service(_auth(row).get("auth_url", "")),
        attributes={str(key): str(value) for key, value in (row.attributes or {}).items()},
    )
    account = Account(
        group=row.group_name,
        name=row.name,
        driver=row.driver,
        region=row.region,
        auth=_auth(row),
        secrets=secrets,
        ca_certificate=row.ca_certificate,
        network=row.network,
        security_groups=tuple(row.security_groups or ()),
        keypair=row.keypair,
        project=row.project or "",
    )
    return CloudSpec(cloud, account, frozenset(row.flavor_exclusions or ()), problem)


def _auth(row: CloudRow) -> dict[str, str]:
    return {str(key): str(value) for key, value in (row.auth or {}).items() if value is not None}
