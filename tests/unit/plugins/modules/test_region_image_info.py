# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module region_image_info: lists images by name and by property, and changes nothing."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hep.distcloud.plugins.modules.region_image_info import RegionImageInfo
from module_harness import run_module
from region_replay import LOGIN, Call, replay

IMAGES: list[dict[str, t.Any]] = [
    {
        "id": "2",
        "name": "worker",
        "status": "active",
        "size": 9,
        "os_hash_algo": "sha512",
        "os_hash_value": "ab",
        "created_at": "2",
        "distcloud_build": "b",
    },
    {"id": "1", "name": "worker", "status": "queued", "created_at": "1", "distcloud_build": "a"},
    {"id": "3", "name": "another", "status": "active", "size": 7, "os_hash_algo": "md5", "os_hash_value": "cd", "created_at": "0"},
]


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("options,ids", [({}, ["3", "1", "2"]), ({"property": "distcloud_build"}, ["1", "2"]), ({"property": "none"}, [])])
def test_lists_images(options: dict[str, str], ids: list[str], check: bool) -> None:
    with replay(Call("GET", "image", "/images", {"images": IMAGES})):
        result = run_module(RegionImageInfo, {**LOGIN, **options}, check=check)
    assert not result.changed and [one["id"] for one in result.data["images"]] == ids
    for one in result.data["images"]:
        assert set(one) == {"id", "name", "status", "size", "hash_algorithm", "hash", "created_at"}


def test_our_own_images_and_who_uses_them() -> None:
    ours = {"distcloud_owner": "site", "distcloud_image": "worker"}
    images = [
        dict(IMAGES[0], owner="project-1", **ours),
        dict(IMAGES[1], owner="another-project", **ours),
        dict(IMAGES[2], owner="project-1", distcloud_owner="another-site", distcloud_image="worker"),
    ]
    servers = [{"id": "s2", "image": {"id": "2"}}, {"id": "s1", "image": {"id": "2"}}, {"id": "s0", "image": ""}]
    calls = Call("GET", "image", "/images", {"images": images}), Call("GET", "compute", "/servers/detail", {"servers": servers})
    with replay(*calls):
        result = run_module(RegionImageInfo, {**LOGIN, "properties": ours, "usage": True})
    assert [(one["id"], one["servers"]) for one in result.data["images"]] == [("2", ["s1", "s2"])]


def test_refused_login_gives_structured_failure() -> None:
    with replay(login=401):
        result = run_module(RegionImageInfo, dict(LOGIN))
    assert result.failed and result.data["failure"]["code"] == 401 and "the-accounts-password" not in result.raw
