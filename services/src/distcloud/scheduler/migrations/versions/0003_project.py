"""Clouds store the project they were enabled for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("clouds", sa.Column("project", sa.String(length=64), nullable=True))
