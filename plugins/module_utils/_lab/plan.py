# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans the steps for a lab host and the content of its files on plain data: no file is read and no command is run here.

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

# Conditions of a host. "orphaned" is a host whose nspawn was killed while its init lives on; "stuck" one with processes but no init.
ABSENT, STOPPED, RUNNING, ORPHANED, STUCK = "absent", "stopped", "running", "orphaned", "stuck"

# Changing one of these needs a restart of the host: they are arguments of its start.
START_FIELDS = ("address", "bridge", "network", "provider_port", "capabilities", "devices", "nspawn_args")


class SpecError(ValueError):
    """An invalid spec; the message names host and field, and what to do."""


def check_lab_name(lab: str) -> None:
    if not LAB_NAME.fullmatch(lab):
        raise SpecError(f"lab: {lab!r}; use up to 20 lower-case letters, digits and '-', starting with a letter")


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
    return f"distcloud-lab-{lab}-{host}"


def machine_name(lab: str, host: str) -> str:
    return f"{lab}-{host}"


def link_name(lab: str, host: str, port: str) -> str:
    """The outer end of a host's veth: 15 characters are all that Linux allows, so a digest; the link's alias has the full names."""
    return f"dl{hashlib.sha256(f'{lab}/{host}'.encode()).hexdigest()[:10]}{port[:3]}"


def table_name(lab: str) -> str:
    return f"distcloud_lab_{lab.replace('-', '_')}"


def bridge_alias(lab: str) -> str:
    """The alias by which a bridge's owner is known, even if the lab's record was lost."""
    return BRIDGE_ALIAS + lab


def bridge_owner(alias: str) -> str:
    """The lab that a bridge with this alias is of; empty for none."""
    return alias[len(BRIDGE_ALIAS) :] if alias.startswith(BRIDGE_ALIAS) else ""


def network_of(address: t.Mapping[str, t.Any]) -> str:
    """The network of an IPv4 address as `ip -json address` prints it."""
    return str(ipaddress.IPv4Interface(f"{address['local']}/{address['prefixlen']}").network)


def bridge_mac(bridge: str) -> str:
    """A fixed address of the bridge; else it follows its ports and every guest's idea of the gateway goes stale."""
    digest = hashlib.sha256((f"bridge/{bridge}").encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (b"\x02" + digest[:5]))


def check_network(network: str, gateway: str) -> ipaddress.IPv4Network:
    try:
        net = ipaddress.IPv4Network(network)
    except ValueError as error:
        raise SpecError(f"network: {network} is not an IPv4 network ({error}); write it like 10.203.0.0/24") from error
    if ipaddress.IPv4Address(gateway) not in net:
        raise SpecError(f"gateway: {gateway} is not in the lab's network {network}")
    return net


