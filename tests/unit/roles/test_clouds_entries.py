"""Roles lab_openstack and region: how an entry of clouds.yaml changes can be read, and no secret of it, old or new."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
SECRETS = {"the-old-password", "the-new-password", "the-admins-password"}
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: "hep.distcloud.%s", tasks_from: "%s"}
"""
NOWHERE = "http://127.0.0.1:1/v3"


def entry(password: str, **auth: str) -> dict[str, Any]:
    return {"auth": {"auth_url": NOWHERE, "username": "u", "password": password, **auth}, "region_name": "before"}


@pytest.mark.parametrize("arguments", [(), ("--check",)])
@pytest.mark.parametrize(
    ("role", "tasks", "code"),
    # What comes after the entry asks a region that is not there.
    [("lab_openstack", "access", 0), ("region", "present", 2)],
)
def test_the_difference_is_shown_without_secrets(tmp_path: Path, role: str, tasks: str, code: int, arguments: tuple[str, ...]) -> None:
    path = tmp_path / "clouds.yaml"
    path.write_text(yaml.safe_dump({"clouds": {"x": entry("the-old-password"), "x-admin": entry("the-admins-password")}}))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "x-site").write_text("the-new-password\n")
    wishes = {
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
        "ansible_python_interpreter": sys.executable,
    }
    (tmp_path / "wishes.yml").write_text(yaml.safe_dump(wishes))
    (tmp_path / "play.yml").write_text(PLAYBOOK % (role, tasks))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-vvv", "--diff", "-i", "localhost,", "-c", "local", *arguments]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "OS_CLIENT_CONFIG_FILE": str(path)}
    full = [*command, "-e", f"@{tmp_path}/wishes.yml", str(tmp_path / "play.yml")]
    done = subprocess.run(full, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert not [secret for secret in SECRETS if secret in said]
    differences = [line[1:].split() for line in said.splitlines() if line[:1] in ("-", "+")]
    assert ["username:", "u"] in differences, said
    assert (yaml.safe_load(path.read_text())["clouds"]["x"]["auth"]["password"] == "the-new-password") == (not arguments)
