# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inventory plugin workers against a replayed API: hosts, groups, pages, filters, cache and errors."""

from __future__ import annotations

import typing as t
from pathlib import Path
from urllib.error import URLError

import pytest
import yaml
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader
from api_replay import Call, problem, replay

BASE = "https://central.example.org:8443"
CONFIG = {"plugin": "hep.distcloud.workers", "api_url": BASE + "/", "api_token": "a-token"}
PATH = "/v1/vms?limit=1000"


def vm(number: int, **fields: t.Any) -> dict[str, t.Any]:
    found = {"id": f"vm-{number}", "group": "atlas", "cloud": "site-a", "region": "Region.1", "flavor": "m1.large", "state": "idle"}
    return {**found, "resources": {"cores": 8, "ram_mib": 16000, "disk_gib": 40}, **fields}


def page(*vms: dict[str, t.Any], cursor: str | None = None) -> dict[str, t.Any]:
    return {"vms": list(vms), "cursor": cursor}


def parse(folder: Path, *calls: Call, **config: t.Any) -> InventoryData:
    path = folder / "test.workers.yml"
    path.write_text(yaml.safe_dump({key: value for key, value in {**CONFIG, **config}.items() if value is not None}))
    plugin = inventory_loader.get("hep.distcloud.workers")
    assert plugin.verify_file(str(path))
    inventory = InventoryData()
    with replay(*calls, base=BASE, token=config.get("api_token") or "a-token"):
        plugin.parse(inventory, DataLoader(), str(path))
        if config.get("cache"):
            plugin.update_cache_if_changed()
    return inventory


def groups_of(inventory: InventoryData, host: str) -> set[str]:
    return {group.name for group in inventory.hosts[host].get_groups()} - {"all", "ungrouped"}


def test_hosts_have_variables_and_groups(tmp_path):
    inventory = parse(tmp_path, Call("GET", PATH, page(vm(1), vm(2, state="running", cloud="b"))))
    assert set(inventory.hosts) == {"vm-1", "vm-2"}
    assert groups_of(inventory, "vm-1") == {"cloud_atlas_site_a", "region_Region_1", "state_idle"}
    assert groups_of(inventory, "vm-2") == {"cloud_atlas_b", "region_Region_1", "state_running"}
    variables = inventory.hosts["vm-1"].get_vars()
    assert variables["vm_flavor"] == "m1.large" and variables["vm_resources"]["cores"] == 8
    assert "ansible_host" not in variables


def test_address_becomes_ansible_host(tmp_path):
    inventory = parse(tmp_path, Call("GET", PATH, page(vm(1, address="192.0.2.7"))), group_by=[])
    assert inventory.hosts["vm-1"].get_vars()["ansible_host"] == "192.0.2.7"
    assert groups_of(inventory, "vm-1") == set()


def test_all_pages_are_read(tmp_path):
    second = Call("GET", "/v1/vms?cursor=next%7C1&limit=1000", page(vm(2)))
    inventory = parse(tmp_path, Call("GET", PATH, page(vm(1), cursor="next|1")), second)
    assert set(inventory.hosts) == {"vm-1", "vm-2"}


def test_filters_go_into_the_query(tmp_path):
    call = Call("GET", PATH + "&state=idle&state=running&cloud=b", page(vm(1)))
    assert set(parse(tmp_path, call, states=["idle", "running"], cloud="b").hosts) == {"vm-1"}


def test_constructed_options_see_the_variables(tmp_path):
    options = {
        "compose": {"cores": "vm_resources.cores"},
        "groups": {"big": "vm_resources.cores > 4"},
        "keyed_groups": [{"key": "vm_flavor", "prefix": "flavor", "separator": "_"}],
        "group_by": [],
        "strict": True,
    }
    inventory = parse(tmp_path, Call("GET", PATH, page(vm(1, flavor="large"))), **options)
    assert inventory.hosts["vm-1"].get_vars()["cores"] == 8
    assert groups_of(inventory, "vm-1") == {"big", "flavor_large"}


