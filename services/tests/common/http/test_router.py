"""Routes of engines accept only the query parameters that they declare."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from fastapi import Query
from httpx2 import ASGITransport, AsyncClient

from distcloud.common.config import ServiceSettings, check
from distcloud.common.http.app import create_app
from distcloud.common.http.auth import Caller
from distcloud.common.http.report import Report
from distcloud.common.http.router import Router


async def report(caller: Caller) -> Report:
    raise AssertionError(caller)


def ask(path: str, method: str = "DELETE") -> Any:
    app = create_app("Test", check({"listen": {"port": 1}}, ServiceSettings, "test"), stuck=str, dependencies=list, report=report)
    router = Router(prefix="/v1")

    @router.delete("/things/{name}")
    async def delete(name: str, dry_run: bool = False, state: Annotated[list[str] | None, Query()] = None) -> list[str]:
        return [name, str(dry_run), *(state or [])]

    @router.get("/things")
    async def get() -> list[str]:
        return []

    app.include_router(router)

    async def main() -> Any:
        async with AsyncClient(transport=ASGITransport(app=app), base_url="http://test") as client:
            return await client.request(method, f"/v1/things{path}")

    return asyncio.run(main())


def test_declared_parameters_are_accepted() -> None:
    assert ask("/a?dry_run=true&state=x&state=y").json() == ["a", "True", "x", "y"]


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/a?dryrun=true", "dryrun: is not a query parameter of this path; use dry_run, state"),
        ("/a?Dry_Run=true", "Dry_Run: is not a query parameter of this path; use dry_run, state"),
        ("/a?dry_run=true&dry_run=false", "dry_run: is given more than once"),
    ],
)
def test_other_parameters_are_refused(path: str, detail: str) -> None:
    answer = ask(path)
    assert (answer.status_code, answer.json()["detail"]) == (422, detail)
    assert answer.json()["errors"][0]["field"] == detail.partition(":")[0]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_path_without_parameters_says_so(method: str) -> None:
    answer = ask("?x=1", method)
    assert answer.status_code == 422 and (method == "HEAD" or "this path has none" in answer.json()["detail"])
