#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps one image in a region's Glance, known by its name and the hash of its content."""

from __future__ import annotations

DOCUMENTATION = r"""
module: region_image
short_description: Manage an image in an OpenStack region by name and hash
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
description:
  - Uploads a file as an image into the project of the account that the module logs in as, unless that project has an image of this name
    whose content has the same hash.
  - Afterwards Glance's hash of the upload is compared with O(sha512). An upload with another hash is removed and reported.
  - The leftover of an interrupted upload (an image that never became active) is removed and the upload repeated.
  - Properties, tags, visibility and limits of an existing image are set as given. Unset ones are not changed.
options:
  name:
    description:
      - Name of the image.
    type: str
    required: true
  state:
    description:
      - V(absent) removes all images of this name from the project.
    type: str
    choices: [present, absent]
    default: present
  path:
    description:
      - File with the image on the machine where the module runs. It is read only when there is something to upload.
    type: path
  sha512:
    description:
      - SHA-512 of the file, 128 hexadecimal digits. Together with O(name) it identifies the image.
    type: str
  disk_format:
    description:
      - Format of the file.
    type: str
    default: qcow2
  container_format:
    description:
      - Container of the file.
    type: str
    default: bare
  visibility:
    description:
      - Who can use the image. V(public) and V(community) often need an admin's rights.
    type: str
    choices: [private, shared, community, public]
    default: private
  min_disk:
    description:
      - Smallest disk in GiB that the image boots from.
    type: int
  min_ram:
    description:
      - Smallest memory in MiB that the image boots with.
    type: int
  protected:
    description:
      - Whether Glance refuses to delete the image. A new image is protected when its upload is complete.
    type: bool
  tags:
    description:
      - Tags of the image.
    type: list
    elements: str
  properties:
    description:
      - Further properties, for example C(hw_disk_bus). All values are kept as text.
    type: dict
    default: {}
  timeout:
    description:
      - Seconds without progress after which the upload fails, and seconds that Glance may then take to activate the image.
    type: int
    default: 900
extends_documentation_fragment:
  - hep.distcloud.openstack
  - hep.distcloud.attributes
"""

EXAMPLES = r"""
- name: Upload the worker image
  hep.distcloud.region_image:
    cloud: region-a
    name: distcloud-worker-trixie-0123456789ab
    path: /srv/images/worker.qcow2
    sha512: "{{ worker.sha512 }}"
    min_disk: 1
    properties:
      hw_disk_bus: virtio

- name: Remove an image
  hep.distcloud.region_image:
    cloud: region-a
    name: distcloud-worker-trixie-0123456789ab
    state: absent
"""

RETURN = r"""
image:
  description: The image afterwards (in check mode, as predicted); null if absent.
  returned: success
  type: dict
  contains:
    id:
      description: Id of the image. Missing in check mode if not created yet.
      type: str
    name:
      description: Name of the image.
      type: str
    sha512:
      description: Hash of its content.
      type: str
    visibility:
      description: Who can use it.
      type: str
    properties:
      description: Its further properties.
      type: dict
failure:
  description: What failed.
  returned: failure
  type: dict
  contains:
    service:
      description: The service.
      type: str
    code:
      description: HTTP status or a stable identifier.
      type: str
    details:
      description: Further data.
      type: dict
"""

import hashlib
import os
import time
import typing as t

from ..module_utils._core.module import Failure, ResourceModule
from ..module_utils._core.reconcile import DELETE, Plan
from ..module_utils._openstack.client import connect, openstack_argument_spec
from ..module_utils._openstack.transfer import patch_image, send_file

# Fields of an image in Glance besides its properties.
OWN_FIELDS = frozenset(
    [
        "id",
        "name",
        "status",
        "visibility",
        "owner",
        "checksum",
        "size",
        "virtual_size",
        "disk_format",
        "container_format",
        "min_disk",
        "min_ram",
        "protected",
        "os_hidden",
        "os_hash_algo",
        "os_hash_value",
        "created_at",
        "updated_at",
        "file",
        "self",
        "schema",
        "tags",
        "direct_url",
        "locations",
        "stores",
        "os_glance_importing_to_stores",
        "os_glance_failed_import",
        "owner_specified.openstack.object",
    ]
)
USABLE = ("active", "deactivated")


def shown(image: dict[str, t.Any], sha512: str | None) -> dict[str, t.Any]:
    """An image of Glance in the form of the module's options."""
    properties = {key: value for key, value in image.items() if key not in OWN_FIELDS}
    kept = ("id", "name", "visibility", "min_disk", "min_ram", "protected", "disk_format", "container_format")
    return dict({key: image.get(key) for key in kept}, sha512=sha512, tags=sorted(image.get("tags") or []), properties=properties)


