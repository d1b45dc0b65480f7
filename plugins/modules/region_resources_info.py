#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lists what an account can use in an OpenStack region, and which expected resources are missing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: region_resources_info
short_description: Read what an account can use in an OpenStack region, and what is missing
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
description:
  - Reads what the account may use in its project, and compares it with what the site expects.
  - A site that is only a tenant learns from RV(region.missing) what to ask the region's admin for.
options:
  expected:
    description:
      - What the site expects.
    type: dict
    default: {}
    suboptions:
      flavors:
        description: Flavors with their sizes, in the form of the option of the same name of M(hep.distcloud.region_resources).
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Name of the flavor.
            type: str
            required: true
          vcpus:
            description: Number of virtual cores.
            type: int
            required: true
          ram:
            description: Memory in MiB.
            type: int
            required: true
          disk:
            description: Disk in GiB.
            type: int
            required: true
          public:
            description: Not compared.
            type: bool
            default: false
          extra_specs:
            description: Not compared, since a tenant may not see them.
            type: dict
          description:
            description: Not compared.
            type: str
            default: ""
      networks:
        description: Names of networks.
        type: list
        elements: str
        default: []
      quotas:
        description: Minimum quotas by service, with the names of the service's API.
        type: dict
        suboptions:
          compute:
            description: For example C(instances), C(cores), C(ram) (MiB).
            type: dict
          network:
            description: For example C(port).
            type: dict
      roles:
        description: Names of roles.
        type: list
        elements: str
        default: []
extends_documentation_fragment:
  - hep.distcloud.openstack
  - hep.distcloud.attributes.info
seealso:
  - module: hep.distcloud.region_resources
"""

EXAMPLES = r"""
- name: See what we lack in a region where we are only a tenant
  hep.distcloud.region_resources_info:
    cloud: other-lab
    expected:
      networks: [public]
      quotas:
        compute:
          instances: 20
"""

RETURN = r"""
region:
  description: What the account can use.
  returned: success
  type: dict
  contains:
    project_id:
      description: Id of the account's project.
      type: str
    roles:
      description: Names of the account's roles there.
      type: list
      elements: str
    flavors:
      description: Flavors that it may use, with id and sizes.
      type: list
      elements: dict
    networks:
      description: Networks that it may use, with id.
      type: list
      elements: dict
    quotas:
      description: Quotas by service.
      type: dict
    missing:
      description: What is expected but missing, each with C(kind), C(name) and in C(ask) what to ask the admin for.
      type: list
      elements: dict
"""

import typing as t

from ..module_utils._core.module import InfoModule
from ..module_utils._openstack.client import connect, openstack_argument_spec
from ..module_utils._region.options import STRINGS, flavor_options, listed, quota_options
from ..module_utils._region.rules import missing_resources, quota_limits


class RegionResourcesInfo(InfoModule):
    service = "openstack"
    result_key = "region"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        expected = {
            "flavors": listed(flavor_options(), default=[]),
            "networks": dict(STRINGS, default=[]),
            "quotas": quota_options(),
            "roles": dict(STRINGS, default=[]),
        }
        return {"expected": {"type": "dict", "default": {}, "options": expected}, **openstack_argument_spec()}

    def connect(self) -> None:
        self.limits = quota_limits("expected.quotas", self.params["expected"].get("quotas"))
        self.client = connect(self.params)

    def read(self) -> dict[str, t.Any]:
        me = self.client.me()
        project_id = str(me["project_id"])
        found: dict[str, t.Any] = {
            "project_id": project_id,
            "roles": sorted(me["roles"] or []),
            "flavors": [
                {key: raw[key] for key in ("name", "id", "vcpus", "ram", "disk")}
                for raw in self.client.list("compute", "/flavors/detail", "flavors")
            ],
            "networks": [
                {"name": raw["name"], "id": raw["id"], "shared": raw["shared"]}
                for raw in self.client.list("network", "/networks", "networks")
            ],
            "quotas": {
                "compute": self.client.get("compute", "/os-quota-sets/" + project_id)["quota_set"],
                "network": self.client.get("network", "/quotas/" + project_id)["quota"],
            },
        }
        expected = dict(self.params["expected"], quotas=self.limits)
        expected["networks"] = [{"name": name} for name in expected.get("networks") or []]
        return dict(found, missing=missing_resources(expected, found))


def main() -> None:
    RegionResourcesInfo.main()


if __name__ == "__main__":
    main()
