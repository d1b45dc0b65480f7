# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pure parts of the region modules: addresses, ownership tags, rules, decisions about credentials."""

from __future__ import annotations

import datetime
import random
import typing as t

import pytest
from ansible_collections.hep.distcloud.plugins.module_utils._openstack import client as _openstack
from ansible_collections.hep.distcloud.plugins.module_utils._region import credential as _region_credential
from ansible_collections.hep.distcloud.plugins.module_utils._region import rules as _region
from hypothesis import given
from hypothesis import strategies as st

RULE = st.fixed_dictionaries(
    {"direction": st.sampled_from(["ingress", "egress"]), "ethertype": st.sampled_from(["IPv4", "IPv6"])},
    optional={
        "protocol": st.sampled_from(["tcp", "udp"]),
        "port_min": st.integers(1, 65535),
        "remote_ip_prefix": st.sampled_from(["0.0.0.0/0", "10.0.0.0/8", "192.0.2.1/32"]),
    },
)


@given(st.lists(RULE), st.randoms())
def test_order_and_duplicates_of_rules_are_ignored(rules: list[dict[str, t.Any]], chance: random.Random) -> None:
    mixed = rules + rules[:1]
    chance.shuffle(mixed)
    assert _region.sorted_rules(rules) == _region.sorted_rules(mixed)


@given(st.lists(RULE))
def test_rules_survive_neutron_round_trip(rules: list[dict[str, t.Any]]) -> None:
    sent = _region.sorted_rules(rules)
    names = {"port_min": "port_range_min", "port_max": "port_range_max"}
    full = dict.fromkeys(("protocol", "port_range_min", "port_range_max", "remote_ip_prefix", "remote_group_id"))
    back = [{**full, **{names.get(key, key): value for key, value in rule.items()}} for rule in sent]
    assert _region.sorted_rules(back) == sent


@given(st.text(), st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True))
def test_descriptions_carry_the_ownership_tag(text: str, tag: str) -> None:
    assert _region.is_ours(_region.describe(text, tag), tag)
    assert not _region.is_ours(_region.describe("", tag), tag + "2")


@pytest.mark.parametrize(
    "base,service,url,asked,placed",
    [
        ("http://h:5000", "identity", "http://h:5000/v3", "/v3/users", "/v3/users"),
        ("http://h:5000/v2.0", "identity", "http://h:5000/v3", "/v3/users", "/v3/users"),
        ("https://h/identity/v3/", "identity", "https://h/identity/v3", "/v3/users", "/identity/v3/users"),
        ("https://h/compute/v2.1", "compute", "https://h/compute/v2.1", "/v2.1/limits", "/compute/v2.1/limits"),
        ("http://h:8774/v2.1/abc", "compute", "http://h:8774/v2.1/abc", "/v2.1/servers/*", "/v2.1/abc/servers/*"),
        ("https://h/nova/v2.1/abc/", "compute", "https://h/nova/v2.1/abc", "/v2.1/limits", "/nova/v2.1/abc/limits"),
        ("http://h:9696", "network", "http://h:9696/v2.0", "/v2.0/ports", "/v2.0/ports"),
        ("http://h/networking/", "network", "http://h/networking/v2.0", "/v2.0/ports", "/networking/v2.0/ports"),
        ("http://h:9292/v2", "image", "http://h:9292/v2", "/v2/images", "/v2/images"),
    ],
)
def test_addresses_in_whatever_form_the_catalog_has_them(base: str, service: str, url: str, asked: str, placed: str) -> None:
    assert _openstack.endpoint_url(base, service) == url
    assert _openstack.path_behind(base, asked) == placed


@pytest.mark.parametrize(
    "body,words",
    [
        ({"error": {"message": "a"}}, "a"),
        ({"NeutronError": {"type": "x", "message": "b"}}, "b"),
        ({"badRequest": {"message": "c", "code": 400}}, "c"),
        ("<html><body>bad  gateway</body></html>", "bad gateway"),
        (None, "HTTP status 502"),
    ],
)
def test_error_message_of_every_service_is_found(body: t.Any, words: str) -> None:
    assert _openstack.error_message(502, body) == words


NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.timezone.utc)
SPEC = {"ownership_tag": "m", "path": "/f", "roles": None, "access_rules": [], "renew_before": 30}
NAMES = st.lists(st.integers(1, 9), unique=True, max_size=4)


@given(
    st.sampled_from(["present", "rotated", "pruned", "absent"]),
    NAMES,
    st.one_of(st.none(), st.integers(1, 9)),
    st.booleans(),
)
def test_credential_in_use_is_removed_only_on_request(state: str, generations: list[int], stored: int | None, pending: bool) -> None:
    own = [{"id": f"c{number}", "name": f"m-s-{number}"} for number in sorted(generations)]
    document = None if stored is None else {"application_credential_id": f"c{stored}", "name": f"m-s-{stored}", "generation": stored}
    unfinished = {"generation": 10} if pending else None
    try:
        decision = _region_credential.decide(state, "s", own, document, unfinished, SPEC, NOW)
    except _region_credential.Failure as failure:
        assert failure.code == "lost" and state in ("present", "pruned")
        return
    if decision.step == _region_credential.PRUNE:
        assert document is not None and document["application_credential_id"] not in decision.to_remove
    if decision.step == _region_credential.MAKE:
        assert all(decision.generation > number for number in generations)
        assert state == "rotated" or (stored not in generations and not (stored is None and generations))
    if decision.step == _region_credential.REMOVE:
        assert state == "absent"


@pytest.mark.parametrize(
    "text,moment",
    [
        ("2027-01-02T03:04:05Z", datetime.datetime(2027, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)),
        ("2027-01-02T03:04:05.000000", datetime.datetime(2027, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)),
        ("2027-01-02 03:04:05+00:00", datetime.datetime(2027, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)),
        (None, None),
    ],
)
def test_times_in_every_form(text: str | None, moment: datetime.datetime | None) -> None:
    assert _region_credential.parse_time(text) == moment


def test_warning_precedes_expiry() -> None:
    stored = {"name": "m-s-1", "expires_at": "2026-06-20T00:00:00Z", "access_rules_requested": []}
    assert "expires on" in _region_credential.health("s", stored, SPEC, NOW)[0]
    stored["expires_at"] = "2026-08-20T00:00:00Z"
    assert _region_credential.health("s", stored, SPEC, NOW) == ()


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("certificate verify failed: certificate has expired (_ssl.c:992)", "the region's admin has to renew it"),
        ("certificate verify failed: certificate is not yet valid", "check the clocks"),
        ("certificate verify failed: IP address mismatch, certificate is not valid for '192.0.2.1'", "use that name in auth_url"),
        ("certificate verify failed: self-signed certificate", "set cacert in clouds.yaml to the CA's file"),
    ],
)
def test_refused_certificate_comes_with_advice(error: str, advice: str) -> None:
    assert advice in _openstack.tls_advice(error)
