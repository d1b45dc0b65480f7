"""What a token that may only read sees: content and accounts are masked on every route, and stay in shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from distcloud.common.http.auth import Caller
from distcloud.scheduler.worker.renderer import RenderingUnavailable

from ..support.api_world import Client, client, vm

AUTH = {"auth_url": "https://k/v3", "username": "marked-user", "password": "marked-password", "project_name": "marked-project"}
APPLICATION = {"auth_url": "https://k/v3", "application_credential_id": "marked-id", "application_credential_secret": "marked-secret"}
CONTENT = "password: marked-content-é\n"
OF_GROUP, OF_CLOUD = "/v1/groups/atlas/metadata", "/v1/groups/atlas/clouds/victoria/metadata"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with client(tmp_path_factory.mktemp("confidential")) as found:
        found("PUT", "/v1/groups/atlas", {})
        found("PUT", "/v1/groups/atlas/clouds/victoria", {"region": "r", "auth": AUTH})
        found("PUT", "/v1/groups/atlas/clouds/other", {"region": "r", "auth": APPLICATION})
        for path in (OF_GROUP, OF_CLOUD):
            assert found("PUT", f"{path}/m", {"content": CONTENT, "priority": 7}).status_code == 200
        found.engine.rows = [vm(1)]
        yield found


def routes(shared: Client) -> list[str]:
    """Every path that is read, with its parameters filled in."""
    known = {"group": "atlas", "cloud": "victoria", "name": "m", "vm": shared.engine.rows[0].id}
    paths: dict[str, Any] = shared("GET", "/openapi.json").json()["paths"]
    found = [path.format(**known) for path, methods in paths.items() if "get" in methods]
    return [path + "?job=1.0" if path.endswith("/explain") else path for path in found]


@pytest.mark.parametrize("who", ["viewer", "atlas-viewer"])
def test_viewer_sees_no_content_and_no_account_on_any_route(shared: Client, who: str) -> None:
    paths = routes(shared)
    assert len(paths) >= 15 and "/v1/report" in paths
    for path in paths:
        assert "marked" not in shared("GET", path, who=who).text, path


def test_masked_part_keeps_its_shape(shared: Client) -> None:
    for path in (OF_GROUP, OF_CLOUD):
        full, masked = shared("GET", f"{path}/m", who="atlas").json(), shared("GET", f"{path}/m", who="viewer").json()
        assert full["content"] == CONTENT and full["content_bytes"] == len(CONTENT.encode())
        assert masked == {**full, "content": "********"}
        assert shared("GET", path, who="viewer").json() == [masked]
        assert shared("GET", path).json() == [full]


def test_masked_account_keeps_method_and_address(shared: Client) -> None:
    shown = shared("GET", "/v1/groups/atlas/clouds/victoria", who="viewer").json()["auth"]
    full = shared("GET", "/v1/groups/atlas/clouds/victoria", who="atlas").json()["auth"]
    assert set(shown) == set(full)
    assert {key for key, value in shown.items() if value != "********"} == {"auth_type", "auth_url"}
    assert full["username"] == "marked-user" and full["password"] == "********"


@pytest.mark.parametrize(
    "content", ["a: {{ cs_user|trim(1) }}", "{% if cs_user %}" * 101 + "{% endif %}" * 101, "a: !!int ''", "a: !!timestamp ''"]
)
@pytest.mark.parametrize("dry_run", ["true", "false"])
def test_error_of_an_engine_is_the_fault_of_the_part(shared: Client, content: str, dry_run: str) -> None:
    answer = shared("PUT", f"{OF_GROUP}/bad", {"content": content}, params={"dry_run": dry_run})
    assert answer.status_code == 422 and [error["field"] for error in answer.json()["errors"]] == ["content"]


def test_part_that_cannot_be_checked_now_is_refused_for_now(shared: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(*_: str) -> str:
        raise RenderingUnavailable("the machine is busy")

    monkeypatch.setattr(shared.api.catalog._renderer, "check", busy)
    answer = shared("PUT", f"{OF_GROUP}/m", {"content": "a: 1"})
    assert answer.status_code == 503 and answer.json()["type"].endswith("rendering") and answer.headers["retry-after"]
    assert shared("PUT", f"{OF_GROUP}/m", {"priority": 7}).status_code == 200, "its content is not checked again"


def test_part_that_changes_during_its_check_is_refused(shared: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check runs outside the transaction, which would block the engine's writes."""
    catalog = shared.api.catalog
    usual = catalog._renderer.check

    async def check(whose: str, content: str, mime_type: str) -> str:
        monkeypatch.setattr(catalog._renderer, "check", usual)
        script = {"content": "#!/bin/sh\n", "mime_type": "x-shellscript"}
        await catalog.put_part(Caller("admin", "cloud_admin"), "atlas", "", "m", script, dry_run=False)
        return await usual(whose, content, mime_type)

    monkeypatch.setattr(catalog._renderer, "check", check)
    assert shared("PUT", f"{OF_GROUP}/m", {"content": "a: 1"}).status_code == 409
    shared("PUT", f"{OF_GROUP}/m", {"content": CONTENT, "mime_type": None})