def normalize_hosts(hosts: t.Mapping[str, t.Any], network: str, gateway: str) -> dict[str, dict[str, t.Any]]:
    """The specs of the hosts with every field filled, or a SpecError naming host and field."""
    net = check_network(network, gateway)
    known = {"address", "image", "provider_port", "capabilities", "devices", "aliases", "nspawn_args"}
    specs: dict[str, dict[str, t.Any]] = {}
    taken: dict[str, str] = {gateway: "the gateway"}
    for name, given in sorted(hosts.items()):
        if not HOST_NAME.match(name):
            raise SpecError(f"hosts: {name!r} is not a valid host name; use lower-case letters, digits and '-', starting with a letter")
        if not isinstance(given, dict):
            raise SpecError(f"hosts.{name}: expected a mapping with at least address and image")
        unknown = sorted(set(given) - known)
        if unknown:
            raise SpecError(f"hosts.{name}: unknown field {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        address = str(given.get("address") or "")
        try:
            inside = ipaddress.IPv4Address(address) in net
        except ValueError as error:
            raise SpecError(f"hosts.{name}.address: {address!r} is not an IPv4 address") from error
        if not inside:
            raise SpecError(f"hosts.{name}.address: {address} is outside of the lab's network {network}")
        if address in taken:
            raise SpecError(f"hosts.{name}.address: {address} already belongs to {taken[address]}")
        taken[address] = name
        capabilities = list(given.get("capabilities") or [])
        for capability in capabilities:
            if not CAPABILITY.match(str(capability)):
                raise SpecError(f"hosts.{name}.capabilities: {capability!r}; write 'all' or names like CAP_NET_ADMIN")
        specs[name] = {
            "address": address,
            "image": str(given.get("image") or "base"),
            "provider_port": bool(given.get("provider_port", False)),
            "capabilities": capabilities,
            "devices": list(given.get("devices") or []),
            "aliases": list(given.get("aliases") or []),
            "nspawn_args": list(given.get("nspawn_args") or []),
        }
    return specs


def clashes(records: t.Iterable[t.Mapping[str, t.Any]], lab: str, bridge: str, network: str) -> list[str]:
    """Names of the other labs that conflict with this one: same bridge, or networks that overlap."""
    net = ipaddress.IPv4Network(network)
    return sorted(
        record["lab"]
        for record in records
        if record["lab"] != lab and (record["bridge"] == bridge or ipaddress.IPv4Network(record["network"]).overlaps(net))
    )


def addresses_inside(links: t.Mapping[str, t.Mapping[str, t.Any]], network: str) -> list[str]:
    """The IPv4 addresses of links, as `ip -json address` prints them, inside a network: each with the name of its link."""
    net = ipaddress.IPv4Network(network)
    entries = [(name, entry) for name, link in sorted(links.items()) for entry in link.get("addr_info", [])]
    found = [(name, entry["local"]) for name, entry in entries if entry.get("family") == "inet"]
    return [f"{address} ({name})" for name, address in found if ipaddress.IPv4Address(address) in net]


def start_fields(spec: t.Mapping[str, t.Any], bridge: str, network: str) -> dict[str, t.Any]:
    """What a running host was started with, as kept in its record."""
    fields = dict(spec, bridge=bridge, network=network)
    return {name: fields[name] for name in START_FIELDS}


def plan_host(
    state: str,
    record: t.Mapping[str, t.Any] | None,
    spec: t.Mapping[str, t.Any],
    condition: str,
    links: str,
    recreate: bool = False,
) -> list[Step]:
    """The steps that bring one host to ``state`` (started, stopped, absent).

    ``record`` is what was written down when the host was made (None if it was not made), ``links`` one of attached,
    detached (not in the bridge), missing. Steps are create, start, stop (orderly), kill, attach, destroy.
    """
    alive = condition in (RUNNING, ORPHANED, STUCK)
    if state == "absent":
        steps = [Step("kill", "it is removed")] if alive else []
        return steps + ([Step("destroy", "it is removed")] if record is not None else [])
    if state == "stopped":
        if condition == STUCK:
            return [Step("kill", "it has processes but no init")]
        return [Step("stop", "it is stopped")] if alive else []

    if record is None or recreate:
        why = "it does not exist" if record is None else "it is recreated"
        steps = [Step("kill", "left over without a record" if record is None else why)] if alive else []
        if record is not None:
            steps.append(Step("destroy", why))
        return [*steps, Step("create", why), Step("start", why)]
    if condition == STUCK:
        return [Step("kill", "it has processes but no init"), Step("start", "it was only partly running")]
    if condition == ORPHANED:
        return [Step("stop", "its supervisor is gone"), Step("start", "it was only partly running")]
    if condition != RUNNING:
        return [Step("start", "it is not running")]
    desired, had = spec.get("start"), record.get("start")
    if desired != had:
        names = [name for name in START_FIELDS if (desired or {}).get(name) != (had or {}).get(name)]
        why = f"{', '.join(names)} changed"
        return [Step("stop", why), Step("start", why)]
    if links == "missing":
        return [Step("stop", "its network link is gone"), Step("start", "its network link is gone")]
    if links == "detached":
        return [Step("attach", "it is not connected to the bridge")]
    return []


def merge_block(current: str, block: str) -> str:
    """``current`` with the marked part replaced by ``block``, appended where there was none; everything else stays."""
    wanted = f"{BLOCK_BEGIN}\n{block}{BLOCK_END}\n"
    pattern = re.compile(f"^{re.escape(BLOCK_BEGIN)}\n.*?^{re.escape(BLOCK_END)}\n", re.S | re.M)
    if pattern.search(current):
        return pattern.sub(lambda match: wanted, current, count=1)
    if current and not current.endswith("\n"):
        current += "\n"
    return current + wanted


def host_lines(addresses: t.Mapping[str, t.Mapping[str, t.Any]], domain: str, gateway: str) -> str:
    """Lines of /etc/hosts for all hosts of the lab: full name first, so that `hostname -f` prints it."""
    lines = [f"{gateway} gateway.{domain} gateway"]
    for name, host in sorted(addresses.items(), key=lambda pair: ipaddress.IPv4Address(pair[1]["address"])):
        lines.append(" ".join([host["address"], f"{name}.{domain}", name, *list(host.get("aliases") or [])]))
    return "\n".join(lines) + "\n"


def has_usable_resolver(text: str) -> bool:
    """Whether a resolv.conf helps a guest: a resolver on the outer machine's loopback does not."""
    servers = re.findall(r"^\s*nameserver\s+(\S+)", text, re.M)
    return bool(servers) and not any(server.startswith("127.") or server == "::1" for server in servers)


def pip_configuration(outer: str, environment: t.Mapping[str, str]) -> str:
    """pip.conf for the guests out of the outer machine's own and its PIP_* variables; empty if neither sets anything."""
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
    # A guest lacks the outer machine's own certificate files; the system's bundle exists there, and has the same authorities.
    if "cert" in found:
        found["cert"] = "/etc/ssl/certs/ca-certificates.crt"
    return "[global]\n" + "".join("{} = {}\n".format(*pair) for pair in sorted(found.items())) if found else ""


def guest_files(
    name: str,
    spec: t.Mapping[str, t.Any],
    outer: t.Mapping[str, t.Any],
    hosts_block: str,
    keys: t.Mapping[str, str] | None,
) -> list[GuestFile]:
    """The files that the lab keeps in a guest. ``keys`` is None where the host's own keys are not made yet (check mode)."""
    prefix = ipaddress.IPv4Network(outer["network"]).prefixlen
    files = [
        GuestFile("/etc/hostname", name + "\n"),
        GuestFile("/etc/hosts", hosts_block, block=True),
        GuestFile("/etc/resolv.conf", outer["resolv_conf"]),
        GuestFile(
            "/etc/systemd/network/10-host0.network",
            f"[Match]\nName=host0\n\n[Network]\nAddress={spec['address']}/{prefix}\nGateway={outer['gateway']}\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n",
        ),
        GuestFile("/root/.ssh/authorized_keys", outer["authorized_keys"], 0o600),
        GuestFile("/home/lab/.ssh/authorized_keys", outer["authorized_keys"], 0o600),
    ]
    if spec["provider_port"]:
        files.append(
            GuestFile(
                "/etc/systemd/network/20-ex0.network",
                "[Match]\nName=ex0\n\n[Link]\nRequiredForOnline=no\n\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
            )
        )
    proxies = {key: value for key, value in sorted((outer.get("proxy") or {}).items()) if value}
    lines = [
        f'Acquire::{key[: -len("_proxy")]}::Proxy "{value}";\n' for key, value in proxies.items() if key in ("http_proxy", "https_proxy")
    ]
    # Empty if the machine no longer has an index or proxy: hosts that were created with one must drop it.
    files.append(GuestFile("/etc/pip.conf", outer.get("pip_conf") or "", secret=True))
    files.append(GuestFile("/etc/environment", "".join('{}="{}"\n'.format(*pair) for pair in proxies.items()), secret=True))
    files.append(GuestFile("/etc/apt/apt.conf.d/91lab-proxy", "".join(lines), secret=True))
    if keys is not None:
        files.append(GuestFile("/etc/machine-id", keys["machine_id"] + "\n", 0o444))
        files.append(GuestFile("/etc/ssh/ssh_host_ed25519_key", keys["private"], 0o600, secret=True))
        files.append(GuestFile("/etc/ssh/ssh_host_ed25519_key.pub", keys["public"] + "\n"))
    return files


def nspawn_arguments(lab: str, name: str, spec: t.Mapping[str, t.Any], root: str, present_devices: t.Iterable[str]) -> list[str]:
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
        f"--directory={root}",
        f"--machine={machine_name(lab, name)}",
        f"--hostname={name}",
        f"--network-veth-extra={link_name(lab, name, 'h')}:host0",
    ]
    if spec["provider_port"]:
        arguments.append(f"--network-veth-extra={link_name(lab, name, 'x')}:ex0")
    if spec["capabilities"]:
        arguments.append(f"--capability={','.join(spec['capabilities'])}")
    arguments += [f"--bind={device}" for device in spec["devices"] if device in set(present_devices)]
    return arguments + list(spec["nspawn_args"])


def nat_rules(lab: str, network: str) -> str:
    """The table that lets guests out: everything from the lab's network to elsewhere leaves under the outer machine's address."""
    return (
        f"table ip {table_name(lab)} {{\n\tchain postrouting {{\n\t\ttype nat hook postrouting priority srcnat; policy "
        f"accept;\n\t\tip saddr {network} ip daddr != {network} masquerade\n\t}}\n}}\n"
    )


def known_hosts(hosts: t.Mapping[str, t.Mapping[str, t.Any]], domain: str) -> str:
    """known_hosts of the lab, out of the keys that were made for its hosts."""
    lines = []
    for name, host in sorted(hosts.items()):
        if host.get("host_key"):
            key = " ".join(host["host_key"].split()[:2])
            lines.append(f"{name},{name}.{domain},{host['address']} {key}")
    return "".join(line + "\n" for line in lines)
