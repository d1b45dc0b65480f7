"""Role region, register: the image registered with the scheduler, readable refusals, no secrets in the output; against fake services."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from role_plays import play

SECRETS = {"the-credentials-secret", "the-schedulers-token", "the-accounts-password"}


class Services(ThreadingHTTPServer):
    """A region's Keystone and Glance, and the scheduler, under one address."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.images: list[dict[str, Any]] = []
        self.refusal = ""
        self.puts: list[dict[str, Any]] = []

    def token(self) -> dict[str, Any]:
        domain = {"id": "default", "name": "Default"}
        image = {"id": "e", "interface": "public", "region": "r", "region_id": "r", "url": self.address}
        return {
            "methods": ["password"],
            "user": {"id": "u", "name": "site", "domain": domain},
            "project": {"id": "p", "name": "site", "domain": domain},
            "roles": [],
            "expires_at": "2099-01-01T00:00:00.000000Z",
            "issued_at": "2026-01-01T00:00:00.000000Z",
            "catalog": [{"id": "i", "type": "image", "name": "glance", "endpoints": [image]}],
        }


class Handler(BaseHTTPRequestHandler):
    server: Services

    def log_message(self, *_words: Any) -> None:
        """Log nothing: the tests inspect the requests."""

    def answer(self, status: int, body: Any, **headers: str) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(raw)

    def body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def do_GET(self) -> None:
        if self.path.startswith("/v2/images"):
            self.answer(200, {"images": self.server.images})
        else:
            self.answer(
                200, {"version": {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": self.server.address + "/v3/"}]}}
            )

    def do_POST(self) -> None:
        self.body()
        self.answer(201, {"token": self.server.token()}, X_Subject_Token="token")

    def do_PUT(self) -> None:
        body = self.body()
        if self.server.refusal:
            problem = {"type": "urn:distcloud:problem:invalid", "detail": self.server.refusal}
            self.answer(422, problem)
        else:
            self.server.puts.append(body)
            self.answer(
                200, {"changed": True, "before": None, "after": {"default_image": body.get("default_image")}, "changed_secrets": []}
            )


@pytest.fixture
def services() -> Iterator[Services]:
    server = Services()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def image(name: str, created: str, **more: Any) -> dict[str, Any]:
    ours = {"owner": "p", "status": "active", "distcloud_owner": "my-site", "distcloud_image": "worker"}
    return {"id": name, "name": name, "created_at": created, **ours, **more}


def register(services: Services, state: Path, *arguments: str, keystone: str = "", **variables: Any) -> tuple[int, str]:
    """Return exit code and output of the role on this machine."""
    (state / "credentials").mkdir(parents=True)
    credential = {
        "region_name": "r",
        "auth_url": services.address + "/v3",
        "interface": "public",
        "application_credential_id": "an-id",
        "application_credential_secret": "the-credentials-secret",
        "cacert": None,
        "expires_at": None,
    }
    (state / "credentials" / "region-x-scheduler.yml").write_text(yaml.safe_dump(credential))
    auth = {
        "auth_url": (keystone or services.address) + "/v3",
        "username": "site",
        "password": "the-accounts-password",
        "project_name": "site",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }
    (state / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"region-x": {"auth": auth, "region_name": "r"}}}))
    values = {
        "region_name": "region-x",
        "region_cloud": "region-x",
        "region_clouds_yaml": str(state / "clouds.yaml"),
        "region_state_dir": str(state),
        "region_site": "my-site",
        "region_scheduler_url": services.address,
        "region_scheduler_token": "the-schedulers-token",
        "region_scheduler_groups": ["atlas"],
        **variables,
    }
    code, output = play(state, "region", "register", values, *arguments)
    assert not [secret for secret in SECRETS if secret in output]
    return code, " ".join(output.split())


def registered_image(services: Services) -> Any:
    return services.puts[-1].get("default_image")


def test_newest_image_of_the_region_is_registered(services: Services, tmp_path: Path) -> None:
    services.images = [
        image("new", "2026-03-02T00:00:00Z"),
        image("old", "2026-03-01T00:00:00Z"),
        image("half", "2026-03-03T00:00:00Z", status="queued"),
        image("theirs", "2026-03-04T00:00:00Z", distcloud_owner="other-site"),
    ]
    code, output = register(services, tmp_path)
    assert code == 0, output
    assert registered_image(services) == "new" and "default_image: new" in output, "the diff is readable"


def test_built_image_is_registered_before_upload(services: Services, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "worker.json").write_text(json.dumps({"name": "built"}))
    code, output = register(services, tmp_path)
    assert code == 0, output
    assert registered_image(services) == "built"


@pytest.mark.parametrize(
    "variables", [{"region_scheduler_cloud": {"default_image": "named"}}, {"worker_image_in_region": {"name": "named"}}]
)
def test_named_image_needs_no_region_query(services: Services, tmp_path: Path, variables: dict[str, Any]) -> None:
    code, output = register(services, tmp_path, keystone="http://127.0.0.1:1", **variables)
    assert code == 0, output
    assert registered_image(services) == "named"


def test_unreachable_region_keeps_registered_image(services: Services, tmp_path: Path) -> None:
    code, output = register(services, tmp_path, keystone="http://127.0.0.1:1")
    assert code == 0, output
    assert registered_image(services) is None


def test_refusal_of_the_scheduler_is_shown(services: Services, tmp_path: Path) -> None:
    services.refusal = "max_cores: should be 1 or more"
    code, output = register(services, tmp_path)
    assert code == 2 and "the scheduler refused: max_cores: should be 1 or more" in output


def test_check_reports_registration_before_credential_exists(services: Services, tmp_path: Path) -> None:
    code, output = register(services, tmp_path, "--check", region_credential_pending=True)
    assert code == 0, output
    assert "Group atlas gets region-x" in output and "changed=1" in output and not services.puts
