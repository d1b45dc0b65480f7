# -*- coding: utf-8 -*-
# Copyright: Contributors to the hep.distcloud project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the site's playbooks: from what commands and modules answer to facts, and from an inventory's mappings to modules' lists."""

from __future__ import annotations

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


def named_wish(pair, without=()):
    """Answer one item of dict2items as a mapping with its key as `name`, without the keys in `without`."""
    wish = {key: value for key, value in (pair["value"] or {}).items() if key not in without}
    return dict(wish, name=pair["key"])


class FilterModule(object):
    """The filters by name."""

    def filters(self):
        return {"json_or_none": json_or_none, "image_summary": image_summary, "named_wish": named_wish}
