"""An ordinary user with passwordless sudo brings up a lab host from a clone of their own, and takes it away.

Needs root, to make the user and to remove it afterwards.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
USER = "distcloudtest"
HOME = Path("/home") / USER
SUDOERS = Path("/etc/sudoers.d") / USER
INVENTORY = """
all:
  children:
    lab_hosts:
      hosts:
        solo: {ansible_host: "{{ lab_prefix }}.10"}
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a user")


def run(*command: str, check: bool = True, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert not check or done.returncode == 0, f"{command}:\n{done.stdout[-5000:]}\n{done.stderr[-2000:]}"
    return str(done.stdout)


class User:
    """Runs commands as the test user, with an environment of their own."""

    def __init__(self) -> None:
        self.checkout = HOME / "checkout"
        # How packages are reached is the machine's matter, not the caller's.
        outside = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.lower().endswith("_proxy")}
        self.environment = outside | {
            "HOME": str(HOME),
            "USER": USER,
            "LANG": "C.UTF-8",
            "PATH": f"{self.checkout}/.venv/bin:/usr/bin:/bin",
            "DISTCLOUD_LAB": "usertest",
            "DISTCLOUD_LAB_NETWORK": "10.207.0.0/24",
            "DISTCLOUD_LAB_BRIDGE": "dclabu0",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_HOME": str(HOME / ".ansible"),
        }

    def run(self, *command: str, check: bool = True) -> str:
        return run(
            "/usr/sbin/runuser",
            "-u",
            USER,
            "--",
            *command,
            check=check,
            cwd=self.checkout if self.checkout.exists() else HOME,
            env=self.environment,
        )

    def play(self, name: str, *arguments: str) -> str:
        return self.run(
            "ansible-playbook", "-i", str(HOME / "inventory"), f"playbooks/{name}.yml", "--skip-tags", "lab_regions", *arguments
        )


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    run("useradd", "--create-home", "--shell", "/bin/bash", USER)
    person = User()
    try:
        SUDOERS.write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
        SUDOERS.chmod(0o440)
        run("visudo", "-cf", str(SUDOERS))
        bundle = HOME / "distcloud.bundle"
        run("git", "-c", f"safe.directory={ROOT}", "bundle", "create", str(bundle), "HEAD", cwd=ROOT)
        run("chown", USER, str(bundle))
        person.run("git", "clone", "-q", str(bundle), str(person.checkout))
        person.run("make", ".venv/.ready")
        inventory = HOME / "inventory"
        person.run("mkdir", str(inventory))
        (inventory / "hosts.yml").write_text(INVENTORY)
        person.run("ln", "-s", str(person.checkout / "inventories/lab/group_vars"), str(inventory / "group_vars"))
        run("chown", "-R", USER, str(inventory))
        yield person
    finally:
        if (person.checkout / "playbooks").exists():
            person.play("lab_down")
        SUDOERS.unlink(missing_ok=True)
        run("userdel", "--remove", USER, check=False)


def test_ordinary_user_starts_a_host_from_a_clone(user: User) -> None:
    user.play("lab")
    assert "solo.distcloud.lab" in user.run(
        "ansible", "-i", str(HOME / "inventory"), "solo", "-m", "ansible.builtin.command", "-a", "hostname -f"
    )
    state = HOME / ".local/state/distcloud/lab-usertest"
    assert (state / "ssh/id_ed25519").stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o077 == 0
    assert run("find", str(HOME), "!", "-user", USER) == ""


def test_second_run_changes_nothing_for_ordinary_user(user: User) -> None:
    assert "changed=0" in user.play("lab").split("PLAY RECAP")[1]
    output = user.run(
        "ansible", "-i", str(HOME / "inventory"), "solo", "-u", "lab", "--become", "-m", "ansible.builtin.command", "-a", "id -un"
    )
    assert "root" in output


@pytest.mark.leak
def test_ordinary_user_removes_the_lab(user: User) -> None:
    user.play("lab_down")
    assert not Path("/var/lib/distcloud-lab/usertest").exists() and not Path("/sys/class/net/dclabu0").exists()
    assert not (HOME / ".local/state/distcloud").exists()
