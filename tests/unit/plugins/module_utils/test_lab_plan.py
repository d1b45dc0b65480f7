# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decisions about lab hosts, images and their files, on plain data."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.hep.distcloud.plugins.module_utils._core.apt_sources import Source
from ansible_collections.hep.distcloud.plugins.module_utils._lab import image, plan
from hypothesis import given
from hypothesis import strategies as st

NET, GATEWAY = "10.203.0.0/24", "10.203.0.1"
CONDITIONS = (plan.ABSENT, plan.STOPPED, plan.RUNNING, plan.ORPHANED, plan.STUCK)
SPEC = {"start": {"address": "10.203.0.10", "bridge": "b"}}
LABS = st.from_regex(plan.LAB_NAME, fullmatch=True)
HOSTS = st.from_regex(plan.HOST_NAME, fullmatch=True)


def follow(steps: list[plan.Step], condition: str, record: bool, links: str) -> tuple[str, bool, str]:
    """The state after the steps; starting a running or missing host, or creating over a running one, is an error."""
    for step in steps:
        if step.action in ("stop", "kill"):
            assert condition in (plan.RUNNING, plan.ORPHANED, plan.STUCK)
            condition, links = plan.STOPPED, "missing"
        elif step.action == "destroy":
            assert condition not in (plan.RUNNING, plan.ORPHANED, plan.STUCK)
            condition, record = plan.ABSENT, False
        elif step.action == "create":
            assert not record and condition not in (plan.RUNNING, plan.ORPHANED, plan.STUCK)
            condition, record = plan.STOPPED, True
        elif step.action == "start":
            assert record and condition in (plan.ABSENT, plan.STOPPED)
            condition, links = plan.RUNNING, "attached"
        elif step.action == "attach":
            assert condition == plan.RUNNING and links == "detached"
            links = "attached"
    return condition, record, links


@pytest.mark.parametrize(
    ("state", "condition", "record", "links", "recreate"),
    list(
        itertools.product(("started", "stopped", "absent"), CONDITIONS, (True, False), ("attached", "detached", "missing"), (True, False))
    ),
)
def test_every_state_converges_to_spec(state: str, condition: str, record: bool, links: str, recreate: bool) -> None:
    steps = plan.plan_host(state, SPEC if record else None, SPEC, condition, links, recreate)
    assert all(step.reason for step in steps)
    condition, record, links = follow(steps, condition, record, links)
    if state == "started":
        assert (condition, record, links) == (plan.RUNNING, True, "attached")
    else:
        assert condition in (plan.ABSENT, plan.STOPPED)
        assert not (state == "absent" and record)
    assert plan.plan_host(state, SPEC if record else None, SPEC, condition, links) == []


def test_changed_start_argument_restarts_host() -> None:
    steps = plan.plan_host("started", {"start": {"address": "10.203.0.9", "bridge": "b"}}, SPEC, plan.RUNNING, "attached")
    assert [tuple(step) for step in steps] == [("stop", "address changed"), ("start", "address changed")]


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        ({"Big": {"address": "10.203.0.9"}}, "hosts: 'Big' is not a valid host name"),
        ({"a": {}}, "hosts.a.address: '' is not an IPv4 address"),
        ({"a": {"address": "10.204.0.9"}}, "hosts.a.address: 10.204.0.9 is outside of the lab's network"),
        ({"a": {"address": "10.203.0.1"}}, "hosts.a.address: 10.203.0.1 already belongs to the gateway"),
        ({"a": {"address": "10.203.0.9"}, "b": {"address": "10.203.0.9"}}, "hosts.b.address: 10.203.0.9 already belongs to a"),
        ({"a": {"address": "10.203.0.9", "memory": 3}}, "hosts.a: unknown field memory"),
        ({"a": {"address": "10.203.0.9", "capabilities": ["everything"]}}, "hosts.a.capabilities: 'everything'"),
        ({"a": None}, "hosts.a: expected a mapping"),
    ],
)
def test_impossible_specs_name_host_and_field(hosts: dict, message: str) -> None:
    with pytest.raises(plan.SpecError, match=message.replace(".", r"\.")):
        plan.normalize_hosts(hosts, NET, GATEWAY)


@given(LABS, HOSTS)
def test_names_fit_what_linux_allows(lab: str, host: str) -> None:
    for port in ("h", "x"):
        assert len(plan.link_name(lab, host, port)) <= 15
    assert len(plan.machine_name(lab, host)) <= 64
    assert plan.link_name(lab, host, "h") != plan.link_name(lab, host, "x")


def test_links_of_all_hosts_of_many_labs_differ() -> None:
    names = [plan.link_name(f"lab{lab}", f"host{host}", "h") for lab in range(20) for host in range(50)]
    assert len(set(names)) == len(names)


@given(st.text(alphabet="ab #\n", max_size=40), st.text(alphabet="cd\n", max_size=20))
def test_only_owned_block_is_changed(current: str, block: str) -> None:
    block = block if not block or block.endswith("\n") else block + "\n"
    once = plan.merge_block(current, block)
    assert plan.merge_block(once, block) == once
    assert once.startswith(current)
    again = plan.merge_block(once, "other\n")
    assert again.startswith(current) and "other\n" in again and again.count(plan.BLOCK_BEGIN) == 1


