# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options by which modules reach an OpenStack region, named as in openstack.cloud."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  cloud:
    description:
      - Name of the entry in C(clouds.yaml). The file is the one that E(OS_CLIENT_CONFIG_FILE) names, else the first of C(./clouds.yaml),
        C(~/.config/openstack/clouds.yaml) and C(/etc/openstack/clouds.yaml).
    type: str
  auth:
    description:
      - Login data, if there is no entry in C(clouds.yaml), for example C(auth_url), C(username), C(password), C(project_name)
        and their domains.
    type: dict
  auth_type:
    description:
      - How to log in, for example V(password) or V(v3applicationcredential).
    type: str
  region_name:
    description:
      - Name of the region, if the catalog has several.
    type: str
  validate_certs:
    description:
      - Whether the certificate of the region is checked. The default is the setting in C(clouds.yaml), or else to check it.
    type: bool
    aliases: [verify]
  ca_cert:
    description:
      - File with the certificates of the authorities that the region's certificate is checked against.
    type: path
    aliases: [cacert]
  interface:
    description:
      - Which of a service's addresses in the catalog is used.
    type: str
    choices: [public, internal, admin]
    default: public
    aliases: [endpoint_type]
  api_timeout:
    description:
      - Seconds to wait for an answer to one request. The default is the setting in C(clouds.yaml), or else 30.
    type: int
attributes:
  action_group:
    description: Takes defaults from C(group/hep.distcloud.region) in C(module_defaults).
    support: full
    membership:
      - hep.distcloud.region
requirements:
  - openstacksdk >= 4.0 on the machine where the module runs
"""
