"""The scheduler's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from distcloud.common.config import ConfigError, check, load
from distcloud.scheduler.settings import SchedulerSettings

GOOD: dict[str, Any] = {
    "listen": {"port": 8443},
    "pool": {"collector": "central", "schedds": ["central"], "domain": "distcloud.lab"},
    "condor_host": "central",
}
DIGEST = "a" * 64


def test_smallest_file_takes_all_defaults(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.yml"
    path.write_text(yaml.safe_dump(GOOD))
    settings = load(path, SchedulerSettings)
    assert settings.cycle_seconds == 5
    assert settings.database.url == "sqlite:////var/lib/distcloud/scheduler/scheduler.db"
    assert settings.encryption_key_file == Path("/etc/distcloud/scheduler/encryption.key")
    assert settings.policy.drain_timeout == 43200


def test_policy_overrides_the_planners_defaults() -> None:
    settings = check({**GOOD, "policy": {"registration_timeout": 900, "create_settle": 7}}, SchedulerSettings, "f")
    assert (settings.policy.registration_timeout, settings.policy.create_settle) == (900, 7)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"create_settle": 7}, "f: create_settle: is not a known key"),
        ({"policy": {"drain_timeot": 1}}, "f: policy: drain_timeot: not a known key; known are"),
        ({"policy": {"drain_timeout": "long"}}, "f: policy.drain_timeout: should be a valid integer"),
        ({"policy": {"drain_timeout": -1}}, "f: policy: drain_timeout: should be 0 or more"),
        ({"policy": {"max_vm_age": 60}}, "f: (top): policy.max_vm_age should be greater than policy.drain_timeout"),
        (
            {"tokens": [{"name": "a", "scope": "root", "sha256": DIGEST}]},
            "f: tokens[0].scope: should be one of viewer, group_admin, cloud_admin",
        ),
        ({"tokens": [{"name": "a", "scope": "group_admin", "sha256": DIGEST}]}, "f: tokens[0].groups: is required"),
    ],
)
def test_error_names_the_key(change: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check({**GOOD, **change}, SchedulerSettings, "f")
    assert line in str(caught.value)
