# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replays HTTP: an ordered list of exactly the calls that a module must make, each with its response."""

from __future__ import annotations

import contextlib
import io
import json
import typing as t
from dataclasses import dataclass, field
from email.message import Message
from unittest import mock
from urllib.error import HTTPError

OPEN_URL = "ansible_collections.hep.distcloud.plugins.module_utils._api.client.open_url"


@dataclass
class Call:
    """One expected call. `answer` is JSON, or an exception to raise; `status` from 400 on makes it an HTTP error."""

    method: str
    path: str
    answer: t.Any = None
    body: t.Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def problem(status: int, kind: str, detail: str, **more: t.Any) -> dict[str, t.Any]:
    return dict({"type": "urn:distcloud:problem:" + kind, "title": "-", "status": status, "detail": detail}, **more)


@contextlib.contextmanager
def replay(*expected: Call, token: str = "a-token", base: str = "https://central.example.org:8443") -> t.Iterator[list[Call]]:
    """Answer the module's calls in this order; all of them must be made."""
    left = list(expected)

    def open_url(url: str, method: str = "GET", data: bytes | None = None, headers: t.Any = None, **options: t.Any) -> t.Any:
        assert left, f"one call too many: {method} {url}"
        call = left.pop(0)
        assert (method, url) == (call.method, base + call.path)
        assert headers["Authorization"] == "Bearer " + token
        assert options["follow_redirects"] == "none"
        assert options["use_netrc"] is False
        assert (None if data is None else json.loads(data)) == call.body
        if isinstance(call.answer, Exception):
            raise call.answer
        raw = call.answer if isinstance(call.answer, bytes) else json.dumps(call.answer).encode("utf-8")
        if call.status >= 400:
            message = Message()
            for name, value in call.headers.items():
                message[name] = value
            raise HTTPError(url, call.status, "refused", message, io.BytesIO(raw))
        return io.BytesIO(raw)

    with mock.patch(OPEN_URL, open_url):
        yield left
    assert not left, f"calls that were not made: {left}"
