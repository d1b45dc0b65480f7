# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module openstack_host_ready: an old heartbeat does not count, and what is missing is named."""

from __future__ import annotations

import datetime
import os
import time

import pytest
import requests_mock
from ansible_collections.hep.distcloud.plugins.modules import openstack_host_ready
from lab_access import is_gone
from module_harness import run_module

KEYSTONE = "http://keystone.test:5000/v3"
NOVA, NEUTRON, GLANCE, PLACEMENT = "http://nova.test/v2.1", "http://neutron.test", "http://glance.test", "http://placement.test"
PARAMS = {"auth_url": KEYSTONE, "password": "admin-secret-word", "region": "r", "host": "h", "timeout": 0}


def stamp(seconds_ago=0.0):
    moment = datetime.datetime.fromtimestamp(time.time() - seconds_ago, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000000")


@pytest.fixture
def region(monkeypatch, tmp_path):
    """A complete region; each test removes or ages one part."""
    state = {
        "services": [{"host": "h", "state": "up", "updated_at": stamp(-3600)}],
        "hypervisors": [{"hypervisor_hostname": "h.lab"}],
        "resource_providers": [{"name": "h"}],
        "agents": [{"alive": True, "heartbeat_timestamp": stamp(-3600)}],
        "discovery": tmp_path / "bin" / "runuser",
        "discovered": tmp_path / "discovered",
    }
    state["discovery"].parent.mkdir()
    state["discovery"].write_text(f"#!/bin/sh\ntouch {state['discovered']}\n")
    state["discovery"].chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(openstack_host_ready.OpenstackHostReady, "started", lambda self, unit: time.time())
    catalog = [
        {"type": kind, "endpoints": [{"interface": "internal", "region_id": "r", "region": "r", "url": url}]}
        for kind, url in (("compute", NOVA), ("network", NEUTRON), ("image", GLANCE), ("placement", PLACEMENT))
    ]
    token = {"token": {"methods": ["password"], "expires_at": "2099-01-01T00:00:00.000000Z", "catalog": catalog, "user": {"id": "u"}}}
    with requests_mock.Mocker() as mocker:
        mocker.get(KEYSTONE, json={"version": {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": KEYSTONE}]}})
        mocker.post(KEYSTONE + "/auth/tokens", json=token, headers={"X-Subject-Token": "t"}, status_code=201)
        mocker.get(NOVA + "/os-services", json=lambda *a: {"services": state["services"]})
        mocker.get(NOVA + "/os-hypervisors", json=lambda *a: {"hypervisors": state["hypervisors"]})
        mocker.get(PLACEMENT + "/resource_providers", json=lambda *a: {"resource_providers": state["resource_providers"]})
        mocker.get(NEUTRON + "/v2.0/agents", json=lambda *a: {"agents": state["agents"]})
        mocker.get(GLANCE + "/v2/images", json={"images": []})
        yield state


def call(**options):
    return run_module(openstack_host_ready.OpenstackHostReady, dict(PARAMS), **options)


def test_existing_region_is_ready(region):
    result = call()
    assert not result.changed and result.data["host"]["ready"] and result.data["host"]["name"] == "h"
    assert "admin-secret-word" not in result.raw


@pytest.mark.parametrize(
    ("part", "value", "missing"),
    [
        ("services", [], "heartbeat of nova-compute"),
        ("services", [{"host": "h", "state": "up", "updated_at": stamp(60)}], "heartbeat of nova-compute"),
        ("services", [{"host": "h", "state": "down", "updated_at": stamp(-3600)}], "it is down"),
        ("hypervisors", [], "hypervisor"),
        ("resource_providers", [], "Placement"),
        ("agents", [], "Open vSwitch agent"),
        ("agents", [{"alive": True, "heartbeat_timestamp": stamp(60)}], "Open vSwitch agent"),
        ("agents", [{"alive": False, "heartbeat_timestamp": stamp(-3600)}], "Open vSwitch agent"),
    ],
)
def test_error_names_missing_services(region, part, value, missing):
    region[part] = value
    result = call()
    assert result.failed and missing in result.data["msg"] and "region r" in result.data["msg"]
    assert region["discovered"].exists() == (part == "hypervisors")


def test_check_mode_looks_once_and_changes_nothing(region):
    region["hypervisors"] = []
    result = call(check=True)
    assert not result.failed and not result.data["host"]["ready"] and not region["discovered"].exists()


def test_discovery_timeout_kills_descendants(region, monkeypatch):
    region["hypervisors"] = []
    child = region["discovered"]
    region["discovery"].write_text(f"#!/bin/sh\nsleep 600 &\necho $! > {child}.new\nmv {child}.new {child}\nwait\n")
    for patience in (2, 60):  # on a stalled machine the timeout may pass before the child exists
        monkeypatch.setattr(openstack_host_ready, "DISCOVERY_TIMEOUT", patience)
        result = call()
        if child.exists():
            break
    assert result.failed and f"discover_hosts was not finished after {patience} s" in result.data["failure"]["details"]["missing"]
    assert is_gone(child.read_text().strip())
