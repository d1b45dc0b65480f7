# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What to do about a lab host and what its files say, decided on plain data: no file is read and no command is run here.

Private to the collection: no promise is made to users outside of it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import typing as t

FORMAT = 1
LAB_NAME = re.compile(r"^[a-z][a-z0-9-]{0,19}$")
HOST_NAME = re.compile(r"^[a-z][a-z0-9-]{0,30}$")
CAPABILITY = re.compile(r"^(all|CAP_[A-Z_]+)$")
BRIDGE_ALIAS = "distcloud lab "
BLOCK_BEGIN = "# BEGIN distcloud lab"
BLOCK_END = "# END distcloud lab"

# What a host is found to be. "orphaned" is a host whose nspawn was killed while its init lives on; "stuck" one with processes but no init.
ABSENT, STOPPED, RUNNING, ORPHANED, STUCK = "absent", "stopped", "running", "orphaned", "stuck"

# Changing one of these needs a restart of the host: they are arguments of its start.
START_FIELDS = ("address", "bridge", "network", "provider_port", "capabilities", "devices", "nspawn_args")


class WishError(ValueError):
    """A wish that cannot be; says which host and field, and what to do."""


def check_lab_name(lab: str) -> None:
    if not LAB_NAME.fullmatch(lab):
        raise WishError("lab: %r; use up to 20 lower-case letters, digits and '-', starting with a letter" % lab)


class GuestFile(t.NamedTuple):
    """One file of a guest; ``block`` owns only a marked part of the file, ``secret`` is never shown."""

    path: str
    content: str
    mode: int = 0o644
    secret: bool = False
    block: bool = False


class Step(t.NamedTuple):
    """One thing to do to a host, and why."""

    action: str
    reason: str


def cgroup_name(lab: str, host: str) -> str:
    return "distcloud-lab-%s-%s" % (lab, host)


def machine_name(lab: str, host: str) -> str:
    return "%s-%s" % (lab, host)


def link_name(lab: str, host: str, port: str) -> str:
    """The outer end of a host's veth: 15 characters are all that Linux allows, so a digest; the link's alias says it in words."""
    return "dl%s%s" % (hashlib.sha256(("%s/%s" % (lab, host)).encode()).hexdigest()[:10], port[:3])


def table_name(lab: str) -> str:
    return "distcloud_lab_%s" % lab.replace("-", "_")


def bridge_alias(lab: str) -> str:
    """By what a bridge tells whose it is, also when the lab's record was lost."""
    return BRIDGE_ALIAS + lab


def bridge_owner(alias: str) -> str:
    """The lab that a bridge with this alias is of; empty for none."""
    return alias[len(BRIDGE_ALIAS) :] if alias.startswith(BRIDGE_ALIAS) else ""


def network_of(address: t.Mapping[str, t.Any]) -> str:
    """The network of an IPv4 address as `ip -json address` tells it."""
    return str(ipaddress.IPv4Interface("%s/%s" % (address["local"], address["prefixlen"])).network)


def bridge_mac(bridge: str) -> str:
    """A fixed address of the bridge; else it follows its ports and every guest's idea of the gateway goes stale."""
    digest = hashlib.sha256(("bridge/%s" % bridge).encode()).digest()
    return ":".join("%02x" % octet for octet in (b"\x02" + digest[:5]))


def check_network(network: str, gateway: str) -> ipaddress.IPv4Network:
    try:
        net = ipaddress.IPv4Network(network)
    except ValueError as error:
        raise WishError("network: %s is no IPv4 network (%s); write it like 10.203.0.0/24" % (network, error)) from error
    if ipaddress.IPv4Address(gateway) not in net:
        raise WishError("gateway: %s is not in the lab's network %s" % (gateway, network))
    return net


