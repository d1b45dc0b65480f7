# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options by which modules reach the Cloud Scheduler."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  api_url:
    description:
      - URL of the Cloud Scheduler, without a path. It begins with C(https://), or with C(http://) if the service is on the host on which
        the module runs (C(http://127.0.0.1:PORT)); no proxy is used for the latter.
    type: str
    required: true
  api_token:
    description:
      - Bearer token for the API.
      - Reading needs the scope C(viewer), changing what belongs to a group C(group_admin) for this group. Creating and deleting groups, and
        enabling clouds, needs C(cloud_admin).
    type: str
    required: true
  ca_path:
    description:
      - File with the certificates of the authorities that the server's certificate is checked against.
      - Without it those of the machine on which the module runs are used.
    type: path
  validate_certs:
    description:
      - Whether the server's certificate is checked. Without the check, anyone on the network path can read the token.
    type: bool
    default: true
  timeout:
    description:
      - Seconds to wait for an answer to one request.
    type: int
    default: 30
attributes:
  action_group:
    description: Takes defaults from C(group/hep.distcloud.scheduler) in C(module_defaults).
    support: full
    membership:
      - hep.distcloud.scheduler
notes:
  - In check mode a scheduler that is not installed yet (the connection is refused, or the file in O(ca_path) does not exist) counts
    as an empty one, with a warning, so that a whole site can be checked before it is built.
"""
