"""Brings the schema of an engine's database to the latest version, by Alembic."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from .errors import SchemaError


def upgrade(connection: Connection, location: Path, engine: str) -> tuple[str | None, str | None]:
    """Run the migrations in folder `location` on a connection that holds the migration lock; the versions before and after.

    Raises SchemaError.
    """
    config = Config()
    config.set_main_option("script_location", str(location).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = f"alembic_version_{engine}"
    try:
        before = _check_known(connection, config)
        command.upgrade(config, "head")
        return before, ScriptDirectory.from_config(config).get_current_head()
    except CommandError as error:
        raise SchemaError(f"the schema cannot be migrated ({error}); install this release again, or report it as a bug") from error


def _check_known(connection: Connection, config: Config) -> str | None:
    """The version of the schema, None if it is empty. Raises SchemaError if a newer release made it."""
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    context = MigrationContext.configure(connection, opts={"version_table": config.attributes["version_table"]})
    found = context.get_current_heads()
    if unknown := sorted({*found} - known):
        raise SchemaError(
            f"schema {', '.join(unknown)} is newer than this release ({script.get_current_head()}); install the newer release again, "
            "or restore the backup from before its installation"
        )
    return found[0] if found else None
