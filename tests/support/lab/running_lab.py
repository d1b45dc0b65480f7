"""One running lab: its hosts by SSH, its regions by openstacksdk, its scheduler by REST."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lab_access import connection, wait

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
T = TypeVar("T")


class Lab:
    """One running lab, as its inventory describes it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.environment = os.environ | {"DISTCLOUD_LAB": name, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(
            [BIN / "ansible-inventory", "--list"], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=True
        )
        self.inventory: dict[str, Any] = json.loads(done.stdout)
        home = Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local" / "state"))
        self.state = home / "distcloud" / f"lab-{name}"

    def hostvars(self, host: str) -> dict[str, Any]:
        found: dict[str, Any] = self.inventory["_meta"]["hostvars"][host]
        return found

    def address(self, host: str) -> str:
        """The address of a lab host; `ansible-inventory` does not template the lab's prefix in it."""
        network = os.environ.get("DISTCLOUD_LAB_NETWORK", "10.203.0.0/24")
        return str(self.hostvars(host)["ansible_host"]).replace("{{ lab_prefix }}", network.rpartition(".")[0])

    def run(self, host: str, command: str, *, user: str | None = None, check: bool = True, timeout: float = 120, stdin: str = "") -> str:
        """Run a shell command on a lab host; returns its standard output."""
        address = self.address(host)
        full = command if user is None else f"runuser -u {user} -- sh -c {_quote(command)}"
        ssh = ["ssh", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={self.state}/ssh/known_hosts", "-i", f"{self.state}/ssh/id_ed25519"]
        done = subprocess.run([*ssh, f"root@{address}", full], input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise AssertionError(f"{host}: {command!r} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def json(self, host: str, command: str) -> Any:
        text = self.run(host, command)
        return json.loads(text) if text.strip() else []

    def playbook(self, *arguments: str, check: bool = True, timeout: float = 1800) -> str:
        """Run a playbook of the checkout on this lab; returns its output."""
        command = [BIN / "ansible-playbook", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise AssertionError(f"{arguments} ended with {done.returncode}:\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}")
        return done.stdout

    def cloud(self, entry: str) -> Any:
        """A connection of openstacksdk for an entry of the site's clouds.yaml."""
        return connection(self.state / "clouds.yaml", entry)

    def api(self, method: str, path: str, body: Any = None, token: str = "scheduler_token_admin") -> tuple[int, Any]:
        """Call the scheduler's REST API; returns status and decoded body."""
        address = self.address(self.inventory["schedulers"]["hosts"][0])
        secret = (self.state / "secrets" / token).read_text("utf-8").strip()
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"https://{address}:8443{path}", data=data, method=method, headers=headers)
        context = ssl.create_default_context(cafile=str(self.state / "ca" / "ca.pem"))
        try:
            with urllib.request.urlopen(request, timeout=60, context=context) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text else None

    def wait(self, what: str, probe: Callable[[], T], seconds: float = 300, pause: float = 2) -> T:
        from keystoneauth1.exceptions import ClientException
        from openstack.exceptions import SDKException

        def asked() -> T:
            try:
                return probe()
            except (ClientException, SDKException) as error:  # an unreachable region gives no result
                raise AssertionError(error) from error

        return wait(what, asked, seconds, pause)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
