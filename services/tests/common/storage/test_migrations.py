"""The migrations of each engine end in the tables that its code declares, on real SQLite and real PostgreSQL."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path

import pytest
from sqlalchemy import MetaData

import distcloud
from distcloud.common.storage.database import Database

ENGINES = sorted(path.parents[1].name for path in Path(distcloud.__file__).parent.glob("*/migrations/env.py"))


def declared(engine: str) -> MetaData:
    """The tables of `store/tables.py`."""
    module = importlib.import_module(f"distcloud.{engine}.store.tables")
    found = {getattr(value, "metadata", None) for value in vars(module).values()}
    (tables,) = (each for each in found if isinstance(each, MetaData) and each.tables)
    return tables


@pytest.mark.parametrize("engine", ENGINES)
def test_migrated_schema_matches_the_tables(engine: str, database_url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    async def main() -> list[object]:
        database = Database(database_url, engine)
        await database.migrate(f"distcloud.{engine}")
        async with database._engine.connect() as connection:
            found = await connection.run_sync(
                lambda sync: compare_metadata(
                    MigrationContext.configure(sync, opts={"version_table": f"alembic_version_{engine}"}), declared(engine)
                )
            )
        await database.close()
        return list(found)

    assert asyncio.run(main()) == []


def test_engines_have_tables_of_their_own() -> None:
    """Engines may share a PostgreSQL database."""
    tables = [table for engine in ENGINES for table in declared(engine).tables.values()]
    names = [table.name for table in tables] + [str(index.name) for table in tables for index in table.indexes]
    assert len(names) == len(set(names)), sorted(names)