def normalise_hosts(hosts: t.Mapping[str, t.Any], network: str, gateway: str) -> dict[str, dict[str, t.Any]]:
    """The wished hosts with every field filled, or a WishError naming host and field."""
    net = check_network(network, gateway)
    known = {"address", "image", "provider_port", "capabilities", "devices", "aliases", "nspawn_args"}
    wishes: dict[str, dict[str, t.Any]] = {}
    taken: dict[str, str] = {gateway: "the gateway"}
    for name, spec in sorted(hosts.items()):
        if not HOST_NAME.match(name):
            raise WishError("hosts: %r is no host name; use lower-case letters, digits and '-', starting with a letter" % name)
        if not isinstance(spec, dict):
            raise WishError("hosts.%s: expected a mapping with at least address and image" % name)
        unknown = sorted(set(spec) - known)
        if unknown:
            raise WishError("hosts.%s: unknown field %s; known are %s" % (name, ", ".join(unknown), ", ".join(sorted(known))))
        address = str(spec.get("address") or "")
        try:
            inside = ipaddress.IPv4Address(address) in net
        except ValueError as error:
            raise WishError("hosts.%s.address: %r is no IPv4 address" % (name, address)) from error
        if not inside:
            raise WishError("hosts.%s.address: %s is outside of the lab's network %s" % (name, address, network))
        if address in taken:
            raise WishError("hosts.%s.address: %s already belongs to %s" % (name, address, taken[address]))
        taken[address] = name
        capabilities = list(spec.get("capabilities") or [])
        for capability in capabilities:
            if not CAPABILITY.match(str(capability)):
                raise WishError("hosts.%s.capabilities: %r; write 'all' or names like CAP_NET_ADMIN" % (name, capability))
        wishes[name] = {
            "address": address,
            "image": str(spec.get("image") or "base"),
            "provider_port": bool(spec.get("provider_port", False)),
            "capabilities": capabilities,
            "devices": list(spec.get("devices") or []),
            "aliases": list(spec.get("aliases") or []),
            "nspawn_args": list(spec.get("nspawn_args") or []),
        }
    return wishes


def clashes(records: t.Iterable[t.Mapping[str, t.Any]], lab: str, bridge: str, network: str) -> list[str]:
    """Names of the other labs that would be in the way of this one: same bridge, or networks that overlap."""
    net = ipaddress.IPv4Network(network)
    return sorted(
        record["lab"]
        for record in records
        if record["lab"] != lab and (record["bridge"] == bridge or ipaddress.IPv4Network(record["network"]).overlaps(net))
    )


def addresses_inside(links: t.Mapping[str, t.Mapping[str, t.Any]], network: str) -> list[str]:
    """The IPv4 addresses of links, as `ip -json address` tells them, that lie in a network: each with the name of its link."""
    net = ipaddress.IPv4Network(network)
    entries = [(name, entry) for name, link in sorted(links.items()) for entry in link.get("addr_info", [])]
    found = [(name, entry["local"]) for name, entry in entries if entry.get("family") == "inet"]
    return ["%s (%s)" % (address, name) for name, address in found if ipaddress.IPv4Address(address) in net]


def start_fields(wish: t.Mapping[str, t.Any], bridge: str, network: str) -> dict[str, t.Any]:
    """What a running host was started with, as kept in its record."""
    fields = dict(wish, bridge=bridge, network=network)
    return {name: fields[name] for name in START_FIELDS}


