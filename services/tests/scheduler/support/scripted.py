"""Runs scripted scenarios: turns of the engine, with calls of the real API in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from httpx2 import ASGITransport, AsyncClient

from distcloud.scheduler.api.app import create_app
from distcloud.scheduler.catalog.catalog import Catalog
from distcloud.scheduler.store.tables import CloudRow, GroupRow

from ...common.support.api_client import token
from .api_world import settings
from .fakes import FakeWorld
from .stage import Stage, migrated

Play = Callable[[Stage], Awaitable[None]]


def play(folder: Path, world: FakeWorld, script: Play, *clouds: str, max_vms: int = 5) -> None:
    async def main() -> None:
        stage = Stage(await migrated(folder, clouds, max_vms=max_vms), world)
        await stage.begin()
        await script(stage)
        await stage.end()

    asyncio.run(main())


async def call(stage: Stage, method: str, path: str, body: Any = None, who: str = "admin") -> Any:
    """The real API in front of the engine and its database, by default as a cloud admin."""
    app = create_app(settings(), stage.engine, Catalog(stage.database, stage.box, stage.engine.wake))
    headers = {"Authorization": f"Bearer {token(who)}"}
    async with AsyncClient(transport=ASGITransport(app=app), base_url="http://test", headers=headers) as client:
        answer = await client.request(method, path, json=body)
    assert answer.status_code < 300 or path == "/readyz", answer.text
    return answer.json()


async def add(stage: Stage, *clouds: tuple[str, str]) -> None:
    """Add enabled clouds without limits; missing groups are created."""
    async with stage.database.begin() as session:
        for group, name in clouds:
            if await session.get(GroupRow, group) is None:
                session.add(GroupRow(name=group, keep_alive=20, default_image="worker", aliases={}))
                await session.flush()
            session.add(CloudRow(group_name=group, name=name, region="r", enabled=True, auth={}, attributes={}))
