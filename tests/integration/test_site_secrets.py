"""After a run, no secret of the site stands in a journal, a log or a process list of its hosts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from running_lab import Lab

# Patterns come on standard input, so that they are on no command line either.
SEARCH = """
exec 3<&0
{
  journalctl --quiet --no-pager --all --output=export
  find /var/log -type f -not -path '/var/log/journal/*' -exec cat {} +
  cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'
} </dev/null 2>/dev/null | grep --text --fixed-strings --only-matching --file=/dev/fd/3 | sort --unique
true
"""
SHORTEST = 12  # characters; shorter values are words


def secrets_of(state: Path) -> dict[str, str]:
    """Secret value -> where it is kept: the generated passwords and tokens, the private keys, and the regions' credentials."""
    found = {path.read_text("utf-8").strip(): path.name for path in (state / "secrets").iterdir() if path.is_file()}
    for path in state.rglob("*"):
        if path.is_file() and path.stat().st_size < 100_000 and b"PRIVATE KEY" in path.read_bytes():
            found |= {line: path.name for line in path.read_text("utf-8").splitlines()[1:-1] if len(line) > 40}
    for name, value in _leaves(yaml.safe_load((state / "clouds.yaml").read_text("utf-8"))):
        if re.search("password|secret", name):
            found[value] = f"clouds.yaml: {name}"
    return {value: name for value, name in found.items() if len(value) >= SHORTEST and "\n" not in value}


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, str(key))
    elif isinstance(value, str):
        yield name, value


@pytest.mark.security
def test_no_secret_is_logged_on_any_host(lab: Lab) -> None:
    secrets = secrets_of(lab.state)
    assert len(secrets) > 10, "the lab's state has fewer secrets than a site needs"
    seen = {}
    for host in [*lab.inventory["central_managers"]["hosts"], *lab.inventory["lab_regions"]["hosts"]]:
        lines = lab.run(host, SEARCH, stdin="\n".join(secrets) + "\n", timeout=300).splitlines()
        seen[host] = sorted({secrets[line] for line in lines})
    assert not any(seen.values()), seen
