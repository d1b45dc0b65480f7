#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: scheduler_cloud
short_description: Manage clouds of the Cloud Scheduler
version_added: 0.1.0
description:
  - Creates, changes and deletes clouds. A cloud is an account in an OpenStack region, as one group of the scheduler uses it.
  - A new cloud is disabled, and gets no workers until a cloud admin enables it. Redeployments keep that setting if O(enabled) is
    unset.
  - An unset option keeps its current value; at creation it takes the scheduler's default.
  - Secrets are compared by the scheduler, so that a run that gives the same ones changes nothing.
author:
  - The hep.distcloud authors (@hep-distcloud)
options:
  group:
    description:
      - Group that the cloud belongs to.
    type: str
    required: true
  name:
    description:
      - Name of the cloud within its group. Give this or O(clouds).
    type: str
  state:
    description: &state
      - Whether the cloud exists. One that still has VMs is not deleted.
    type: str
    choices: [present, absent]
    default: present
  driver: &driver
    description:
      - Kind of cloud. The scheduler's default is V(openstack).
    type: str
    choices: [openstack]
  region: &region
    description:
      - Name of the region in the cloud's catalog, of letters, digits, dots, underscores and hyphens. Needed at creation.
    type: str
  auth: &auth
    description:
      - The account, with the keys of C(clouds.yaml). Needed at creation.
      - Either an application credential, or a user with a project. Keys that are left out stay as they are.
      - A secret has to be given again together with another O(auth.auth_url), O(auth.username) or O(auth.application_credential_id).
    type: dict
    suboptions:
      auth_url:
        description: URL of Keystone, ending in C(/v3).
        type: str
      interface:
        description: Which endpoints of the catalog are used.
        type: str
        choices: [public, internal, admin]
      application_credential_id:
        description: Id of the application credential.
        type: str
      application_credential_secret:
        description: Its secret.
        type: str
      username:
        description: Name of the user.
        type: str
      password:
        description: Password of the user.
        type: str
      user_domain_name:
        description: Domain of the user. The scheduler's default is V(Default).
        type: str
      project_name:
        description: Name of the project.
        type: str
      project_id:
        description: Id of the project, instead of its name.
        type: str
      project_domain_name:
        description: Domain of the project. The scheduler's default is V(Default).
        type: str
  ca_certificate: &ca_certificate
    description:
      - PEM text with the authorities that the cloud's certificates are checked against, instead of the scheduler host's own.
    type: str
  credential_expires_at: &credential_expires_at
    description:
      - When the account ends, in ISO 8601, UTC where no zone is given. No workers are booted shortly before.
    type: str
  enabled: &enabled
    description:
      - Whether the cloud gets workers. Needs a token of scope C(cloud_admin).
      - If unset, it is not changed, and a new cloud is disabled.
    type: bool
  frozen: &frozen
    description:
      - Whether the cloud gets no new workers for the time being.
    type: bool
  priority: &priority
    description:
      - Clouds with a higher number are filled first.
    type: int
  max_vms: &max_vms
    description:
      - Most workers at a time.
    type: int
  max_cores: &max_cores
    description:
      - Most cores of all workers together.
    type: int
  max_ram_mib: &max_ram_mib
    description:
      - Most memory of all workers together, in MiB.
    type: int
  soft_max_vms: &soft_max_vms
    description:
      - No new workers once the project has this many servers, foreign ones included. Existing workers are not removed.
    type: int
  soft_max_cores: &soft_max_cores
    description:
      - The same for cores.
    type: int
  soft_max_ram_mib: &soft_max_ram_mib
    description:
      - The same for memory, in MiB.
    type: int
  default_flavor: &default_flavor
    description:
      - Flavor for jobs that name none, instead of the group's.
    type: str
  default_image: &default_image
    description:
      - Image for jobs that name none, instead of the group's.
    type: str
  flavor_exclusions: &flavor_exclusions
    description:
      - Names of flavors that are never used.
    type: list
    elements: str
  network: &network
    description:
      - Name or id of the workers' network. Not needed where the project has only one.
    type: str
  security_groups: &security_groups
    description:
      - Security groups of the workers.
    type: list
    elements: str
  keypair: &keypair
    description:
      - Key pair that can log in to workers.
    type: str
  attributes: &attributes
    description:
      - Further attributes that the workers' slots advertise, as text.
      - The mapping given replaces the one in place as a whole.
    type: dict
  drain: &drain
    description:
      - With O(state=absent), whether a cloud that still has VMs is frozen and its VMs are drained, so that they finish their jobs first.
      - The module does not wait for that. It fails with code 409 until the last VM is gone, so run it with C(until) and C(retries).
    type: bool
    default: false
  reset: &reset
    description:
      - Names of options to reset to the scheduler's defaults.
    type: list
    elements: str
    choices: [ca_certificate, credential_expires_at, frozen, priority, max_vms, max_cores, max_ram_mib, soft_max_vms, soft_max_cores,
              soft_max_ram_mib, default_flavor, default_image, flavor_exclusions, network, security_groups, keypair, attributes]
    default: []
  clouds:
    description:
      - Several clouds of the group in one call, each with the options above. Much faster than a loop of tasks.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name of the cloud within its group.
        type: str
        required: true
      state:
        description: *state
        type: str
        choices: [present, absent]
        default: present
      driver: *driver
      region: *region
      auth: *auth
      ca_certificate: *ca_certificate
      credential_expires_at: *credential_expires_at
      enabled: *enabled
      frozen: *frozen
      priority: *priority
      max_vms: *max_vms
      max_cores: *max_cores
      max_ram_mib: *max_ram_mib
      soft_max_vms: *soft_max_vms
      soft_max_cores: *soft_max_cores
      soft_max_ram_mib: *soft_max_ram_mib
      default_flavor: *default_flavor
      default_image: *default_image
      flavor_exclusions: *flavor_exclusions
      network: *network
      security_groups: *security_groups
      keypair: *keypair
      attributes: *attributes
      drain: *drain
      reset: *reset