def file_hash(path: str, algorithm: str) -> str:
    """Hash of a file, in pieces, as hexadecimal digits."""
    digest = hashlib.new(algorithm)
    with open(path, "rb") as stream:
        for piece in iter(lambda: stream.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


class RegionImage(ResourceModule):
    """The image, and left-overs of earlier uploads under its name."""

    service = "glance"
    result_key = "image"
    immutable = ("sha512", "disk_format", "container_format")

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return dict(
            openstack_argument_spec(),
            name={"type": "str", "required": True},
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
            path={"type": "path"},
            sha512={"type": "str"},
            disk_format={"type": "str", "default": "qcow2"},
            container_format={"type": "str", "default": "bare"},
            visibility={"type": "str", "choices": ["private", "shared", "community", "public"], "default": "private"},
            min_disk={"type": "int"},
            min_ram={"type": "int"},
            protected={"type": "bool"},
            tags={"type": "list", "elements": "str"},
            properties={"type": "dict", "default": {}},
            timeout={"type": "int", "default": 900},
        )

    @classmethod
    def constraints(cls) -> dict[str, t.Any]:
        return {"required_if": [("state", "present", ("path", "sha512"))]}

    def connect(self) -> None:
        self.client = connect(self.params)
        self.left_over: list[dict[str, t.Any]] = []

    def find(self, item: dict[str, t.Any]) -> dict[str, t.Any] | None:
        mine = self.client.me()["project_id"]
        images = [image for image in self.client.list("image", "/images", "images", name=item["name"]) if image.get("owner") == mine]
        if item["state"] == "absent":
            self.left_over = images
            return {"name": item["name"], "images": sorted(image["id"] for image in images)} if images else None
        usable = [image for image in images if image["status"] in USABLE]
        self.left_over = [image for image in images if image not in usable]
        same = sorted((image for image in usable if self.has_content(item, image)), key=lambda image: (image["created_at"], image["id"]))
        if same:
            # A second one with the same content is harmless; one that never became active makes the name ambiguous for others.
            return shown(same[0], item["sha512"])
        return shown(usable[0], usable[0].get("os_hash_value")) if usable else None

    def has_content(self, item: dict[str, t.Any], image: dict[str, t.Any]) -> bool:
        """Whether the image has the content of the file, by the hash that this Glance computes."""
        algorithm = image.get("os_hash_algo") or "sha512"
        if algorithm == "sha512":
            return image.get("os_hash_value") == item["sha512"].lower()
        return bool(image.get("os_hash_value") == file_hash(self.readable(item), algorithm))

    def readable(self, item: dict[str, t.Any]) -> str:
        path = str(item["path"])
        if not os.access(path, os.R_OK):
            raise Failure(f"path: file {path} does not exist or is not readable; build the image first", "file", "missing")
        return path

    def desired(self, item: dict[str, t.Any]) -> dict[str, t.Any] | None:
        if item["state"] == "absent":
            return None
        spec = self.given_options(item, "name", "disk_format", "container_format", "visibility", "min_disk", "min_ram", "protected")
        spec["sha512"] = item["sha512"].lower()
        if item["tags"] is not None:
            spec["tags"] = sorted(set(item["tags"]))
        if item["properties"]:
            spec["properties"] = {key: str(value) for key, value in item["properties"].items()}
        return spec

    def apply(self, item: dict[str, t.Any], plan: Plan) -> dict[str, t.Any] | None:
        if plan.action == DELETE or plan.before is None:
            for image in self.left_over:
                self.client.request("DELETE", "image", "/images/" + image["id"], allow=(404,))
        if plan.action == DELETE or plan.after is None:
            return None
        if plan.before is None:
            return self.upload(item, plan.after)
        image = plan.before["id"]
        patch_image(self.client, image, plan.before, plan.after)
        return shown(self.client.get("image", "/images/" + image), item["sha512"])

    def upload(self, item: dict[str, t.Any], after: dict[str, t.Any]) -> dict[str, t.Any]:
        path = self.readable(item)
        if file_hash(path, "sha512") != item["sha512"].lower():
            raise Failure(f"sha512: file {path} has another hash; build the image again", "file", "mismatch")
        # Protected only once it is active: else the next run could not delete the leftover of an interrupted upload.
        body = {key: value for key, value in after.items() if key not in ("sha512", "properties", "protected")}
        made = self.client.request("POST", "image", "/images", dict(after.get("properties") or {}, **body))
        try:
            send_file(self.client, made["id"], path, item["timeout"])
            image = self.wait_active(made["id"], item)
            if not self.has_content(item, image):
                raise Failure(
                    f"{item['name']}: the uploaded content has {image.get('os_hash_algo')} {image.get('os_hash_value')}, not that of the "
                    "file; the upload was removed, try again",
                    "glance",
                    "mismatch",
                )
        except Failure:
            self.client.request("DELETE", "image", "/images/" + made["id"], allow=(403, 404, 409))
            raise
        now = {"protected": image.get("protected")}
        desired = {key: value for key, value in after.items() if key in now}
        if dict(now, **desired) != now:
            try:
                patch_image(self.client, made["id"], now, desired)
                image = self.client.get("image", "/images/" + made["id"])
            except Failure as failure:
                failure.changed = True  # the image stays, and the next run protects it
                raise
        return shown(image, item["sha512"])

    def wait_active(self, image_id: str, item: dict[str, t.Any]) -> dict[str, t.Any]:
        deadline = time.monotonic() + item["timeout"]
        while True:
            image: dict[str, t.Any] = self.client.get("image", "/images/" + image_id)
            if image["status"] == "active":
                return image
            if image["status"] in ("killed", "deleted", "pending_delete") or time.monotonic() > deadline:
                raise Failure(
                    f"{item['name']}: status {image['status']} instead of active after the upload; see the log of Glance",
                    "glance",
                    image["status"],
                )
            time.sleep(0.5)


def main() -> None:
    RegionImage.main()


if __name__ == "__main__":
    main()
