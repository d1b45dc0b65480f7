"""Addresses that a cloud's catalog or a group's admin may not have the scheduler contact."""

from __future__ import annotations

import ipaddress

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distcloud.openstack.addresses import EndpointPolicy, EndpointRefused, identity_service, is_local, parse_address

STRICT, OPEN = EndpointPolicy(), EndpointPolicy(local=True, plain_http=True)
HTTPS = "https://keystone.example.org:5000/v3"
LOCAL_HOSTS = [
    *("127.0.0.1", "127.255.1.2", "0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "239.1.2.3", "255.255.255.255"),
    *("127.1", "0", "2130706433", "0x7f000001", "0x7f.1", "0177.1", "2852039166", "127.0.0.1."),
    *("[::1]", "[::]", "[fe80::1]", "[fe80::1%25eth0]", "[ff02::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]"),
    *("[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "[::ffff:0:127.0.0.1]", "[::ffff:169.254.169.254]"),
    *("localhost", "LOCALHOST", "localhost.", "a.localhost", "localhost.localdomain", "ip6-localhost"),
]
OTHER_HOSTS = ["10.203.0.11", "192.168.1.1", "203.0.113.7", "[fd00::1]", "[2001:db8::1]", "[64:ff9b::a00:1]", "keystone", "notlocalhost"]


@pytest.mark.parametrize("host", LOCAL_HOSTS)
def test_local_endpoint_is_refused_unless_configured(host: str) -> None:
    for url in (f"https://{host}/v3", f"https://{host}:8443/v3", f"https://user@{host}:8443/v3"):
        with pytest.raises(EndpointRefused, match="own host or link"):
            STRICT.check_url(url, HTTPS)
        OPEN.check_url(url, HTTPS)


@pytest.mark.parametrize("host", OTHER_HOSTS)
def test_other_endpoint_is_allowed(host: str) -> None:
    STRICT.check_url(f"https://{host}:8774/v2.1", HTTPS)


def test_http_endpoint_below_https_is_refused_unless_configured() -> None:
    with pytest.raises(EndpointRefused, match="plain http endpoint"):
        STRICT.check_url("http://nova:8774", HTTPS)
    EndpointPolicy(plain_http=True).check_url("http://nova:8774", HTTPS)
    STRICT.check_url("http://nova:8774", "http://keystone:5000")


@pytest.mark.parametrize("url", ["ftp://nova/", "nova:8774", "/v2.1", "file:///etc/passwd", "https://", ""])
def test_other_scheme_is_refused(url: str) -> None:
    with pytest.raises(EndpointRefused, match="not an http"):
        OPEN.check_url(url, HTTPS)


@given(st.ip_addresses(v=4))
def test_every_notation_of_address_is_judged_alike(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    high, low = number >> 24, number & 0xFFFFFF
    notations = [str(address), str(number), hex(number), f"0{number:o}", f"{high}.{low}", f"{hex(high)}.0{low:o}"]
    embedded = [f"::ffff:{address}", f"64:ff9b::{address}", str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80)))]
    assert all(parse_address(text) == address for text in notations)
    for text in embedded:
        found = parse_address(text)
        assert found is not None and is_local(found) is is_local(address)


PATHS = st.sampled_from(["", "/", "/v3", "/v3/", "/identity", "/identity/", "/identity/v3", "/identity/v3/"])


@given(
    st.sampled_from(["http", "https"]),
    st.sampled_from(["keystone.a", "b", "10.0.0.1", "[fd00::1]"]),
    PATHS,
    st.none() | st.integers(1, 65535),
)
def test_identity_service_is_equal_for_all_spellings(scheme: str, host: str, path: str, port: int | None) -> None:
    usual = {"http": 80, "https": 443}[scheme]
    plain = f"{scheme}://{host}:{port or usual}{'/identity' if 'identity' in path else ''}"
    spelled = [
        f"{scheme}://{host}{'' if port in (None, usual) else f':{port}'}{path}",
        f" {scheme.upper()}://{host.upper()}:{port or usual}{path}",
        f"{scheme}://user@{host}:{port or usual}{path}?x=1",
    ]
    assert {identity_service(url) for url in spelled} == {identity_service(plain)}
    assert httpx2.URL(identity_service(plain)).host == httpx2.URL(plain).host


@given(st.text(max_size=30))
def test_any_text_is_judged(text: str) -> None:
    identity_service(text)
    parse_address(text)
    try:
        STRICT.check_url(text, HTTPS)
    except (EndpointRefused, httpx2.InvalidURL):
        return
