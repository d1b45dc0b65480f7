# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the modules send their token, and answers that are no API's."""

from __future__ import annotations

import socket
import threading
import typing as t

import pytest
from ansible_collections.hep.distcloud.plugins.module_utils._api.client import ApiClient
from ansible_collections.hep.distcloud.plugins.module_utils._core.module import Failure


class RecordingServer:
    """Remembers what it is sent; gives everybody the same response."""

    def __init__(self, response: bytes = b"") -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.received: list[str] = []
        self._response = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(response), response)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection = self.socket.accept()[0]
            except OSError:
                return
            with connection:
                self.received.append(connection.recv(10_000).decode("latin-1"))
                connection.sendall(self._response)


@pytest.fixture
def start() -> t.Iterator[t.Callable[..., RecordingServer]]:
    started: list[RecordingServer] = []

    def make(response: bytes = b"") -> RecordingServer:
        started.append(RecordingServer(response))
        return started[-1]

    yield make
    for server in started:
        server.socket.close()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def client(url: str) -> ApiClient:
    return ApiClient("scheduler", {"api_url": url, "api_token": "unmistakable", "timeout": 5})


@pytest.mark.parametrize("url", ["http://central:8443", "HTTP://192.0.2.1", "http://127.0.0.1.example.org"])
def test_token_is_never_sent_in_clear_text(url: str) -> None:
    with pytest.raises(Failure, match="api_url: should begin with https://"):
        client(url)


def test_no_proxy_is_used_for_this_machine(start: t.Callable[..., RecordingServer], monkeypatch: pytest.MonkeyPatch) -> None:
    server, proxy = start(b"{}"), start()
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    assert client(server.url).get("groups") == {}
    assert proxy.received == [] and "unmistakable" in server.received[0]


def test_failing_proxy_is_named_and_gets_no_token(start: t.Callable[..., RecordingServer], monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = start()
    for value in (proxy.url, "http://127.0.0.1:port"):
        monkeypatch.setenv("https_proxy", value)
        with pytest.raises(Failure, match="https_proxy"):
            client("https://central.example:8443").get("groups")
    assert all("unmistakable" not in request for request in proxy.received) and proxy.received[0].startswith("CONNECT")


def test_deeply_nested_response_is_not_json(start: t.Callable[..., RecordingServer]) -> None:
    with pytest.raises(Failure, match="is not JSON"):
        client(start(b"[" * 100_000).url).get("groups")
