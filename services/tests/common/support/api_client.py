"""Calls of an engine's application inside the test's process, as the holder of a token of its configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient, Response

from distcloud.common.http.auth import digest_of


def token(name: str) -> str:
    return f"token-of-{name}-0123456789"


def token_settings(scopes: Mapping[str, tuple[str, Sequence[str]]]) -> list[dict[str, Any]]:
    """The `tokens` of a configuration: name, then scope and groups."""
    return [
        {"name": name, "scope": scope, "groups": list(groups), "sha256": digest_of(token(name))} for name, (scope, groups) in scopes.items()
    ]


class AppClient:
    """Calls the application as a named token; everything happens in one event loop."""

    def __init__(self, runner: asyncio.Runner, app: FastAPI) -> None:
        self.runner = runner
        self.app = app
        transport = ASGITransport(app=app, raise_app_exceptions=False)
        self._client = AsyncClient(transport=transport, base_url="http://test")

    def __call__(self, method: str, path: str, body: Any = None, *, who: str | None = "admin", **more: Any) -> Response:
        headers = dict(more.pop("headers", {}))
        if who is not None:
            headers["Authorization"] = f"Bearer {token(who)}"
        if body is not None:
            more["json"] = body
        return self.runner.run(self._client.request(method, path, headers=headers, **more))
