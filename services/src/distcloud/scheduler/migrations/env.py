"""Entry point of Alembic: runs the migrations of the scheduler."""

from distcloud.common.storage.migrations import run

run()