def test_token_comes_from_a_file(tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.write_text("a-token\n")
    assert parse(tmp_path, Call("GET", PATH, page(vm(1))), api_token=None, token_file=str(token)).hosts
    monkeypatch.setenv("DISTCLOUD_SCHEDULER_TOKEN_FILE", str(token))
    monkeypatch.setenv("DISTCLOUD_SCHEDULER_URL", BASE)
    assert parse(tmp_path, Call("GET", PATH, page(vm(1))), api_token=None, api_url=None).hosts


def test_cache_is_used_until_it_is_refreshed(tmp_path):
    options = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(tmp_path / "cache")}

    def call(number: int) -> Call:
        return Call("GET", PATH, page(vm(number)))

    def run(*calls: Call, use: bool = True) -> set[str]:
        path = tmp_path / "test.workers.yml"
        path.write_text(yaml.safe_dump({**CONFIG, **options}))
        plugin = inventory_loader.get("hep.distcloud.workers")
        inventory = InventoryData()
        with replay(*calls, base=BASE):
            plugin.parse(inventory, DataLoader(), str(path), cache=use)
            plugin.update_cache_if_changed()
        return set(inventory.hosts)

    assert run(call(1)) == {"vm-1"}
    assert run() == {"vm-1"}
    assert run(call(2), use=False) == {"vm-2"}
    assert run() == {"vm-2"}


@pytest.mark.parametrize(
    ("change", "query"),
    [({"states": ["running"]}, "&state=running"), ({"cloud": "b"}, "&cloud=b"), ({"api_url": BASE}, ""), ({"api_token": "another"}, "")],
)
def test_changed_option_is_not_served_from_the_cache(tmp_path, change, query):
    options = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(tmp_path / "cache")}
    assert set(parse(tmp_path, Call("GET", PATH, page(vm(1))), **options).hosts) == {"vm-1"}
    assert set(parse(tmp_path, **options).hosts) == {"vm-1"}
    assert set(parse(tmp_path, Call("GET", PATH + query, page(vm(2))), **options, **change).hosts) == {"vm-2"}
    assert not any("another" in path.name for path in (tmp_path / "cache").iterdir())


@pytest.mark.parametrize("answer", [{}, [], {"vms": None}, {"vms": ["vm-1"]}, {"vms": [{"id": "vm-1"}]}, 7, None])
def test_other_json_is_an_error_with_the_url(tmp_path, answer):
    with pytest.raises(AnsibleParserError, match=f"GET {BASE}/v1/vms: the response is not a list of VMs; check that api_url"):
        parse(tmp_path, Call("GET", PATH, answer))


@pytest.mark.parametrize(
    ("calls", "config", "message"),
    [
        ([], {"api_token": None}, "api_token: missing; set it or token_file"),
        ([], {"api_token": None, "token_file": "/nowhere/token"}, "token_file: /nowhere/token cannot be read"),
        ([], {"api_url": "central:8443"}, "api_url: should be an http or https URL"),
        (
            [Call("GET", PATH, problem(401, "unauthorized", "unknown token"), status=401)],
            {},
            "the scheduler refused: unknown token",
        ),
        ([Call("GET", PATH, URLError(ConnectionRefusedError()))], {}, "connection refused; check that it is running"),
        ([], {"states": ["asleep"]}, "asleep"),
    ],
)
def test_errors_name_the_option_or_the_reason(tmp_path, calls, config, message):
    with pytest.raises(Exception, match=message) as caught:
        parse(tmp_path, *calls, **config)
    assert isinstance(caught.value, AnsibleParserError) or "states" in str(caught.value)


@pytest.mark.parametrize(("name", "accepted"), [("workers.yml", True), ("my.workers.yaml", True), ("hosts.yml", False)])
def test_other_file_names_are_rejected(tmp_path, name, accepted):
    (tmp_path / name).write_text("plugin: hep.distcloud.workers\n")
    assert inventory_loader.get("hep.distcloud.workers").verify_file(str(tmp_path / name)) is accepted
