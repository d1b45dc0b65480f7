# Copyright: Contributors to the hep.distcloud project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the site's playbooks: from what commands and modules answer to facts, and from an inventory's mappings to modules' lists."""

from __future__ import annotations

import ipaddress
import json


def json_or_none(text):
    """Answer the value that is written in `text` as JSON; None when it is empty or no JSON, as when a command failed."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return None


def image_summary(image):
    """Answer name, sha512 and size (bytes) of an image as region_image_info returns it."""
    return {"name": image["name"], "sha512": image["hash"], "size": int(image["size"] or 0)}


def named_item(pair, without=()):
    """Answer one item of dict2items as a mapping with its key as `name`, without the keys in `without`."""
    wish = {key: value for key, value in (pair["value"] or {}).items() if key not in without}
    return dict(wish, name=pair["key"])


def _comparable(name):
    """Answer a name of a certificate, such as DNS:host.example, in the form in which the same names are equal."""
    kind, _colon, value = name.partition(":")
    if kind == "IP":
        try:
            return "IP:%s" % ipaddress.ip_address(value)
        except ValueError:
            return name
    return "DNS:%s" % value.lower() if kind == "DNS" else name


def missing_names(wished, carried):
    """Answer the names in `wished` that a certificate with the names in `carried` does not stand for; a wildcard stands for one label."""
    carried = {_comparable(name) for name in carried or ()}

    def stood_for(name):
        kind, _colon, value = name.partition(":")
        host, _dot, domain = value.partition(".")
        by_wildcard = kind == "DNS" and host != "*" and "." in domain and "DNS:*.%s" % domain in carried
        return name in carried or by_wildcard

    return [name for name in wished if not stood_for(_comparable(name))]


class FilterModule(object):
    """The filters by name."""

    def filters(self):
        return {
            "json_or_none": json_or_none,
            "image_summary": image_summary,
            "missing_names": missing_names,
            "named_item": named_item,
        }