def plan_host(
    state: str,
    record: t.Optional[t.Mapping[str, t.Any]],
    wish: t.Mapping[str, t.Any],
    condition: str,
    links: str,
    recreate: bool = False,
) -> list[Step]:
    """The steps that bring one host to ``state`` (started, stopped, absent).

    ``record`` is what was written down when the host was made (None: there is none), ``links`` one of attached,
    detached (not in the bridge), missing. Steps are create, start, stop (orderly), kill, attach, destroy.
    """
    alive = condition in (RUNNING, ORPHANED, STUCK)
    if state == "absent":
        steps = [Step("kill", "it is to go")] if alive else []
        return steps + ([Step("destroy", "it is to go")] if record is not None else [])
    if state == "stopped":
        if condition == STUCK:
            return [Step("kill", "it has processes but no init")]
        return [Step("stop", "it is to stop")] if alive else []

    if record is None or recreate:
        why = "it is not there" if record is None else "it is to be made anew"
        steps = [Step("kill", "left over without a record" if record is None else why)] if alive else []
        if record is not None:
            steps.append(Step("destroy", why))
        return [*steps, Step("create", why), Step("start", why)]
    if condition == STUCK:
        return [Step("kill", "it has processes but no init"), Step("start", "it was half dead")]
    if condition == ORPHANED:
        return [Step("stop", "its supervisor is gone"), Step("start", "it was half dead")]
    if condition != RUNNING:
        return [Step("start", "it is not running")]
    wished, had = wish.get("start"), record.get("start")
    if wished != had:
        names = [name for name in START_FIELDS if (wished or {}).get(name) != (had or {}).get(name)]
        why = "%s changed" % ", ".join(names)
        return [Step("stop", why), Step("start", why)]
    if links == "missing":
        return [Step("stop", "its network link is gone"), Step("start", "its network link is gone")]
    if links == "detached":
        return [Step("attach", "it is not connected to the bridge")]
    return []


def merge_block(current: str, block: str) -> str:
    """``current`` with the marked part replaced by ``block``, appended where there was none; everything else stays."""
    wanted = "%s\n%s%s\n" % (BLOCK_BEGIN, block, BLOCK_END)
    pattern = re.compile("^%s\n.*?^%s\n" % (re.escape(BLOCK_BEGIN), re.escape(BLOCK_END)), re.S | re.M)
    if pattern.search(current):
        return pattern.sub(lambda match: wanted, current, count=1)
    if current and not current.endswith("\n"):
        current += "\n"
    return current + wanted


def host_lines(addresses: t.Mapping[str, t.Mapping[str, t.Any]], domain: str, gateway: str) -> str:
    """Lines of /etc/hosts for all hosts of the lab: full name first, so that `hostname -f` says it."""
    lines = ["%s gateway.%s gateway" % (gateway, domain)]
    for name, host in sorted(addresses.items(), key=lambda pair: ipaddress.IPv4Address(pair[1]["address"])):
        lines.append(" ".join([host["address"], "%s.%s" % (name, domain), name, *list(host.get("aliases") or [])]))
    return "\n".join(lines) + "\n"


def usable_resolvers(text: str) -> bool:
    """Whether a resolv.conf helps a guest: a resolver on the outer machine's loopback does not."""
    servers = re.findall(r"^\s*nameserver\s+(\S+)", text, re.M)
    return bool(servers) and not any(server.startswith("127.") or server == "::1" for server in servers)


def pip_configuration(outer: str, environment: t.Mapping[str, str]) -> str:
    """pip.conf for the guests out of the outer machine's own and its PIP_* variables; empty where neither says anything."""
    options = ("index-url", "extra-index-url", "trusted-host", "cert", "timeout")
    names = {"timeout": "PIP_DEFAULT_TIMEOUT"}
    found: dict[str, str] = {}
    for line in outer.splitlines():
        match = re.match(r"^\s*([a-z-]+)\s*=\s*(\S.*?)\s*$", line)
        if match and match.group(1) in options:
            found[match.group(1)] = match.group(2)
    for option in options:
        value = environment.get(names.get(option, "PIP_" + option.replace("-", "_").upper()), "")
        if value:
            found[option] = value
    # A certificate file of the outer machine's own is not there in a guest; the system's bundle is, and has the same authorities.
    if "cert" in found:
        found["cert"] = "/etc/ssl/certs/ca-certificates.crt"
    return "[global]\n" + "".join("%s = %s\n" % pair for pair in sorted(found.items())) if found else ""


