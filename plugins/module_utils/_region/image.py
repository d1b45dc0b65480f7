# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images that a site uploaded into its project: here only removed together with the project; the role worker_image creates them.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import typing as t

from .._core.reconcile import Plan
from .kind import Kind, Spec, State

OWNER = "distcloud_owner"  # the property in which each of our images names its site


class Images(Kind):
    """All images of one site in the project, as one resource that exists or not."""

    label = "images of"
    service = "glance"

    def find(self, spec: Spec) -> State:
        project_id = self.context.project_id() if self.context.project is not None else self.client.me()["project_id"]
        if not project_id:
            return None
        found = self.client.list("image", "/images", "images", owner=project_id, **{OWNER: spec["name"]})
        ours = {image["id"]: image.get("name") or "" for image in found if image.get(OWNER) == spec["name"]}
        return {"name": spec["name"], "images": ours} if ours else None

    def desired(self, spec: Spec) -> State:
        return {"name": spec["name"]}

    def apply(self, spec: Spec, plan: Plan) -> State:
        before: dict[str, t.Any] = plan.before or {}
        for image_id in before["images"]:
            self.client.request("DELETE", "image", "/images/" + image_id, allow=(404,))
        return None
