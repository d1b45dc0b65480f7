"""Configuration files: every error names file, key and what was expected, and never the value."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from distcloud.common.config import ConfigError, EngineSettings, Scope, ServiceSettings, check, config_path, is_loopback, load

GOOD: dict[str, Any] = {"listen": {"port": 8443}}
DIGEST = "a" * 64


class DemoSettings(EngineSettings):
    """An engine's settings."""

    ENGINE: ClassVar[str] = "demo"
    SCOPES: ClassVar[tuple[Scope, ...]] = (Scope("viewer", "optional"), Scope("operator", "required"), Scope("admin"))


def write(folder: Path, text: str) -> Path:
    path = folder / "demo.yml"
    path.write_text(text)
    return path


def test_engine_paths_default_to_its_name() -> None:
    settings = check(GOOD, DemoSettings, "f")
    assert settings.listen.host == "127.0.0.1"
    assert settings.cycle_seconds == 5
    assert settings.database.url == "sqlite:////var/lib/distcloud/demo/demo.db"
    assert settings.state_directory == Path("/var/lib/distcloud/demo")
    assert settings.encryption_key_file == Path("/etc/distcloud/demo/encryption.key")
    assert config_path("demo") == Path("/etc/distcloud/demo/demo.yml")
    assert check({**GOOD, "state_directory": "/srv/demo"}, DemoSettings, "f").database.url == "sqlite:////srv/demo/demo.db"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"listen": {}}, "f: listen.port: is required and missing"),
        ({"listen": {"port": "x"}}, "f: listen.port: should be a valid integer"),
        ({"listen": {"port": 70000}}, "f: listen.port: should be less than or equal to 65535"),
        ({"listen": {"port": 1, "host": "0.0.0.0"}}, "f: listen: listening beyond loopback needs tls_certificate"),
        ({"listen": {"port": 1, "tls_key": "k"}}, "f: listen: give tls_certificate and tls_key together"),
        ({"lisen": {}}, "f: lisen: is not a known key"),
        ({"database": {"url": "mysql://x"}}, "f: database.url: should begin with sqlite:///"),
        ({"cycle_seconds": 0}, "f: cycle_seconds: should be greater than or equal to 0.1"),
        ({"tokens": [{"name": "a", "scope": "root", "sha256": DIGEST}]}, "f: tokens[0].scope: should be one of viewer, operator, admin"),
        ({"tokens": [{"name": "a", "scope": "viewer", "sha256": "unmistakable"}]}, "f: tokens[0].sha256:"),
        ({"tokens": [{"name": "a", "scope": "operator", "sha256": DIGEST}]}, "f: tokens[0].groups: is required for a token of scope"),
        (
            {"tokens": [{"name": "a", "scope": "admin", "groups": ["unmistakable"], "sha256": DIGEST}]},
            "f: tokens[0].groups: a token of scope admin is not bound to groups",
        ),
        ({"tokens": [{"name": n, "scope": "viewer", "sha256": DIGEST} for n in "ab"]}, "f: (top): two tokens have the same sha256"),
    ],
)
def test_error_names_the_key(change: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check({**GOOD, **change}, DemoSettings, "f")
    assert line in str(caught.value)
    assert "unmistakable" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2\n", "line 2, column 1: key 'a' is given twice"),
        ("a: [", "not valid YAML: line"),
        ("- a", "expected a mapping of keys at the top, found a list"),
        ("", "found nothing"),
        ("!!python/object/apply:os.system [true]", "not valid YAML"),
        ("[" * 3000, "not valid YAML"),
        ("x: 2026-13-45", "does not fit its type"),
        ('x: !!int ""', "does not fit its type"),
        ("x: !!timestamp a", "does not fit its type"),
        ("x: !!bool a", "does not fit its type"),
        ("x: !!float topsecret", "does not fit its type"),
    ],
)
def test_malformed_file_is_rejected(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path, ServiceSettings)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)


def test_missing_or_binary_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "none.yml", ServiceSettings)
    (tmp_path / "binary.yml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "binary.yml", ServiceSettings)


@pytest.mark.parametrize(
    ("host", "answer"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("central", False)],
)
def test_loopback_addresses(host: str, answer: bool) -> None:
    assert is_loopback(host) is answer
