"""Brings the schema of an engine's database to the latest version, by Alembic."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from .errors import SchemaError


@dataclass(frozen=True, slots=True)
class SchemaVersions:
    """Versions of a schema before and after its migration, and the newest that this release knows. Numbered: 0001, 0002, ..."""

    before: str | None
    after: str | None
    known: str | None


def upgrade(connection: Connection, location: Path, engine: str) -> SchemaVersions:
    """Run the migrations in folder `location` on a connection that holds the migration lock.

    A schema that a newer release made is left as it is: migrations are compatible with the release before. Raises SchemaError.
    """
    config = Config()
    config.set_main_option("script_location", str(location).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = f"alembic_version_{engine}"
    try:
        script = ScriptDirectory.from_config(config)
        before, newest = _version(connection, config), script.get_current_head()
        if before is not None and before not in {revision.revision for revision in script.walk_revisions()}:
            if newest is None or before < newest:
                raise CommandError(f"version {before} is unknown")
            return SchemaVersions(before, before, newest)
        command.upgrade(config, "head")
        return SchemaVersions(before, newest, newest)
    except CommandError as error:
        raise SchemaError(f"the schema cannot be migrated ({error}); install this release again, or report it as a bug") from error


def _version(connection: Connection, config: Config) -> str | None:
    """The version of the schema, None if it is empty."""
    context = MigrationContext.configure(connection, opts={"version_table": config.attributes["version_table"]})
    return context.get_current_revision()