def guest_files(
    name: str,
    wish: t.Mapping[str, t.Any],
    outer: t.Mapping[str, t.Any],
    hosts_block: str,
    keys: t.Optional[t.Mapping[str, str]],
) -> list[GuestFile]:
    """The files that the lab keeps in a guest. ``keys`` is None where the host's own keys are not made yet (check mode)."""
    prefix = ipaddress.IPv4Network(outer["network"]).prefixlen
    files = [
        GuestFile("/etc/hostname", name + "\n"),
        GuestFile("/etc/hosts", hosts_block, block=True),
        GuestFile("/etc/resolv.conf", outer["resolv_conf"]),
        GuestFile(
            "/etc/systemd/network/10-host0.network",
            "[Match]\nName=host0\n\n[Network]\nAddress=%s/%d\nGateway=%s\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n"
            % (wish["address"], prefix, outer["gateway"]),
        ),
        GuestFile("/root/.ssh/authorized_keys", outer["authorized_keys"], 0o600),
        GuestFile("/home/lab/.ssh/authorized_keys", outer["authorized_keys"], 0o600),
    ]
    if wish["provider_port"]:
        files.append(
            GuestFile(
                "/etc/systemd/network/20-ex0.network",
                "[Match]\nName=ex0\n\n[Link]\nRequiredForOnline=no\n\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
            )
        )
    proxies = {key: value for key, value in sorted((outer.get("proxy") or {}).items()) if value}
    lines = [
        'Acquire::%s::Proxy "%s";\n' % (key[: -len("_proxy")], value)
        for key, value in proxies.items()
        if key in ("http_proxy", "https_proxy")
    ]
    # Empty where the machine has no index or proxy of its own any more: a host that was made with one has to forget it.
    files.append(GuestFile("/etc/pip.conf", outer.get("pip_conf") or "", secret=True))
    files.append(GuestFile("/etc/environment", "".join('%s="%s"\n' % pair for pair in proxies.items()), secret=True))
    files.append(GuestFile("/etc/apt/apt.conf.d/91lab-proxy", "".join(lines), secret=True))
    if keys is not None:
        files.append(GuestFile("/etc/machine-id", keys["machine_id"] + "\n", 0o444))
        files.append(GuestFile("/etc/ssh/ssh_host_ed25519_key", keys["private"], 0o600, secret=True))
        files.append(GuestFile("/etc/ssh/ssh_host_ed25519_key.pub", keys["public"] + "\n"))
    return files


def nspawn_arguments(lab: str, name: str, wish: t.Mapping[str, t.Any], root: str, present_devices: t.Iterable[str]) -> list[str]:
    """The command line of a host's systemd-nspawn."""
    arguments = [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        "--register=no",
        "--keep-unit",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--directory=%s" % root,
        "--machine=%s" % machine_name(lab, name),
        "--hostname=%s" % name,
        "--network-veth-extra=%s:host0" % link_name(lab, name, "h"),
    ]
    if wish["provider_port"]:
        arguments.append("--network-veth-extra=%s:ex0" % link_name(lab, name, "x"))
    if wish["capabilities"]:
        arguments.append("--capability=%s" % ",".join(wish["capabilities"]))
    arguments += ["--bind=%s" % device for device in wish["devices"] if device in set(present_devices)]
    return arguments + list(wish["nspawn_args"])


def nat_rules(lab: str, network: str) -> str:
    """The table that lets guests out: everything from the lab's network to elsewhere leaves under the outer machine's address."""
    return (
        "table ip %s {\n\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n"
        "\t\tip saddr %s ip daddr != %s masquerade\n\t}\n}\n"
    ) % (table_name(lab), network, network)


def known_hosts(hosts: t.Mapping[str, t.Mapping[str, t.Any]], domain: str) -> str:
    """known_hosts of the lab, out of the keys that were made for its hosts."""
    lines = []
    for name, host in sorted(hosts.items()):
        if host.get("host_key"):
            key = " ".join(host["host_key"].split()[:2])
            lines.append("%s,%s.%s,%s %s" % (name, name, domain, host["address"], key))
    return "".join(line + "\n" for line in lines)
