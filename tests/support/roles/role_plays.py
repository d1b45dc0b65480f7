"""Runs one task file of a role on this machine with maximum verbosity, so that its output can be searched for secrets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: "hep.distcloud.%s", tasks_from: "%s"}
"""


def play(folder: Path, role: str, tasks: str, variables: Mapping[str, Any], *arguments: str) -> tuple[int, str]:
    """Return exit code and output. Fake services listen on 127.0.0.1; `folder` may have a clouds.yaml."""
    (folder / "variables.yml").write_text(yaml.safe_dump({**variables, "ansible_python_interpreter": sys.executable}))
    (folder / "play.yml").write_text(PLAYBOOK % (role, tasks))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-vvv", "--diff", "-i", "localhost,", "-c", "local", *arguments]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "no_proxy": "127.0.0.1"}
    environment["OS_CLIENT_CONFIG_FILE"] = str(folder / "clouds.yaml")
    full = [*command, "-e", f"@{folder}/variables.yml", str(folder / "play.yml")]
    done = subprocess.run(full, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr
