"""Alembic's entry point: runs the migrations on the connection that the service has opened and locked."""

from __future__ import annotations

from alembic import context

from distcloud.scheduler.store.tables import Base  # Alembic runs this file outside its package

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
