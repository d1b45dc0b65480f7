"""Migrations: a newer or broken schema is named, and a migration waits for that of another process."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from distcloud.common.storage.database import Database, SchemaError
from distcloud.common.storage.locks import FileLock, lock_key

from .test_engines_share_database import make_package, tables


@contextmanager
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    events: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr("distcloud.common.storage.database.log.info", lambda event, **_: events.append(event), raising=False)
        yield events


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(tmp_path))
    return make_package(tmp_path, "apples")


def test_newer_schema_is_used_as_it_is(database_url: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that was rolled back starts on the newer release's schema."""
    warnings: list[dict[str, str]] = []
    monkeypatch.setattr(
        "distcloud.common.storage.database.log.warning", lambda event, **fields: warnings.append({"event": event, **fields})
    )

    async def main() -> None:
        database = Database(database_url, "demo")
        await database.migrate(package)
        async with database.begin() as session:
            await session.execute(text("UPDATE alembic_version_demo SET version_num = '0004'"))
        await database.migrate(package)
        async with database.begin() as session:
            assert await session.scalar(text("SELECT version_num FROM alembic_version_demo")) == "0004"
        await database.close()

    asyncio.run(main())
    (warning,) = warnings
    assert (warning["event"], warning["version"], warning["release_knows"]) == ("schema_is_newer", "0004", "0001")


def test_unknown_older_schema_is_refused(database_url: str, package: str) -> None:
    async def main() -> None:
        database = Database(database_url, "demo")
        await database.migrate(package)
        async with database.begin() as session:
            await session.execute(text("UPDATE alembic_version_demo SET version_num = '0000'"))
        with pytest.raises(SchemaError, match=r"^database .*: the schema cannot be migrated \(version 0000 is unknown\)"):
            await database.migrate(package)
        await database.close()

    asyncio.run(main())


def test_two_heads_are_an_error_of_the_release(database_url: str, package: str, tmp_path: Path) -> None:
    (step,) = (tmp_path / package / "migrations" / "versions").glob("*.py")
    (step.parent / "0002_second.py").write_text(step.read_text().replace('"0001"', '"0002"').replace("apples", "pears"))

    async def main() -> None:
        database = Database(database_url, "demo")
        with pytest.raises(SchemaError, match=r"cannot be migrated .*heads"):
            await database.migrate(package)
        assert "apples" not in await tables(database)
        await database.close()

    asyncio.run(main())


def test_migration_waits_for_another_without_limit(postgres_url: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        database, other = Database(postgres_url, "demo", busy_seconds=0.2), Database(postgres_url, "demo")
        async with other.begin() as session:
            await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock_key("demo/migrations")})
            migration = asyncio.create_task(database.migrate(package))
            done, _ = await asyncio.wait({migration}, timeout=1)
            assert not done
        await migration
        assert "apples" in await tables(database)
        await database.close()
        await other.close()

    with logged(monkeypatch) as events:
        asyncio.run(main())
    assert events == ["waiting_for_migration", "schema_migrated"]


def test_migration_of_a_file_waits_and_logs(tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        database = Database(f"sqlite:///{tmp_path}/x.db", "demo")
        async with FileLock(tmp_path / "x.db.migrating", wait=math.inf):
            migration = asyncio.create_task(database.migrate(package))
            done, _ = await asyncio.wait({migration}, timeout=0.3)
            assert not done
        await migration
        await database.migrate(package)
        await database.close()

    with logged(monkeypatch) as events:
        asyncio.run(main())
    assert events == ["waiting_for_migration", "schema_migrated"]
