"""Configuration files: every mistake is told with file, key and what was expected, and never with the value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from distcloud.common.config import ConfigError, ServiceSettings, check, is_loopback, load
from distcloud.scheduler.settings import SchedulerSettings, load_settings

GOOD: dict[str, Any] = {
    "listen": {"port": 8443},
    "pool": {"collector": "central", "schedds": ["central"], "domain": "distcloud.lab"},
    "condor_host": "central",
}
DIGEST = "a" * 64


def write(folder: Path, text: str) -> Path:
    path = folder / "scheduler.yml"
    path.write_text(text)
    return path


def test_the_smallest_file_takes_all_defaults(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, yaml.safe_dump(GOOD)))
    assert settings.listen.host == "127.0.0.1"
    assert settings.cycle_seconds == 5
    assert settings.database.url.startswith("sqlite:////")
    assert settings.policy.drain_timeout == 43200


def test_the_policy_is_laid_over_the_planners_own() -> None:
    settings = check({**GOOD, "policy": {"registration_timeout": 900, "create_settle": 7}}, SchedulerSettings, "f")
    assert (settings.policy.registration_timeout, settings.policy.create_settle) == (900, 7)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"listen": {}}, "f: listen.port: is required and missing"),
        ({"listen": {"port": "x"}}, "f: listen.port: should be a valid integer"),
        ({"listen": {"port": 70000}}, "f: listen.port: should be less than or equal to 65535"),
        ({"listen": {"port": 1, "host": "0.0.0.0"}}, "f: listen: listening beyond loopback needs tls_certificate"),
        ({"listen": {"port": 1, "tls_key": "k"}}, "f: listen: give tls_certificate and tls_key together"),
        ({"lisen": {}}, "f: lisen: is not a known key"),
        ({"create_settle": 7}, "f: create_settle: is not a known key"),
        ({"policy": {"drain_timeot": 1}}, "f: policy: drain_timeot: not a known key; known are"),
        ({"policy": {"drain_timeout": "long"}}, "f: policy.drain_timeout: should be a valid integer"),
        ({"policy": {"drain_timeout": -1}}, "f: policy: drain_timeout: should be 0 or more"),
        ({"policy": {"max_vm_age": 60}}, "f: (top): policy.max_vm_age should be greater than policy.drain_timeout"),
        ({"database": {"url": "mysql://x"}}, "f: database.url: should begin with sqlite:///"),
        ({"tokens": [{"name": "a", "scope": "root", "sha256": DIGEST}]}, "f: tokens[0].scope: should be 'viewer'"),
        ({"tokens": [{"name": "a", "scope": "viewer", "sha256": "unmistakable"}]}, "f: tokens[0].sha256:"),
        ({"tokens": [{"name": "a", "scope": "group_admin", "sha256": DIGEST}]}, "f: tokens[0]: a token of scope group_admin names"),
        ({"tokens": [{"name": n, "scope": "viewer", "sha256": DIGEST} for n in "ab"]}, "f: (top): two tokens have the same sha256"),
    ],
)
def test_a_mistake_is_told_by_its_key(change: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check({**GOOD, **change}, SchedulerSettings, "f")
    assert line in str(caught.value)
    assert "unmistakable" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2\n", "line 2, column 1: key 'a' is given twice"),
        ("a: [", "is not valid YAML: line"),
        ("- a", "expected a mapping of keys at the top, found a list"),
        ("", "found nothing"),
        ("!!python/object/apply:os.system [true]", "is not valid YAML"),
        ("[" * 3000, "is not valid YAML"),
    ],
)
def test_a_file_that_is_not_such_a_file(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path, ServiceSettings)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)


def test_a_missing_file_and_one_that_is_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path / "none.yml", ServiceSettings)
    (tmp_path / "binary.yml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "binary.yml", ServiceSettings)


@pytest.mark.parametrize(
    ("host", "answer"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("central", False)],
)
def test_what_counts_as_loopback(host: str, answer: bool) -> None:
    assert is_loopback(host) is answer
