#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: scheduler_group
short_description: Manage groups of the Cloud Scheduler
version_added: 0.1.0
description:
  - Creates, changes and deletes groups, the tenants of the Cloud Scheduler. Jobs of a group run on workers in the group's clouds.
  - An unset option keeps its current value; at creation it takes the scheduler's default.
author:
  - The hep.distcloud authors (@hep-distcloud)
options:
  name:
    description:
      - Name of the group. Give this or O(groups).
    type: str
  state:
    description: &state
      - Whether the group exists. One that still has clouds is not deleted.
    type: str
    choices: [present, absent]
    default: present
  keep_alive: &keep_alive
    description:
      - Seconds for which a worker without jobs is kept.
      - The scheduler's default is 300.
    type: int
  default_flavor: &default_flavor
    description:
      - Flavor for jobs that name none. By default the smallest that fits.
    type: str
  default_image: &default_image
    description:
      - Image for jobs that name none.
    type: str
  aliases: &aliases
    description:
      - Lists of clouds under a name that jobs can ask for as C(target_alias).
      - The mapping given replaces the one in place as a whole.
    type: dict
  reset: &reset
    description:
      - Names of options to reset to the scheduler's defaults.
    type: list
    elements: str
    choices: [keep_alive, default_flavor, default_image, aliases]
    default: []
  groups:
    description:
      - Several groups in one call, each with the options above. Much faster than a loop of tasks.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name of the group.
        type: str
        required: true
      state:
        description: *state
        type: str
        choices: [present, absent]
        default: present
      keep_alive: *keep_alive
      default_flavor: *default_flavor
      default_image: *default_image
      aliases: *aliases
      reset: *reset
extends_documentation_fragment:
  - hep.distcloud.scheduler
  - hep.distcloud.attributes
seealso:
  - module: hep.distcloud.scheduler_group_info
  - module: hep.distcloud.scheduler_cloud
"""

EXAMPLES = r"""
- name: A group for the ATLAS experiment
  hep.distcloud.scheduler_group:
    api_url: https://central.example.org:8443
    api_token: "{{ scheduler_token }}"
    name: atlas
    keep_alive: 600
    default_image: worker
    aliases:
      europe: [cern, desy]

- name: Two groups in one call, and one that is no more
  hep.distcloud.scheduler_group:
    api_url: https://central.example.org:8443
    api_token: "{{ scheduler_token }}"
    groups:
      - name: belle2
      - name: babar
        default_flavor: m1.large
      - name: old
        state: absent
"""

RETURN = r"""
group:
  description: The group afterwards (in check mode, as predicted); null if absent.
  returned: success, when O(name) is given
  type: dict
  sample:
    name: atlas
    keep_alive: 600
    default_flavor: null
    default_image: worker
    aliases:
      europe: [cern, desy]
groups:
  description: The groups that exist afterwards, in the order given.
  returned: success, when O(groups) is given
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

from ..module_utils._api.scheduler import SchedulerResource


class SchedulerGroup(SchedulerResource):
    result_key = "group"
    plural_key = "groups"
    fields = ("keep_alive", "default_flavor", "default_image", "aliases")
    whole = ("aliases",)

    @classmethod
    def item_options(cls) -> dict[str, t.Any]:
        return {
            "keep_alive": {"type": "int"},
            "default_flavor": {"type": "str"},
            "default_image": {"type": "str"},
            "aliases": {"type": "dict"},
        }

    @classmethod
    def resettable(cls) -> list[str]:
        return ["keep_alive", "default_flavor", "default_image", "aliases"]

    def path(self, item: dict[str, t.Any]) -> list[str]:
        return ["groups", item["name"]]


def main() -> None:
    SchedulerGroup.main()


if __name__ == "__main__":
    main()
