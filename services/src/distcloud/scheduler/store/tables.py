"""The scheduler's tables: the catalog (groups, clouds, metadata) and the ledger of VMs.

Times are floats, seconds since the epoch. Secrets are stored only as Fernet tokens (see `distcloud.common.secretbox`).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Boolean, Float, ForeignKeyConstraint, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """All tables of the scheduler."""

    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON, list[dict[str, Any]]: JSON}


class SiteRow(Base):
    """One row: the permanent identity of this scheduler, written when the database is first migrated."""

    __tablename__ = "site"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    scheduler_uuid: Mapped[str] = mapped_column(String(36))


class GroupRow(Base):
    """A tenant of the scheduler."""

    __tablename__ = "groups"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    keep_alive: Mapped[int] = mapped_column(Integer, default=300)
    default_flavor: Mapped[str | None] = mapped_column(String(255))
    default_image: Mapped[str | None] = mapped_column(String(255))
    aliases: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class CloudRow(Base):
    """An account in a region as one group uses it."""

    __tablename__ = "clouds"
    __table_args__ = (ForeignKeyConstraint(["group_name"], ["groups.name"], ondelete="RESTRICT"),)
    group_name: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    driver: Mapped[str] = mapped_column(String(32), default="openstack")
    region: Mapped[str] = mapped_column(String(255))
    auth: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # everything except secrets
    auth_secrets: Mapped[str | None] = mapped_column(Text)  # Fernet token of a JSON object
    project: Mapped[str | None] = mapped_column(String(64))  # observed id of the project the cloud was enabled for; not part of the spec
    ca_certificate: Mapped[str | None] = mapped_column(Text)
    credential_expires_at: Mapped[float | None] = mapped_column(Float)
    enabled: Mapped[bool] = mapped_column(Boolean, default=False)
    frozen: Mapped[bool] = mapped_column(Boolean, default=False)
    priority: Mapped[int] = mapped_column(Integer, default=0)
    max_vms: Mapped[int | None] = mapped_column(Integer)
    max_cores: Mapped[int | None] = mapped_column(Integer)
    max_ram_mib: Mapped[int | None] = mapped_column(Integer)
    soft_max_vms: Mapped[int | None] = mapped_column(Integer)
    soft_max_cores: Mapped[int | None] = mapped_column(Integer)
    soft_max_ram_mib: Mapped[int | None] = mapped_column(Integer)
    default_flavor: Mapped[str | None] = mapped_column(String(255))
    default_image: Mapped[str | None] = mapped_column(String(255))
    flavor_exclusions: Mapped[list[str]] = mapped_column(JSON, default=list)
    network: Mapped[str | None] = mapped_column(String(255))
    security_groups: Mapped[list[str]] = mapped_column(JSON, default=list)
    keypair: Mapped[str | None] = mapped_column(String(255))
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class MetadataRow(Base):
    """A cloud-init part of a group (`cloud` empty) or of one of its clouds."""

    __tablename__ = "metadata_parts"
    group_name: Mapped[str] = mapped_column(String(64), primary_key=True)
    cloud: Mapped[str] = mapped_column(String(64), primary_key=True, default="")
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    content: Mapped[str] = mapped_column(Text)
    mime_type: Mapped[str] = mapped_column(String(64), default="cloud-config")
    priority: Mapped[int] = mapped_column(Integer, default=0)
    enabled: Mapped[bool] = mapped_column(Boolean, default=True)
    excluded_clouds: Mapped[list[str]] = mapped_column(JSON, default=list)


class VmRow(Base):
    """A worker VM, from its request to its end; never deleted, so that accounting can read it."""

    __tablename__ = "vms"
    __table_args__ = (
        Index("vms_by_state", "state"),
        Index("vms_by_cloud", "group_name", "cloud", "state"),
        Index("vms_by_age", "requested_at", "id"),  # the order in which lists are paged
    )
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    group_name: Mapped[str] = mapped_column(String(64))
    cloud: Mapped[str] = mapped_column(String(64))
    region: Mapped[str] = mapped_column(String(255))
    flavor: Mapped[str] = mapped_column(String(255))
    image: Mapped[str] = mapped_column(String(255))
    alias: Mapped[str | None] = mapped_column(String(64))
    network: Mapped[str | None] = mapped_column(String(255))
    keep_alive: Mapped[int | None] = mapped_column(Integer)
    cores: Mapped[int] = mapped_column(Integer)
    ram_mib: Mapped[int] = mapped_column(Integer)
    disk_gib: Mapped[float] = mapped_column(Float)
    state: Mapped[str] = mapped_column(String(16))
    server_id: Mapped[str | None] = mapped_column(String(64))
    requested_at: Mapped[float] = mapped_column(Float)
    changed_at: Mapped[float] = mapped_column(Float)
    registered_at: Mapped[float | None] = mapped_column(Float)
    last_seen_in_pool: Mapped[float | None] = mapped_column(Float)
    ever_used: Mapped[bool] = mapped_column(Boolean, default=False)
    idle_since: Mapped[float | None] = mapped_column(Float)
    token_expires_at: Mapped[float | None] = mapped_column(Float)
    drain_requested_at: Mapped[float | None] = mapped_column(Float)
    delete_requested_at: Mapped[float | None] = mapped_column(Float)
    gone_at: Mapped[float | None] = mapped_column(Float)
    reason: Mapped[str] = mapped_column(Text, default="")
    manual: Mapped[bool] = mapped_column(Boolean, default=False)
    drain_key: Mapped[str | None] = mapped_column(Text)  # Fernet token of the VM's own drain key


class VmEventRow(Base):
    """The history of a VM: every change of state with its reason."""

    __tablename__ = "vm_events"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    vm_id: Mapped[str] = mapped_column(String(32), index=True)
    at: Mapped[float] = mapped_column(Float)
    from_state: Mapped[str | None] = mapped_column(String(16))
    to_state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
