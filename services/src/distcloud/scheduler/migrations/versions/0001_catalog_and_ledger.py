"""The first schema: groups, clouds, metadata, the ledger of VMs, and this scheduler's permanent identity."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    site = op.create_table(
        "site",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("scheduler_uuid", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    # The ownership tag of our servers. Generated once: with another value, our own servers would count as foreign.
    op.bulk_insert(site, [{"id": 1, "scheduler_uuid": str(uuid.uuid4())}])
    op.create_table(
        "groups",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("keep_alive", sa.Integer(), nullable=False),
        sa.Column("default_flavor", sa.String(length=255), nullable=True),
        sa.Column("default_image", sa.String(length=255), nullable=True),
        sa.Column("aliases", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "clouds",
        sa.Column("group_name", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("driver", sa.String(length=32), nullable=False),
        sa.Column("region", sa.String(length=255), nullable=False),
        sa.Column("auth", sa.JSON(), nullable=False),
        sa.Column("auth_secrets", sa.Text(), nullable=True),
        sa.Column("ca_certificate", sa.Text(), nullable=True),
        sa.Column("credential_expires_at", sa.Float(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("frozen", sa.Boolean(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("max_vms", sa.Integer(), nullable=True),
        sa.Column("max_cores", sa.Integer(), nullable=True),
        sa.Column("max_ram_mib", sa.Integer(), nullable=True),
        sa.Column("default_flavor", sa.String(length=255), nullable=True),
        sa.Column("default_image", sa.String(length=255), nullable=True),
        sa.Column("flavor_exclusions", sa.JSON(), nullable=False),
        sa.Column("network", sa.String(length=255), nullable=True),
        sa.Column("security_groups", sa.JSON(), nullable=False),
        sa.Column("keypair", sa.String(length=255), nullable=True),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["group_name"], ["groups.name"], ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("group_name", "name"),
    )
    op.create_table(
        "metadata_parts",
        sa.Column("group_name", sa.String(length=64), nullable=False),
        sa.Column("cloud", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("mime_type", sa.String(length=64), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("excluded_clouds", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("group_name", "cloud", "name"),
    )
    op.create_table(
        "vms",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("group_name", sa.String(length=64), nullable=False),
        sa.Column("cloud", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=255), nullable=False),
        sa.Column("flavor", sa.String(length=255), nullable=False),
        sa.Column("image", sa.String(length=255), nullable=False),
        sa.Column("alias", sa.String(length=64), nullable=True),
        sa.Column("network", sa.String(length=255), nullable=True),
        sa.Column("keep_alive", sa.Integer(), nullable=True),
        sa.Column("cores", sa.Integer(), nullable=False),
        sa.Column("ram_mib", sa.Integer(), nullable=False),
        sa.Column("disk_gib", sa.Float(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("server_id", sa.String(length=64), nullable=True),
        sa.Column("requested_at", sa.Float(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.Column("registered_at", sa.Float(), nullable=True),
        sa.Column("last_seen_in_pool", sa.Float(), nullable=True),
        sa.Column("ever_used", sa.Boolean(), nullable=False),
        sa.Column("idle_since", sa.Float(), nullable=True),
        sa.Column("token_expires_at", sa.Float(), nullable=True),
        sa.Column("drain_requested_at", sa.Float(), nullable=True),
        sa.Column("delete_requested_at", sa.Float(), nullable=True),
        sa.Column("gone_at", sa.Float(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("manual", sa.Boolean(), nullable=False),
        sa.Column("drain_key", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("vms_by_state", "vms", ["state"])
    op.create_index("vms_by_cloud", "vms", ["group_name", "cloud", "state"])
    op.create_index("vms_by_age", "vms", ["requested_at", "id"])
    op.create_table(
        "vm_events",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("vm_id", sa.String(length=32), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("from_state", sa.String(length=16), nullable=True),
        sa.Column("to_state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_vm_events_vm_id", "vm_events", ["vm_id"])
