"""The secrets of a site, and the texts in which an output could show them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import yaml

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


def forms(secrets: Mapping[str, str]) -> dict[str, str]:
    """Text -> where the secret is kept: each value plain, in JSON, in a URL, and in base64, also as a part of a longer text."""
    return {text: name for value, name in secrets.items() for text in _forms(value) if len(text) >= SHORTEST}


def shown(output: str, secrets: Mapping[str, str]) -> list[str]:
    """Where the secrets are kept that an output shows in any form."""
    return sorted({name for text, name in forms(secrets).items() if text in output})


def _forms(value: str) -> set[str]:
    raw = value.encode()
    found = {value, json.dumps(value)[1:-1], quote(value, safe="")}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for offset in range(3):
            # Without the characters that depend on what is before and after the value.
            text = encode(b"\0" * offset + raw).decode().rstrip("=")
            found.add(text[(offset * 8 + 5) // 6 : len(text) if (offset + len(raw)) % 3 == 0 else -1])
    return found


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, name)
    elif isinstance(value, str):
        yield name, value
