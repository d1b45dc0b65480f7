# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two requests to Glance that are not plain JSON: the upload of an image's content, and the patch of its fields.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import json
import typing as t

from .._core.module import Failure
from .client import Client, endpoint_url, error_message, parse, translate_errors

PATCH_TYPE = "application/openstack-images-v2.1-json-patch"


def operations(before: dict[str, t.Any], after: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """The RFC 6902 operations that bring an image from one state to the other; properties are on the same level as the fields."""
    old = dict(before.get("properties") or {}, **{key: value for key, value in before.items() if key != "properties"})
    new = dict(after.get("properties") or {}, **{key: value for key, value in after.items() if key != "properties"})
    return [
        {"op": "replace" if key in old else "add", "path": "/" + key.replace("~", "~0").replace("/", "~1"), "value": new[key]}
        for key in sorted(new)
        if key not in ("id", "sha512") and new[key] != old.get(key)
    ]


def patch_image(client: Client, image_id: str, before: dict[str, t.Any], after: dict[str, t.Any]) -> None:
    """Changes fields, tags and properties of an image in one request."""
    body = json.dumps(operations(before, after)).encode()
    send(client, "PATCH", "/images/" + image_id, body, PATCH_TYPE)


def send_file(client: Client, image_id: str, path: str, timeout: int) -> None:
    """Streams a file as the image's content; ``timeout`` is how many seconds the connection may stall."""
    with open(path, "rb") as stream:
        send(client, "PUT", f"/images/{image_id}/file", stream, "application/octet-stream", timeout)


def send(client: Client, method: str, path: str, data: t.Any, content_type: str, timeout: int | None = None) -> None:
    extra = {"timeout": timeout} if timeout else {}
    answer = translate_errors(
        lambda: client.session.request(
            endpoint_url(client.base("image"), "image") + path,
            method,
            data=data,
            headers={"Content-Type": content_type, "Accept": "application/json"},
            raise_exc=False,
            redirect=False,
            **extra,
        ),
        client.label,
        "image",
    )
    if answer.status_code >= 300:
        raise Failure(
            f"{client.label}: glance refused {method} {path}: {error_message(answer.status_code, parse(answer))}",
            "glance",
            answer.status_code,
            {"method": method, "path": path},
        )
