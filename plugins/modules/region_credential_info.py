#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lists our application credentials of an account in a region."""

from __future__ import annotations

DOCUMENTATION = r"""
module: region_credential_info
short_description: List the site's application credentials in an OpenStack region
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
description:
  - Lists the account's application credentials that M(hep.distcloud.region_credential) created, without their secrets.
options:
  name:
    description:
      - Name of a service; without it those of all services are listed.
    type: str
  ownership_tag:
    description:
      - The ownership tag.
    type: str
    default: distcloud
extends_documentation_fragment:
  - hep.distcloud.openstack
  - hep.distcloud.attributes.info
seealso:
  - module: hep.distcloud.region_credential
"""

EXAMPLES = r"""
- name: List credentials and their expiry dates
  hep.distcloud.region_credential_info:
    cloud: region-a
"""

RETURN = r"""
credentials:
  description: The credentials, by service and age.
  returned: success
  type: list
  elements: dict
  contains:
    service:
      description: The service that uses it.
      type: str
    name:
      description: Its name in Keystone.
      type: str
    id:
      description: Its id.
      type: str
    generation:
      description: The number in its name; a rotation adds one.
      type: int
    expires_at:
      description: When it expires (UTC); none for never.
      type: str
    roles:
      description: Names of its roles.
      type: list
      elements: str
    access_rules:
      description: Calls that it allows; empty if no rules limit it.
      type: list
      elements: dict
"""

import re
import typing as t

from ..module_utils._core.module import InfoModule
from ..module_utils._openstack.client import connect, openstack_argument_spec
from ..module_utils._region.rules import is_ours


class RegionCredentialInfo(InfoModule):
    service = "keystone"
    result_key = "credentials"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {"name": {"type": "str"}, "ownership_tag": {"type": "str", "default": "distcloud"}, **openstack_argument_spec()}

    def connect(self) -> None:
        self.client = connect(self.params)

    def read(self) -> list[dict[str, t.Any]]:
        path = f"/users/{self.client.me()['user_id']}/application_credentials"
        found = []
        for entry in self.client.list("identity", path, "application_credentials"):
            form = re.match(f"^{re.escape(self.params['ownership_tag'])}-(.+)-([0-9]+)$", entry["name"])
            if not form or not is_ours(entry.get("description"), self.params["ownership_tag"]):
                continue
            if self.params["name"] not in (None, form.group(1)):
                continue
            found.append(
                {
                    "service": form.group(1),
                    "name": entry["name"],
                    "id": entry["id"],
                    "generation": int(form.group(2)),
                    "expires_at": entry.get("expires_at"),
                    "roles": sorted(role["name"] for role in entry.get("roles") or []),
                    "access_rules": [
                        {"service": rule["service"], "method": rule["method"], "path": rule["path"]}
                        for rule in entry.get("access_rules") or []
                    ],
                }
            )
        return sorted(found, key=lambda one: (one["service"], one["generation"]))


def main() -> None:
    RegionCredentialInfo.main()


if __name__ == "__main__":
    main()
