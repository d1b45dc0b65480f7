"""Renders a role's templates as Ansible does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
# In a child process: loading template plugins turns the process into a controller, in which modules no longer report their warnings.
RENDER = """
import json, sys
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
init_plugin_loader()
request = json.load(sys.stdin)
known = {**request["variables"], **{name: trust_as_template(text) for name, text in request["templates"].items()}}
print(json.dumps(Templar(DataLoader(), variables=known).template(trust_as_template(request["text"]))))
"""


def render(text: str, variables: Mapping[str, Any], templates: Mapping[str, str] | None = None) -> Any:
    """Return the rendered text; values of `templates` are rendered as templates, values of `variables` are not."""
    request = json.dumps({"text": text, "variables": variables, "templates": templates or {}})
    done = subprocess.run([sys.executable, "-c", RENDER], cwd=ROOT, input=request, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
