"""Runs one file of a role's tasks on this machine as loudly as can be, so that what it says can be searched for secrets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: "hep.distcloud.%s", tasks_from: "%s"}
"""


def play(folder: Path, role: str, tasks: str, wishes: Mapping[str, Any], *arguments: str) -> tuple[int, str]:
    """The exit code, and all that was said; `wishes` are the variables. Services play on 127.0.0.1, `folder` may have a clouds.yaml."""
    (folder / "wishes.yml").write_text(yaml.safe_dump({**wishes, "ansible_python_interpreter": sys.executable}))
    (folder / "play.yml").write_text(PLAYBOOK % (role, tasks))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-vvv", "--diff", "-i", "localhost,", "-c", "local", *arguments]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "no_proxy": "127.0.0.1"}
    environment["OS_CLIENT_CONFIG_FILE"] = str(folder / "clouds.yaml")
    full = [*command, "-e", f"@{folder}/wishes.yml", str(folder / "play.yml")]
    done = subprocess.run(full, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr
