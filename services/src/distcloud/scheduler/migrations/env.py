"""Entry point of Alembic: runs the migrations of the scheduler."""

from ...common.storage.migrations import run

run()
