"""The map of groups (playbooks/vars/groups.yml) agrees with playbooks, roles and inventories, and an empty group breaks no playbook."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PLAYBOOKS = ROOT / "playbooks"
# Playbooks of `site` that deploy no group of their own.
OTHER_STEPS = ["validate", "clouds", "demo", "status"]
COMING = {
    "message_brokers",
    "shoal_servers",
    "caches",
    "cvmfs_clients",
    "glint_servers",
    "ugr_servers",
    "storage_endpoints",
    "rundeck_servers",
}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


GROUPS: dict[str, dict[str, Any]] = load(PLAYBOOKS / "vars" / "groups.yml")["site_groups"]
COMMON: dict[str, None] = load(ROOT / "inventories" / "common" / "hosts.yml")["all"]["children"]


def hosts_of(playbook: str) -> set[str]:
    return {name for play in load(PLAYBOOKS / f"{playbook}.yml") for name in str(play.get("hosts", "")).split(":")}


def test_common_inventory_defines_every_group_without_hosts() -> None:
    assert set(COMMON) == set(GROUPS) | COMING
    assert not any(COMMON.values())


@pytest.mark.parametrize("group", GROUPS)
def test_map_entry_names_existing_parts(group: str) -> None:
    entry = GROUPS[group]
    assert group in hosts_of(entry["playbook"]), f"playbook {entry['playbook']} has no play for {group}"
    assert all((ROOT / "roles" / role / "meta" / "argument_specs.yml").is_file() for role in entry["roles"])
    assert entry["hosts"] in ("one", "many") and isinstance(entry["required"], bool)
    assert "report" not in entry or (ROOT / "roles" / "site_report" / "tasks" / f"{entry['report']}.yml").is_file()


@pytest.mark.parametrize("group", GROUPS)
def test_group_of_an_engine_lists_role_engine(group: str) -> None:
    """So that `validate` checks the engine's options of the host."""
    roles = GROUPS[group]["roles"]
    texts = [path.read_text("utf-8") for role in roles for path in (ROOT / "roles" / role / "tasks").glob("*.yml")]
    assert ("engine" in roles) == any("name: hep.distcloud.engine" in text for text in texts)


def test_site_imports_the_playbook_of_every_group() -> None:
    imported = [
        Path(play["ansible.builtin.import_playbook"]).stem for play in load(PLAYBOOKS / "site.yml") if len(play.keys() & {"hosts"}) == 0
    ]
    assert sorted(imported) == sorted({entry["playbook"] for entry in GROUPS.values()} | set(OTHER_STEPS))


@pytest.mark.parametrize(
    "playbook", sorted({*(entry["playbook"] for entry in GROUPS.values()), "clouds", "demo", "add_region", "rotate_credentials"})
)
def test_playbook_skips_empty_groups(playbook: str) -> None:
    command = [str(BIN / "ansible-playbook"), "-i", str(ROOT / "inventories" / "common"), str(PLAYBOOKS / f"{playbook}.yml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search(r"(changed|failed|unreachable)=[1-9]", done.stdout), done.stdout
    assert "Could not match supplied host pattern" not in done.stderr


def test_molecule_hosts_have_unique_addresses_in_their_range() -> None:
    texts = [path.read_text("utf-8") for path in (ROOT / "molecule").glob("*/inventory/hosts.yml")]
    numbers = [int(number) for text in texts for number in re.findall(r'ansible_host: "{{ lab_prefix }}\.(\d+)"', text)]
    assert numbers and all(20 <= number <= 79 for number in numbers)
    assert not [number for number, count in Counter(numbers).items() if count > 1]
