"""Which addresses of a cloud may be contacted: whoever sets an `auth_url` or a catalog must not reach services of the scheduler's host."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

import httpx2

_PORTS = {"http": 80, "https": 443}
_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
# Networks of IPv6 addresses that stand for the IPv4 address in their last 32 bits.
_IPV4_NETWORKS = tuple(ipaddress.IPv6Network(text) for text in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"))
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class EndpointRefused(Exception):
    """The configuration forbids contact with an address; the message completes a sentence that begins with the address."""


@dataclass(frozen=True, slots=True)
class EndpointPolicy:
    """`local`: addresses of the host itself and of its links are allowed; `plain_http`: http endpoints below an https auth_url are."""

    local: bool = False
    plain_http: bool = False

    def check_url(self, url: str, auth_url: str) -> None:
        """Raises EndpointRefused for a URL that names a local address, or is less protected than `auth_url`.

        Names that resolve to a local address are left to `check_host`. Raises httpx2.InvalidURL.
        """
        parsed = httpx2.URL(url)
        if parsed.scheme not in _PORTS or not parsed.host:
            raise EndpointRefused("is not an http(s) URL")
        if parsed.scheme == "http" and not self.plain_http and httpx2.URL(auth_url).scheme != "http":
            raise EndpointRefused("is a plain http endpoint, but auth_url is https; the cloud's catalog should have https endpoints")
        host = parsed.raw_host.decode("ascii").rstrip(".").lower()
        if host in _LOCAL_NAMES or host.endswith(".localhost"):
            self._refuse_local()
        self.check_host(host)

    def check_host(self, host: str) -> None:
        """Raises EndpointRefused for a local IP address, in any notation that the system's resolver accepts; names pass."""
        address = parse_address(host)
        if address is not None and is_local(address):
            self._refuse_local()

    def _refuse_local(self) -> None:
        if not self.local:
            raise EndpointRefused("is an address of the scheduler's own host or link, which is not allowed")


DEFAULT_POLICY = EndpointPolicy()


def parse_address(host: str) -> IpAddress | None:
    """The IP address that a host part denotes, also as 127.1, 0x7f000001 or 2130706433; None for a name."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def is_local(address: IpAddress) -> bool:
    """Whether it is a loopback, link-local, unspecified, multicast or broadcast address, or an IPv6 address that stands for one."""
    if isinstance(address, ipaddress.IPv6Address):
        embedded = _embedded(address)
        if embedded is not None and is_local(embedded):
            return True
    elif address in _THIS_NETWORK or address == _BROADCAST:
        return True
    return address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if any(address in network for network in _IPV4_NETWORKS):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour


def identity_service(auth_url: str) -> str:
    """`auth_url` in a form that is equal for all spellings of one Keystone; other text is returned unchanged."""
    try:
        url = httpx2.URL(auth_url.strip())
    except httpx2.InvalidURL:
        return auth_url
    if url.scheme not in _PORTS or not url.host:
        return auth_url
    path = url.path.rstrip("/").removesuffix("/v3").rstrip("/")
    host = url.raw_host.decode("ascii").rstrip(".").lower()
    host = f"[{host}]" if ":" in host else host
    return f"{url.scheme}://{host}:{url.port or _PORTS[url.scheme]}{path}"