extends_documentation_fragment:
  - hep.distcloud.scheduler
  - hep.distcloud.attributes
seealso:
  - module: hep.distcloud.scheduler_cloud_info
  - module: hep.distcloud.scheduler_group
  - module: hep.distcloud.region_credential
"""

EXAMPLES = r"""
- name: A region with an application credential
  hep.distcloud.scheduler_cloud:
    api_url: https://central.example.org:8443
    api_token: "{{ scheduler_token }}"
    group: atlas
    name: victoria
    region: Victoria
    auth:
      auth_url: https://keystone.victoria.example.org:5000/v3
      application_credential_id: 21dced0fd20347869b93710d2b98aae0
      application_credential_secret: "{{ victoria_secret }}"
    ca_certificate: "{{ lookup('ansible.builtin.file', 'victoria-ca.pem') }}"
    credential_expires_at: "2027-06-30T00:00:00Z"
    network: workers
    security_groups: [workers]
    max_vms: 50

- name: Enable it, once, with a cloud admin's token
  hep.distcloud.scheduler_cloud:
    api_url: https://central.example.org:8443
    api_token: "{{ scheduler_cloud_admin_token }}"
    group: atlas
    name: victoria
    enabled: true

- name: No more bound on its workers than the quota
  hep.distcloud.scheduler_cloud:
    api_url: https://central.example.org:8443
    api_token: "{{ scheduler_token }}"
    group: atlas
    name: victoria
    reset: [max_vms]

- name: Empty a cloud and delete it
  hep.distcloud.scheduler_cloud:
    api_url: https://central.example.org:8443
    api_token: "{{ scheduler_token }}"
    group: atlas
    name: victoria
    state: absent
    drain: true
  register: victoria_gone
  until: victoria_gone is success
  retries: 120
  delay: 30

- name: Two clouds in one call
  hep.distcloud.scheduler_cloud:
    api_url: https://central.example.org:8443
    api_token: "{{ scheduler_token }}"
    group: atlas
    clouds:
      - name: victoria
        priority: 10
      - name: toronto
        state: absent
