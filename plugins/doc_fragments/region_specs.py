# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options in which a region's users, quotas, flavors, networks, security groups and key pairs are described."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  users:
    description:
      - Users of the project. Needs O(project).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the user.
        type: str
        required: true
      domain:
        description: Name of the user's domain, if it is not the project's.
        type: str
      description:
        description: What the user is for.
        type: str
        default: ""
      password:
        description:
          - The user's password. The module logs in to check it.
        type: str
      password_file:
        description:
          - File on the machine where the module runs with the password in its first line; a missing file counts as no
            password.
        type: path
      roles:
        description: Names of the user's roles on the project; a role that is not listed is revoked from a user of ours.
        type: list
        elements: str
        default: [member]
      existing:
        description:
          - Whether the user is managed elsewhere; then only roles are granted. They are revoked only in a project of ours, since in a
            foreign project it is unknown who granted them.
        type: bool
        default: false
  quotas:
    description:
      - Limits of the project by service, with the names of the service's API. V(-1) is unlimited. Needs O(project).
    type: dict
    suboptions:
      compute:
        description: For example C(instances), C(cores), C(ram) (MiB), C(key_pairs).
        type: dict
      network:
        description: For example C(port), C(network), C(security_group).
        type: dict
  flavors:
    description:
      - Flavors. Nova cannot change their sizes, so a flavor of this name with another size is refused. Needs O(project).
    type: list
    elements: dict
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
        description: Whether every project may use it; otherwise only O(project) may.
        type: bool
        default: false
      extra_specs:
        description: Extra specs, exactly these.
        type: dict
      description:
        description: What the flavor is for.
        type: str
        default: ""
  networks:
    description:
      - Networks with their subnets.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the network.
        type: str
        required: true
      existing:
        description: Whether the network is managed elsewhere; then it is used, but not changed.
        type: bool
        default: false
      description:
        description: What the network is for.
        type: str
        default: ""
      shared:
        description: Whether every project may use it.
        type: bool
      mtu:
        description: Largest packet in bytes.
        type: int
      port_security_enabled:
        description: Whether Neutron filters spoofed addresses and applies security groups.
        type: bool
      provider:
        description: How the network maps to a physical network. Only for an admin of the region; cannot be changed later.
        type: dict
        suboptions:
          type:
            description: For example V(flat) or V(vlan).
            type: str
          physical_network:
            description: Name of the physical network in the region's configuration.
            type: str
          segmentation_id:
            description: VLAN id or the like.
            type: int
      subnets:
        description: Subnets of the network. Other subnets of the network are not changed.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Name of the subnet.
            type: str
            required: true
          cidr:
            description: Its addresses, for example V(10.203.0.0/24). Cannot be changed later.
            type: str
            required: true
          gateway_ip:
            description: Address of the gateway; by default the first of the subnet.
            type: str
          enable_dhcp:
            description: Whether Neutron serves DHCP.
            type: bool
          allocation_pools:
            description: Address ranges for servers.
            type: list
            elements: dict
            suboptions:
              start:
                description: First address.
                type: str
                required: true
              end:
                description: Last address.
                type: str
                required: true
          dns_nameservers:
            description: Addresses of name servers.
            type: list
            elements: str
          description:
            description: What the subnet is for.
            type: str
            default: ""
  routers:
    description:
      - Routers to an outer network.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the router.
        type: str
        required: true
      external_network:
        description: Name of the outer network.
        type: str
        required: true
      subnets:
        description: Names of the subnets that it serves, exactly these.
        type: list
        elements: str
        required: true
      description:
        description: What the router is for.
        type: str
        default: ""
  security_groups:
    description:
      - Security groups with exactly the listed rules.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the group.
        type: str
        required: true
      description:
        description: What the group is for.
        type: str
        default: ""
      egress:
        description: Whether all outgoing traffic is allowed.
        type: bool
        default: true
      rules:
        description: Incoming traffic to allow, and outgoing traffic if O(security_groups[].egress) is false.
        type: list
        elements: dict
        default: []
        suboptions:
          direction:
            description: Direction of the traffic.
            type: str
            choices: [ingress, egress]
            default: ingress
          ethertype:
            description: IP version.
            type: str
            choices: [IPv4, IPv6]
            default: IPv4
          protocol:
            description: For example V(tcp), V(udp) or V(icmp); by default every protocol.
            type: str
          port_min:
            description: First port.
            type: int
          port_max:
            description: Last port; by default the first one.
            type: int
          remote_ip_prefix:
            description: Addresses of the peer; by default all.
            type: str
  images_of:
    description:
      - Name of a site whose images (those with this name in their property C(distcloud_owner)) are removed from the project with
        O(state=absent). M(hep.distcloud.region_image) creates them.
    type: str
  key_pairs:
    description:
      - Public keys for logging in to servers. A key pair of ours with another key is replaced; existing servers keep the old key.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the key pair.
        type: str
        required: true
      public_key:
        description: The public key in OpenSSH format.
        type: str
        required: true
"""
