"""Clouds get soft limits on the usage of the whole project, foreign servers included."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("soft_max_vms", "soft_max_cores", "soft_max_ram_mib"):
        op.add_column("clouds", sa.Column(name, sa.Integer(), nullable=True))