"""

RETURN = r"""
cloud:
  description: The cloud afterwards (in check mode, as predicted), its secrets hidden; null if absent.
  returned: success, when O(name) is given
  type: dict
  sample:
    group: atlas
    name: victoria
    region: Victoria
    enabled: false
    auth:
      auth_type: v3applicationcredential
      auth_url: https://keystone.victoria.example.org:5000/v3
      application_credential_id: 21dced0fd20347869b93710d2b98aae0
      application_credential_secret: "********"
clouds:
  description: The clouds that exist afterwards, in the order given, their secrets hidden.
  returned: success, when O(clouds) is given
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
from ..module_utils._core.module import Failure
from ..module_utils._core.reconcile import DELETE, Plan

AUTH = {
    "auth_url": {"type": "str"},
    "interface": {"type": "str", "choices": ["public", "internal", "admin"]},
    "application_credential_id": {"type": "str"},
    "application_credential_secret": {"type": "str", "no_log": True},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "user_domain_name": {"type": "str"},
    "project_name": {"type": "str"},
    "project_id": {"type": "str"},
    "project_domain_name": {"type": "str"},
}

OPTIONS = {
    "driver": {"type": "str", "choices": ["openstack"]},
    "region": {"type": "str"},
    "auth": {"type": "dict", "options": AUTH},
    "ca_certificate": {"type": "str"},
    "credential_expires_at": {"type": "str"},
    "enabled": {"type": "bool"},
    "frozen": {"type": "bool"},
    "priority": {"type": "int"},
    "max_vms": {"type": "int"},
    "max_cores": {"type": "int"},
    "max_ram_mib": {"type": "int"},
    "soft_max_vms": {"type": "int"},
    "soft_max_cores": {"type": "int"},
    "soft_max_ram_mib": {"type": "int"},
    "default_flavor": {"type": "str"},
    "default_image": {"type": "str"},
    "flavor_exclusions": {"type": "list", "elements": "str"},
    "network": {"type": "str"},
    "security_groups": {"type": "list", "elements": "str"},
    "keypair": {"type": "str", "no_log": False},
    "attributes": {"type": "dict"},
}
NEVER_RESET = ("driver", "region", "auth", "enabled")


class SchedulerCloud(SchedulerResource):
    result_key = "cloud"
    plural_key = "clouds"
    fields = tuple(OPTIONS)
    secrets = ("auth.application_credential_secret", "auth.password")
    whole = ("attributes",)
    parent_options = {"group": {"type": "str", "required": True}}

    @classmethod
    def item_options(cls) -> dict[str, t.Any]:
        return dict(OPTIONS, drain={"type": "bool", "default": False})

    @classmethod
    def resettable(cls) -> list[str]:
        return [name for name in OPTIONS if name not in NEVER_RESET]

    def path(self, item: dict[str, t.Any]) -> list[str]:
        return ["groups", self.params["group"], "clouds", item["name"]]

    def plan(self, item: dict[str, t.Any]) -> Plan:
        try:
            return super().plan(item)
        except Failure as failure:
            if not self._to_drain(item, failure):
                raise
            return Plan(DELETE, before=self.find(item))

    def apply(self, item: dict[str, t.Any], plan: Plan) -> dict[str, t.Any] | None:
        try:
            return super().apply(item, plan)
        except Failure as failure:
            if not self._to_drain(item, failure):
                raise
            frozen = self.client.put(self.path(item), {"frozen": True}, dry_run=False)
            retired = self.client.post([*self.path(item), "retire"])
            raise Failure(
                f"cloud {self.params['group']}/{item['name']}: {retired['alive']} VMs are still finishing their jobs; run this again "
                "when they are gone",
                self.service,
                failure.code,
                {"type": "draining", "alive": retired["alive"]},
                changed=frozen["changed"] or retired["changed"],
            )

    def _to_drain(self, item: dict[str, t.Any], failure: Failure) -> bool:
        """Whether a deletion was refused only because of VMs that the user wants to retire."""
        return item["state"] == "absent" and item["drain"] and failure.details.get("type") == "vms-alive"


def main() -> None:
    SchedulerCloud.main()


if __name__ == "__main__":
    main()
