"""Entry point of Alembic: runs the migrations of the scheduler."""

from distcloud.common.migrations import run

run()
