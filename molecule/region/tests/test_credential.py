"""What the scheduler's application credential may do in a region, and what it may not; its loss and its rotation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from keystoneauth1 import exceptions, session
from keystoneauth1.identity import v3

REGIONS = ("region-m", "region-n")
NOTHING = "00000000-0000-0000-0000-000000000000"


class Calls:
    """What an application credential gets as answer."""

    def __init__(self, credential: dict[str, Any]) -> None:
        names = ("auth_url", "application_credential_id", "application_credential_secret")
        self.session = session.Session(auth=v3.ApplicationCredential(**{name: credential[name] for name in names}), timeout=30)
        self.region = credential["region_name"]

    def status(self, service: str, method: str, path: str, body: Any = None) -> int:
        """The status of a call to a path under the root of a service."""
        base = self.session.get_endpoint(service_type=service, interface="public", region_name=self.region)
        root = "/".join(base.split("/")[:3])
        # A service that refuses a call before it has read the body may cut the connection after the status line: no more than that is read.
        answer = self.session.request(root + path, method, json=body, raise_exc=False, allow_reauth=False, connect_retries=4, stream=True)
        return int(answer.status_code)


@pytest.mark.parametrize("region", REGIONS)
def test_credential_allows_what_the_driver_needs(credential, region):
    assert credential(region)["with_access_rules"] is True
    calls = Calls(credential(region))
    for service, path in (
        ("compute", "/v2.1/servers/detail"),
        ("compute", "/v2.1/flavors/detail"),
        ("compute", "/v2.1/limits"),
        ("image", "/v2/images"),
        ("network", "/v2.0/networks"),
        ("network", "/v2.0/ports"),
    ):
        assert calls.status(service, "GET", path) == 200, path
    # What does not exist is not found, rather than refused: the rule lets the call through.
    assert calls.status("compute", "GET", f"/v2.1/servers/{NOTHING}") == 404
    assert calls.status("compute", "DELETE", f"/v2.1/servers/{NOTHING}") == 404
    assert calls.status("compute", "POST", "/v2.1/servers", {}) == 400
    assert calls.status("network", "DELETE", f"/v2.0/ports/{NOTHING}") == 404


@pytest.mark.security
@pytest.mark.parametrize("region", REGIONS)
def test_credential_allows_nothing_else(account, credential, region):
    calls = Calls(credential(region))
    user = f"/v3/users/{credential(region)['user_id']}"
    for service, method, path, body in (
        ("identity", "GET", "/v3/users", None),
        ("identity", "GET", "/v3/projects", None),
        ("identity", "POST", "/v3/users", {"user": {"name": "evil"}}),
        ("identity", "PATCH", user, {"user": {"description": "evil"}}),
        ("identity", "POST", user + "/application_credentials", {"application_credential": {"name": "evil"}}),
        ("image", "POST", "/v2/images", {"name": "evil", "disk_format": "raw", "container_format": "bare"}),
        ("compute", "POST", "/v2.1/os-keypairs", {"keypair": {"name": "evil"}}),
        ("compute", "POST", "/v2.1/flavors", {"flavor": {"name": "evil"}}),
        ("compute", "GET", "/v2.1/os-hypervisors", None),
        ("network", "POST", "/v2.0/networks", {"network": {"name": "evil"}}),
        ("network", "POST", "/v2.0/security-groups", {"security_group": {"name": "evil"}}),
        ("network", "GET", "/v2.0/security-groups", None),
    ):
        assert calls.status(service, method, path, body) in (401, 403), (method, path)
    # Other projects: the admin's flag does not help, and no token of another scope is given out.
    assert calls.status("compute", "GET", "/v2.1/servers/detail?all_tenants=1") in (401, 403)
    other = account(f"{region}-admin").identity.find_project("admin").id
    scope = {"auth": {"identity": {"methods": ["token"], "token": {"id": calls.session.get_token()}}, "scope": {"project": {"id": other}}}}
    answer = calls.session.post(credential(region)["auth_url"] + "/auth/tokens", json=scope, raise_exc=False, authenticated=False)
    assert answer.status_code in (401, 403, 404) and "X-Subject-Token" not in answer.headers


def test_rotation_replaces_a_lost_credential(playbook, state, credential):
    """A secret is shown only once: setup never replaces it, a rotation does, and the old credential is invalid afterwards."""
    old = credential("region-n")
    path = state / "credentials" / "region-n-scheduler.yml"
    path.unlink()
    refused = playbook("regions").run("--limit=region-n")
    assert "rotate_credentials" in refused.failures["region-n"] and not path.exists()
    predicted = playbook("rotate_credentials").run("--check", "--limit=region-n")
    rotated = playbook("rotate_credentials").run("--limit=region-n")
    assert not predicted.failures and not rotated.failures
    assert (
        predicted.changed
        == rotated.changed
        == ["region-n: Create a new credential beside the old one", "region-n: Remove the old credential"]
    )
    new = credential("region-n")
    assert new["generation"] > old["generation"] and path.stat().st_mode & 0o077 == 0
    assert Calls(new).status("compute", "GET", "/v2.1/limits") == 200
    with pytest.raises((exceptions.NotFound, exceptions.Unauthorized)):
        Calls(old).session.get_token()
    assert new["application_credential_secret"] not in json.dumps([str(change) + change.diff for change in rotated.changes])
