"""Renders a role's templates as Ansible does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# In a process of its own: what is loaded for templates makes a controller of the process, in which modules no longer tell their warnings.
RENDER = """
import json, sys
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
init_plugin_loader()
wish = json.load(sys.stdin)
known = {**wish["variables"], **{name: trust_as_template(text) for name, text in wish["templates"].items()}}
print(json.dumps(Templar(DataLoader(), variables=known).template(trust_as_template(wish["text"]))))
"""


def render(text: str, variables: Mapping[str, Any], templates: Mapping[str, str] | None = None) -> Any:
    """What a text comes to with those variables, of which `templates` are templates themselves."""
    wish = json.dumps({"text": text, "variables": variables, "templates": templates or {}})
    done = subprocess.run([sys.executable, "-c", RENDER], cwd=ROOT, input=wish, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
