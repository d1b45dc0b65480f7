#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lists the images of a region, with the hash of their content."""

from __future__ import annotations

DOCUMENTATION = r"""
module: region_image_info
short_description: List images of an OpenStack region
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
description:
  - Lists images that the account can use, with Glance's hash of their content.
options:
  name:
    description:
      - Only images of this name.
    type: str
  property:
    description:
      - Only images with this property, whatever its value. All images that this collection built have V(distcloud_build).
    type: str
  properties:
    description:
      - Only images of the account's own project with exactly these values of these properties.
    type: dict
  usage:
    description:
      - List for each image which servers of the project were booted from it.
    type: bool
    default: false
extends_documentation_fragment:
  - hep.distcloud.openstack
  - hep.distcloud.attributes
  - hep.distcloud.attributes.info
"""

EXAMPLES = r"""
- name: List the region's worker images
  hep.distcloud.region_image_info:
    cloud: region-a
    property: distcloud_build
  register: found

- name: Find out which of our images are still used by servers
  hep.distcloud.region_image_info:
    cloud: region-a
    properties: {distcloud_owner: my-site, distcloud_image: worker}
    usage: true
"""

RETURN = r"""
images:
  description: The images, by name and age.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Id of the image.
      type: str
    name:
      description: Name of the image.
      type: str
    status:
      description: Glance's status of it; only V(active) images boot.
      type: str
    size:
      description: Size in bytes; null until it is uploaded.
      type: int
    hash_algorithm:
      description: Glance's hash algorithm.
      type: str
    hash:
      description: Hash of the content; null until it is uploaded.
      type: str
    created_at:
      description: Time of its creation.
      type: str
    servers:
      description: Ids of the servers that were booted from it.
      returned: with O(usage=true)
      type: list
      elements: str
"""

import typing as t

from ..module_utils._core.module import InfoModule
from ..module_utils._openstack.client import connect, openstack_argument_spec


class RegionImageInfo(InfoModule):
    service = "glance"
    result_key = "images"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {
            "name": {"type": "str"},
            "property": {"type": "str"},
            "properties": {"type": "dict"},
            "usage": {"type": "bool", "default": False},
            **openstack_argument_spec(),
        }

    def connect(self) -> None:
        self.client = connect(self.params)

    def read(self) -> list[dict[str, t.Any]]:
        query = {"name": self.params["name"]} if self.params["name"] else {}
        found = [
            {
                "id": image["id"],
                "name": image["name"],
                "status": image["status"],
                "size": image.get("size"),
                "hash_algorithm": image.get("os_hash_algo"),
                "hash": image.get("os_hash_value"),
                "created_at": image["created_at"],
            }
            for image in self.client.list("image", "/images", "images", **query)
            if self.is_wanted(image)
        ]
        if self.params["usage"] and found:
            used: dict[str, list[str]] = {}
            for server in self.client.list("compute", "/servers/detail", "servers"):
                # A server that was booted from a volume has no image: an empty string.
                used.setdefault((server.get("image") or {}).get("id", ""), []).append(server["id"])
            found = [dict(image, servers=sorted(used.get(image["id"], []))) for image in found]
        return sorted(found, key=lambda one: (one["name"] or "", one["created_at"], one["id"]))

    def is_wanted(self, image: dict[str, t.Any]) -> bool:
        properties = self.params["properties"]
        if properties is not None:
            mine = self.client.me()["project_id"]
            if image.get("owner") != mine or any(image.get(key) != str(value) for key, value in properties.items()):
                return False
        return not self.params["property"] or self.params["property"] in image


def main() -> None:
    RegionImageInfo.main()


if __name__ == "__main__":
    main()
