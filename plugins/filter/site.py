# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters of the site's playbooks: from output of commands and modules to facts, and from an inventory's mappings to modules' lists."""

from __future__ import annotations

import ipaddress
import json
import typing as t


def json_or_none(text: t.Any) -> t.Any:
    """Return the value of the JSON in `text`; None if it is empty or not JSON, as after a failed command."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return None


def image_summary(image: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return name, sha512 and size (bytes) of an image as region_image_info returns it."""
    return {"name": image["name"], "sha512": image["hash"], "size": int(image["size"] or 0)}


def named_item(pair: dict[str, t.Any], without: t.Collection[str] = ()) -> dict[str, t.Any]:
    """Return one item of dict2items as a mapping with its key as `name`, without the keys in `without`."""
    spec = {key: value for key, value in (pair["value"] or {}).items() if key not in without}
    return dict(spec, name=pair["key"])


def _comparable(name: str) -> str:
    """Return a name of a certificate, such as DNS:host.example, in a comparable form."""
    kind, _colon, value = name.partition(":")
    if kind == "IP":
        try:
            return f"IP:{ipaddress.ip_address(value)}"
        except ValueError:
            return name
    return f"DNS:{value.lower()}" if kind == "DNS" else name


def missing_names(desired: t.Iterable[str], carried: t.Iterable[str] | None) -> list[str]:
    """Return the names in `desired` that a certificate with the names in `carried` does not cover; a wildcard covers one label."""
    present = {_comparable(name) for name in carried or ()}

    def covered(name: str) -> bool:
        kind, _colon, value = name.partition(":")
        host, _dot, domain = value.partition(".")
        by_wildcard = kind == "DNS" and host != "*" and "." in domain and f"DNS:*.{domain}" in present
        return name in present or by_wildcard

    return [name for name in desired if not covered(_comparable(name))]


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "json_or_none": json_or_none,
            "image_summary": image_summary,
            "missing_names": missing_names,
            "named_item": named_item,
        }
