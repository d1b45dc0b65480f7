"""Roles lab_openstack and region: diffs of clouds.yaml entries are readable and contain no old or new secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from role_plays import play

SECRETS = {"the-old-password", "the-new-password", "the-admins-password"}
NOWHERE = "http://127.0.0.1:1/v3"


def entry(password: str, **auth: str) -> dict[str, Any]:
    return {"auth": {"auth_url": NOWHERE, "username": "u", "password": password, **auth}, "region_name": "before"}


@pytest.mark.parametrize("arguments", [(), ("--check",)])
@pytest.mark.parametrize(
    ("role", "tasks", "code"),
    # The tasks after the entry query a region that does not exist.
    [("lab_openstack", "access", 0), ("region", "present", 2)],
)
def test_diff_hides_secrets(tmp_path: Path, role: str, tasks: str, code: int, arguments: tuple[str, ...]) -> None:
    path = tmp_path / "clouds.yaml"
    path.write_text(yaml.safe_dump({"clouds": {"x": entry("the-old-password"), "x-admin": entry("the-admins-password")}}))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "x-site").write_text("the-new-password\n")
    variables = {
        "lab_openstack_region": "after",
        "lab_openstack_address": "192.0.2.1",
        "lab_openstack_cloud": "x",
        "lab_openstack_state_dir": str(tmp_path),
        "__lab_openstack_secrets": {"admin": "the-new-password"},
        "region_name": "x",
        "region_cloud": "x",
        "region_admin_cloud": "x-admin",
        "region_user": "site",
        "region_site": "my-site",
        "region_clouds_yaml": str(path),
        "region_state_dir": str(tmp_path),
    }
    ended, output = play(tmp_path, role, tasks, variables, *arguments)
    assert ended == code, output
    assert not [secret for secret in SECRETS if secret in output]
    differences = [line[1:].split() for line in output.splitlines() if line[:1] in ("-", "+")]
    assert ["username:", "u"] in differences, output
    assert (yaml.safe_load(path.read_text())["clouds"]["x"]["auth"]["password"] == "the-new-password") == (not arguments)
