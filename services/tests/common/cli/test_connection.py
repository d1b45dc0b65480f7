"""Where the command line sends its token: over TLS or to this machine, through a proxy only if it is a valid one for TLS."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from distcloud.common.cli.apiclient import ApiClient, CallError, ClientSettings
from distcloud.common.config import ConfigError
from distcloud.common.http.schemas import Response


class Nothing(Response):
    pass


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "sslkeylogfile"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Listener:
    """A server that remembers the first line and headers of what it is sent, and answers 502."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.received: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                self.received.append(connection.recv(10_000).decode("latin-1"))
                connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.socket.close()


def client(tmp_path: Path, url: str, ca: Path | None = None) -> ApiClient:
    (tmp_path / "token").write_text("unmistakable\n")
    return ApiClient("demo", ClientSettings(url=url, token_file=tmp_path / "token", ca=ca))


@pytest.mark.parametrize(
    "url", ["http://central:8443", "http://192.0.2.1", "HTTP://central", "http://127.0.0.1.example.org", "ftp://central"]
)
def test_token_is_never_sent_in_clear_text(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"DISTCLOUD_DEMO_URL .*https://"):
        client(tmp_path, url)


@pytest.mark.parametrize("url", ["https://me:secret@central", "central:8443", "https://", "https://central:port"])
def test_malformed_address_is_named(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"DISTCLOUD_DEMO_URL .*https://central:8443") as caught:
        client(tmp_path, url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"])
def test_no_proxy_is_used_for_this_machine(tmp_path: Path, name: str, listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Listener()
    monkeypatch.setenv(name, proxy.address)
    with client(tmp_path, listener.address) as api, pytest.raises(CallError):
        api.get("/v1/report", Nothing)
    assert proxy.received == [] and "unmistakable" in listener.received[0]
    proxy.socket.close()


def test_proxy_gets_no_token(tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", listener.address)
    with client(tmp_path, "https://central.example:8443") as api, pytest.raises(CallError):
        api.get("/v1/report", Nothing)
    assert listener.received[0].startswith("CONNECT central.example:8443 ") and "unmistakable" not in listener.received[0]


@pytest.mark.parametrize("hosts", ["central.example", ".example", "*", "other, central.example"])
def test_listed_hosts_are_reached_directly(tmp_path: Path, hosts: str, listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", listener.address)
    monkeypatch.setenv("no_proxy", hosts)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(socket.gaierror("no name server")))
    with client(tmp_path, "https://central.example:8443") as api, pytest.raises(CallError):
        api.get("/v1/report", Nothing)
    assert listener.received == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1080"),
        ("all_proxy", "socks4://127.0.0.1:1080"),
        ("https_proxy", "http://me:secret@127.0.0.1:port"),
        ("HTTPS_PROXY", "http://"),
    ],
)
def test_unusable_proxy_is_named(tmp_path: Path, name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"^{name}: .*no_proxy") as caught:
        client(tmp_path, "https://central")
    assert "secret" not in str(caught.value) and "DISTCLOUD" not in str(caught.value)
    with client(tmp_path, "http://127.0.0.1:9") as api, pytest.raises(CallError, match="unreachable"):
        api.get("/v1/report", Nothing)


def test_unusable_tls_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"ca.pem: not a readable PEM file"):
        client(tmp_path, "https://central", tmp_path / "ca.pem")
    monkeypatch.setenv("SSLKEYLOGFILE", f"{tmp_path}/none/keys")
    with pytest.raises(ConfigError, match=r"^SSLKEYLOGFILE: .*none/keys: cannot be written"):
        client(tmp_path, "https://central")
