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
          - The user's password. Whether it is in force is found out by a log-in.
        type: str
      password_file:
        description:
          - File on the machine where the module runs with the password in its first line; a file that is not there yet counts as no
            password.
        type: path
      roles:
        description: Names of the user's roles on the project; a role that is not listed is revoked from a user of ours.
        type: list
        elements: str
        default: [member]
      existing:
        description:
          - Whether somebody else made the user; then only roles are given. They are taken back in a project of ours alone, since in one of
            others it is unknown who granted them.
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
      - Flavors. Nova cannot change their sizes, so that a flavor of this name with another size is refused. Needs O(project).
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
        description: Whether somebody else made the network and it is used as it is.
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
        description: How the network lies on the physical one. Only for an admin of the region; cannot be changed later.
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
        description: Subnets of the network. A subnet that is not listed is left as it is.
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
            description: Address of the gateway; without it Neutron takes the first of the subnet.
            type: str
          enable_dhcp:
            description: Whether Neutron serves DHCP.
            type: bool
          allocation_pools:
            description: Ranges out of which servers get addresses.
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
        description: Whether everything may go out.
        type: bool
        default: true
      rules:
        description: What may come in, or go out where O(security_groups[].egress) is off.
        type: list
        elements: dict
        default: []
        suboptions:
          direction:
            description: Which way.
            type: str
            choices: [ingress, egress]
            default: ingress
          ethertype:
            description: Which Internet Protocol.
            type: str
            choices: [IPv4, IPv6]
            default: IPv4
          protocol:
            description: For example V(tcp), V(udp) or V(icmp); without it every protocol.
            type: str
          port_min:
            description: First port.
            type: int
          port_max:
            description: Last port; without it the first is the only one.
            type: int
          remote_ip_prefix:
            description: The other side's addresses; without it all.
            type: str
  images_of:
    description:
      - Name of a site whose images (those with this name in their property C(distcloud_owner)) are removed from the project with
        O(state=absent). They are made by M(hep.distcloud.region_image).
    type: str
  key_pairs:
    description:
      - Public keys that go into servers. A key pair of ours with another key is replaced; servers keep the key they were made with.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the key pair.
        type: str
        required: true
      public_key:
        description: The public key in OpenSSH's form.
        type: str
        required: true
"""
