#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: scheduler_metadata
short_description: Manage cloud-init parts of workers
version_added: 0.1.0
description:
  - Creates, changes and deletes the cloud-init parts that the Cloud Scheduler gives to workers of a group, or of one of its clouds.
  - An unset option keeps its current value; at creation it takes the scheduler's default.
author:
  - The hep.distcloud authors (@hep-distcloud)
options:
  group:
    description:
      - Group whose workers get the part.
    type: str
    required: true
  cloud:
    description:
      - Cloud whose workers get the part; by default those of all the group's clouds.
    type: str
  name:
    description:
      - Name of the part. Give this or O(parts).
    type: str
  state:
    description: &state
      - Whether the part exists.
    type: str
    choices: [present, absent]
    default: present
  content: &content
    description:
      - The text, a template that sees C(cs_group_name), C(cs_cloud_name), C(cs_flavor) and the like, in Jinja's syntax with variables,
        C(if) and a few filters. Needed at creation.
      - Ansible renders its own templates first. Pass the text by a file lookup or protect it with C({% raw %}).
    type: str
  mime_type: &mime_type
    description:
      - One of cloud-init's types, such as V(cloud-config), V(cloud-boothook), V(x-shellscript) or V(text/x-include-url).
      - A script is V(x-shellscript), whose text begins with an interpreter line such as C(#!/bin/sh). A worker boots once;
        cloud-init's types of scripts per boot, per instance and once are refused.
      - The scheduler's default is V(cloud-config).
    type: str
  priority: &priority
    description:
      - Parts with a lower number come first; of the same number the group's before the cloud's, then by name. The scheduler's default is 0.
      - Scripts run in this order, then the commands of all parts' C(runcmd) in this order, then HTCondor is started.
    type: int
  enabled: &enabled
    description:
      - Whether workers get the part. The scheduler's default is true.
    type: bool
  excluded_clouds: &excluded_clouds
    description:
      - Clouds of the group whose workers do not get the part.
    type: list
    elements: str
  reset: &reset
    description:
      - Names of options to reset to the scheduler's defaults.
    type: list
    elements: str
    choices: [mime_type, priority, enabled, excluded_clouds]
    default: []
  parts:
    description:
      - Several parts in one call, each with the options above. Much faster than a loop of tasks.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name of the part.
        type: str
        required: true
      state:
        description: *state
        type: str
        choices: [present, absent]
        default: present
      content: *content
      mime_type: *mime_type
      priority: *priority
      enabled: *enabled
      excluded_clouds: *excluded_clouds
      reset: *reset
  purge:
    description:
      - Whether parts that O(parts) does not name are deleted. Parts of the other level (group or cloud) are not touched.
    type: bool
    default: false
extends_documentation_fragment:
  - hep.distcloud.scheduler
  - hep.distcloud.attributes
seealso:
  - module: hep.distcloud.scheduler_metadata_info
"""

EXAMPLES = r"""
- name: What all workers of the group get
  hep.distcloud.scheduler_metadata:
    api_url: https://central.example.org:8443
    api_token: "{{ scheduler_token }}"
    group: atlas
    name: cvmfs
    content: "{{ lookup('ansible.builtin.file', 'cvmfs.yml') }}"
    priority: 10

- name: Exactly these parts for one cloud, and no others
  hep.distcloud.scheduler_metadata:
    api_url: https://central.example.org:8443
    api_token: "{{ scheduler_token }}"
    group: atlas
    cloud: victoria
    purge: true
    parts:
      - name: proxy
        content: |
          write_files:
            - path: /etc/profile.d/proxy.sh
              content: export http_proxy=http://squid.victoria.example.org:3128
      - name: tune
        mime_type: x-shellscript
        content: |
          #!/bin/sh
          sysctl -w vm.swappiness=1
"""

RETURN = r"""
part:
  description: The part afterwards (in check mode, as predicted); null if absent.
  returned: success, when O(name) is given
  type: dict
  sample:
    group: atlas
    cloud: null
    name: cvmfs
    mime_type: cloud-config
    priority: 10
    enabled: true
    excluded_clouds: []
    content: "packages: [cvmfs]"
parts:
  description: The parts that exist afterwards, in the order given.
  returned: success, when O(parts) is given
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

import typing as t

from ..module_utils._api.client import NotListening
from ..module_utils._api.scheduler import SchedulerResource

OPTIONS = {
    "content": {"type": "str"},
    "mime_type": {"type": "str"},
    "priority": {"type": "int"},
    "enabled": {"type": "bool"},
    "excluded_clouds": {"type": "list", "elements": "str"},
}


class SchedulerMetadata(SchedulerResource):
    result_key = "part"
    plural_key = "parts"
    fields = tuple(OPTIONS)
    parent_options = {
        "group": {"type": "str", "required": True},
        "cloud": {"type": "str"},
        "purge": {"type": "bool", "default": False},
    }

    @classmethod
    def item_options(cls) -> dict[str, t.Any]:
        return OPTIONS

    @classmethod
    def resettable(cls) -> list[str]:
        return [name for name in OPTIONS if name != "content"]

    @classmethod
    def constraints(cls) -> dict[str, t.Any]:
        return dict(super().constraints(), required_if=[["purge", True, ["parts"]]])

    def extra_items(self) -> t.Iterable[dict[str, t.Any]]:
        if not self.params["purge"]:
            return []
        named = {item["name"] for item in self.params["parts"]}
        try:
            present = self.client.get_or_none(*self._parent()) or []
        except NotListening:
            present = []  # reported by the parts themselves already; only check mode gets here
        return [{"name": part["name"], "state": "absent"} for part in present if part["name"] not in named]

    def path(self, item: dict[str, t.Any]) -> list[str]:
        return [*self._parent(), item["name"]]

    def _parent(self) -> list[str]:
        cloud = ["clouds", self.params["cloud"]] if self.params["cloud"] else []
        return ["groups", self.params["group"], *cloud, "metadata"]


def main() -> None:
    SchedulerMetadata.main()


if __name__ == "__main__":
    main()
