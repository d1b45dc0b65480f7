"""How the command line reaches a service: proxies and TLS, as configured in the environment."""

from __future__ import annotations

import contextlib
import os
import ssl
from pathlib import Path
from urllib.request import getproxies_environment, proxy_bypass

import httpx2

from ..config import ConfigError


def proxy_for(host: str) -> str | None:
    """The proxy for an https address, from https_proxy or all_proxy unless no_proxy lists the host. Raises ConfigError.

    Not for hosts that are this machine itself.
    """
    proxies = getproxies_environment()
    scheme = next((scheme for scheme in ("https", "all") if proxies.get(scheme)), None)
    if scheme is None or proxy_bypass(host, proxies):
        return None
    address = proxies[scheme] if "://" in proxies[scheme] else f"http://{proxies[scheme]}"
    name = next(name for name in os.environ if name.lower() == f"{scheme}_proxy" and os.environ[name] == proxies[scheme])
    url: httpx2.URL | None = None
    with contextlib.suppress(httpx2.InvalidURL):
        url = httpx2.URL(address)
    # Never repeated here: it may hold a password.
    if url is None or not url.host:
        raise ConfigError(f"{name}: should be an address such as http://proxy:3128, or no_proxy should list {host}")
    if url.scheme not in ("http", "https"):
        raise ConfigError(f"{name}: {url.scheme} proxies are not supported; use an http one, or list {host} in no_proxy")
    return address


def tls_context(ca: Path | None) -> ssl.SSLContext:
    """The client's side of TLS, which trusts `ca`, or the authorities of the host. Raises ConfigError."""
    try:
        if ca is not None:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{ca}: not a readable PEM file of certificates") from error
    try:
        return ssl.create_default_context(cafile=str(ca) if ca else None)
    except OSError as error:
        raise ConfigError(f"SSLKEYLOGFILE: {os.environ.get('SSLKEYLOGFILE', '')}: cannot be written: {error.strerror}") from error