def test_labs_conflict_by_bridge_or_network() -> None:
    records = [
        {"lab": "site", "bridge": "dclab0", "network": NET},
        {"lab": "wide", "bridge": "other", "network": "10.0.0.0/8"},
        {"lab": "far", "bridge": "other", "network": "192.168.7.0/24"},
    ]
    assert plan.clashes(records, "test", "dclab0", NET) == ["site", "wide"]
    assert plan.clashes(records, "site", "dclab0", NET) == ["wide"]


def test_loopback_resolvers_are_not_given_to_guests() -> None:
    assert plan.has_usable_resolver("nameserver 192.0.2.1\n")
    assert not plan.has_usable_resolver("nameserver 127.0.0.53\n")
    assert not plan.has_usable_resolver("search example.org\n")


def test_pip_configuration_uses_environment_and_guest_bundle() -> None:
    config = plan.pip_configuration(
        "[global]\ncert = /opt/own.pem\nindex-url = https://a/\n", {"PIP_INDEX_URL": "https://b/", "PIP_DEFAULT_TIMEOUT": "9"}
    )
    assert config == "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\nindex-url = https://b/\ntimeout = 9\n"
    assert plan.pip_configuration("", {}) == ""


def test_known_hosts_has_all_addresses_of_hosts() -> None:
    hosts = {"a": {"address": "10.203.0.9", "host_key": "ssh-ed25519 AAAA comment"}, "b": {"address": "10.203.0.8", "host_key": ""}}
    assert plan.known_hosts(hosts, "lab.example") == "a,a.lab.example,10.203.0.9 ssh-ed25519 AAAA\n"


def test_secrets_among_the_files_are_marked() -> None:
    spec = plan.normalize_hosts({"a": {"address": "10.203.0.9"}}, NET, GATEWAY)["a"]
    outer = {
        "network": NET,
        "gateway": GATEWAY,
        "resolv_conf": "nameserver 192.0.2.1\n",
        "authorized_keys": "k\n",
        "pip_conf": "[global]\n",
        "proxy": {"http_proxy": "http://user:word@proxy/"},
    }
    files = {file.path: file for file in plan.guest_files("a", spec, outer, "", {"private": "p", "public": "q", "machine_id": "m"})}
    assert {path for path, file in files.items() if file.secret} == {
        "/etc/pip.conf",
        "/etc/environment",
        "/etc/apt/apt.conf.d/91lab-proxy",
        "/etc/ssh/ssh_host_ed25519_key",
    }
    assert files["/etc/ssh/ssh_host_ed25519_key"].mode == 0o600


def test_removed_index_and_proxy_disappear_from_host() -> None:
    spec = plan.normalize_hosts({"a": {"address": "10.203.0.9"}}, NET, GATEWAY)["a"]
    outer = {"network": NET, "gateway": GATEWAY, "resolv_conf": "", "authorized_keys": "k\n"}
    for gone in (outer, outer | {"pip_conf": "", "proxy": {"http_proxy": "", "no_proxy": ""}}):
        files = {file.path: file for file in plan.guest_files("a", spec, gone, "", None)}
        for path in ("/etc/pip.conf", "/etc/environment", "/etc/apt/apt.conf.d/91lab-proxy"):
            assert files[path].content == ""


# -- images ------------------------------------------------------------------------------------------------------------------------------


def test_mirror_is_that_of_machine_release() -> None:
    sources = [
        Source("cdrom:", ["bookworm"], ["main"]),
        Source("http://mirror.example/debian", ["bookworm"], ["main"]),
        Source("http://mirror2.example/debian/", ["trixie", "trixie-updates"], ["main"]),
        Source("http://sec.example", ["trixie-security"], ["main"]),
    ]
    assert image.choose_mirror(sources, "bookworm") == "http://mirror.example/debian"
    assert image.choose_mirror(sources, "trixie") == "http://mirror2.example/debian"
    assert image.choose_mirror(sources, "sid") == ""


def common(**changes: object) -> dict:
    return {"suite": "trixie", "components": ["main"], "mirror": "http://m", "packages": ["a", "b"], "disabled_units": []} | changes


def test_hash_covers_all_inputs_in_any_order() -> None:
    first = image.digest(image.recipe("base", {}, common(), {"/ca": "x"}))
    assert first == image.digest(image.recipe("base", {}, common(packages=["b", "a", "a"]), {"/ca": "x"}))
    others = [
        image.recipe("base", {"packages": ["c"]}, common(), {"/ca": "x"}),
        image.recipe("base", {}, common(suite="forky"), {"/ca": "x"}),
        image.recipe("base", {}, common(mirror="http://n"), {"/ca": "x"}),
        image.recipe("base", {}, common(), {"/ca": "y"}),
        image.recipe("base", {"disabled_units": ["*"]}, common(), {"/ca": "x"}),
    ]
    assert len({first, *(image.digest(other) for other in others)}) == 6


def test_disabled_patterns_spare_units_needed_for_access() -> None:
    enabled = ["ssh.service", "systemd-networkd.socket", "nova-api.service", "mariadb.service", "nova-api.service"]
    assert image.units_to_disable(enabled, ["*"]) == ["mariadb.service", "nova-api.service"]
    assert image.units_to_disable(enabled, ["nova-*"]) == ["nova-api.service"]
