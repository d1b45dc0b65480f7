"""The body of every engine's `migrations/env.py`, which is `from distcloud.common.storage.migrations import run; run()`.

Alembic runs it from `Database.migrate`, on a connection that holds the migration lock.
"""

from __future__ import annotations

from alembic import context


def run() -> None:
    """Run the migrations on the connection of `Database.migrate`, recorded in the engine's own version table."""
    attributes = context.config.attributes
    context.configure(connection=attributes["connection"], version_table=attributes["version_table"], render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
