#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: scheduler_metadata_info
short_description: Read cloud-init parts of the Cloud Scheduler
version_added: 0.1.0
description:
  - Reads the cloud-init parts of a group, or of one of its clouds.
  - Their C(content) is masked unless the token may change the group; C(content_bytes) is its length.
  - The list is empty if the object, its group or its cloud does not exist.
author:
  - The hep.distcloud authors (@hep-distcloud)
options:
  group:
    description:
      - Group that they belong to.
    type: str
    required: true
  cloud:
    description:
      - Cloud whose parts are read. Without it the group's own are.
    type: str
  name:
    description:
      - Name of the only one to read; by default all are read.
    type: str
extends_documentation_fragment:
  - hep.distcloud.scheduler
  - hep.distcloud.attributes.info
seealso:
  - module: hep.distcloud.scheduler_metadata
"""

EXAMPLES = r"""
- name: All cloud-init parts
  hep.distcloud.scheduler_metadata_info:
    api_url: https://central.example.org:8443
    api_token: "{{ scheduler_token }}"
    group: atlas
  register: found

- name: One of them
  hep.distcloud.scheduler_metadata_info:
    api_url: https://central.example.org:8443
    api_token: "{{ scheduler_token }}"
    group: atlas
    name: cvmfs
"""

RETURN = r"""
parts:
  description: The existing ones, in the scheduler's order.
  returned: success
  type: list
  elements: dict
failure:
  description: Structured form of the failure.
  returned: failure
  type: dict
  contains:
    service:
      description: The service that refused.
      type: str
      returned: always
      sample: scheduler
    code:
      description: HTTP status, or an identifier if there was no response.
      type: raw
      returned: always
      sample: 409
    details:
      description: Further data, such as the invalid fields.
      type: dict
      returned: always
"""

from ..module_utils._api.scheduler import SchedulerInfo


class SchedulerMetadataInfo(SchedulerInfo):
    result_key = "parts"
    parent_options = {"group": {"type": "str", "required": True}, "cloud": {"type": "str"}}

    def path(self) -> list[str]:
        cloud = ["clouds", self.params["cloud"]] if self.params["cloud"] else []
        return ["groups", self.params["group"], *cloud, "metadata"]


def main() -> None:
    SchedulerMetadataInfo.main()


if __name__ == "__main__":
    main()
