"""The example inventory of a real site, filled in as an admin would do it: with a clouds.yaml, and tokens in a vault."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
EXAMPLE = ROOT / "inventories" / "example"


class Site:
    """A filled-in copy of the example, with clouds.yaml, and tokens in a vault file."""

    def __init__(
        self, home: Path, example: Path = EXAMPLE, environment: Mapping[str, str] | None = None, playbook: str = "playbooks/validate.yml"
    ) -> None:
        """`home` is the admin's home directory; by default the example and the playbook are those of the checkout."""
        self.home = home
        self.playbook = playbook
        self.inventory = home / "inventory"
        self.state = home / "distcloud" / "example"
        self.environment = {
            "HOME": str(home),
            "PATH": f"{BIN}:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            **(environment or {}),
        }
        shutil.copytree(example, self.inventory)
        self.inventories = ["-i", str(example.parent / "common"), "-i", str(self.inventory)]
        self.state.mkdir(mode=0o700, parents=True)
        names = {"cloud-one-admin": "https://keystone.one.example.org:5000/v3", "cloud-two": "https://keystone.two.example.org:5000/v3"}
        self.write_clouds({"clouds": {name: {"auth": {"auth_url": url}} for name, url in names.items()}})
        (home / "password").write_text(secrets.token_hex(16))
        self.vault = self.inventory / "group_vars" / "all" / "vault.yml"
        tokens = {f"distcloud_vault_{name}_token": secrets.token_urlsafe(32) for name in ("admin", "groups", "viewer")}
        self.tokens = list(tokens.values())
        self.vault.write_text(yaml.safe_dump(tokens))
        self.run("ansible-vault", "encrypt", "--vault-password-file", str(home / "password"), str(self.vault))

    def write_clouds(self, content: Any) -> None:
        path = self.state / "clouds.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        path.chmod(0o600)

    def variable(self, place: str, **values: Any) -> None:
        folder = self.inventory / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "zz-test.yml").write_text(yaml.safe_dump(values))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        folder = ROOT if self.playbook.startswith("playbooks/") else self.home
        return subprocess.run(
            [str(BIN / command[0]), *command[1:]], cwd=folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def validate(self) -> tuple[int, str]:
        """Return exit code and output without its line breaks."""
        password = str(self.home / "password")
        options = [*self.inventories, "--vault-password-file", password, "--skip-tags", "validate_hosts"]
        done = self.run("ansible-playbook", *options, self.playbook)
        output = done.stdout + done.stderr
        assert not [token for token in self.tokens if token in output]
        return done.returncode, " ".join(output.split())
