"""State that a second run must not change: processes, units and files of the hosts, and resources of the regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from running_lab import Lab
from site_jobs import REGIONS, key_pairs

State = dict[str, set[str]]

CENTRAL_UNITS = "condor distcloud-scheduler distcloud-minter.socket distcloud-scheduler-token.timer"
# libvirtd is not among them: it ends when it has nothing to do, and its socket starts it again.
REGION_UNITS = (
    "mariadb rabbitmq-server memcached ovsdb-server ovs-vswitchd keystone glance-api placement-api nova-api nova-conductor nova-scheduler"
    " nova-compute neutron-api neutron-rpc-server neutron-openvswitch-agent"
)
# Names as the kernel truncates them, at 15 characters. Programs that people and playbooks run in between are not among these.
DAEMONS = {"condor_master", "condor_collecto", "condor_negotiat", "condor_schedd", "condor_shared_p", "distcloud"}
FILES = "/etc/condor /etc/distcloud /etc/ssl/distcloud /etc/nftables.conf /etc/nftables.d /etc/systemd/system /opt/distcloud/*/"

REGION_FILES = (
    "/etc/keystone /etc/glance /etc/placement /etc/nova /etc/neutron /etc/mysql /etc/rabbitmq /etc/apache2 /etc/nginx /etc/nftables.conf"
    " /etc/nftables.d /etc/systemd/system /etc/ssl/distcloud /etc/apt"
)


def resources(lab: Lab, region: str) -> State:
    """All resources that an admin sees in a region, by kind."""
    admin = lab.cloud(f"{region}-admin")
    groups = list(admin.network.security_groups())
    return {
        "projects": {project.id for project in admin.identity.projects()},
        "users": {user.id for user in admin.identity.users()},
        "networks": {network.id for network in admin.network.networks()},
        "subnets": {subnet.id for subnet in admin.network.subnets()},
        "groups": {group.id for group in groups},
        "rules": {rule["id"] for group in groups for rule in group.security_group_rules},
        "ports": {port.id for port in admin.network.ports()},
        # The SDK asks for those as well that are not public, as ours are.
        "flavors": {flavor.id for flavor in admin.compute.flavors()},
        "images": {f"{image.id} {image.updated_at}" for image in admin.image.images()},
        "servers": {server.id for server in admin.compute.servers(all_projects=True)},
        "key pairs": {" ".join(pair) for pair in key_pairs(admin)},
    }


def credentials(lab: Lab, region: str) -> set[str]:
    """The application credentials of the site's own user."""
    cloud = lab.cloud(region)
    return {credential.id for credential in cloud.identity.application_credentials(user=cloud.current_user_id)}


def units(lab: Lab, host: str, names: str) -> set[str]:
    """Each unit with its process and start time."""
    output = lab.run(host, f"systemctl show -p Id -p MainPID -p ActiveState -p ActiveEnterTimestampMonotonic {names}")
    return {" ".join(block.split()) for block in output.strip().split("\n\n")}


def daemons(stat: str) -> set[str]:
    """Name, pid and start time of each daemon, from lines of /proc/PID/stat; without the forks in which HTCondor answers queries."""
    found: dict[str, tuple[str, str, str]] = {}
    for line in stat.splitlines():
        pid, _separator, rest = line.partition(" (")
        name, _separator, fields = rest.rpartition(") ")
        if name in DAEMONS:
            found[pid] = name, fields.split()[1], fields.split()[19]
    return {f"{name} {pid} {start}" for pid, (name, parent, start) in found.items() if found.get(parent, ("",))[0] != name}


def files(lab: Lab, host: str, places: str) -> set[str]:
    """Each file below the existing paths, with its modification time."""
    # pip's bytecode is written at the first import of a module.
    output = lab.run(host, f"find $(ls -d {places} 2>/dev/null) -type f -not -name '*.pyc' -printf '%p %T@\\n'")
    return set(output.splitlines())


def control_files(folder: Path) -> set[str]:
    """The site's state on the control node, without that of Molecule scenarios, whose hosts come and go in known_hosts."""
    return {
        f"{path} {path.stat().st_mtime_ns}"
        for path in folder.rglob("*")
        if path.is_file() and path.name != "known_hosts" and not path.relative_to(folder).parts[0].startswith("molecule-")
    }


def whole_site(lab: Lab) -> State:
    """The complete state. Fails if a listing is unexpectedly empty, since nothing would be compared."""
    found = {
        "daemons of central": daemons(lab.run("central", "cat /proc/[0-9]*/stat 2>/dev/null; true")),
        "units of central": units(lab, "central", CENTRAL_UNITS),
        "files of central": files(lab, "central", FILES),
        "files of the control node": control_files(lab.state),
    }
    for host in lab.inventory["lab_regions"]["hosts"]:
        found[f"units of {host}"] = units(lab, host, REGION_UNITS)
        found[f"files of {host}"] = files(lab, host, REGION_FILES)
    for region in REGIONS:
        found |= {f"{kind} of {region}": ids for kind, ids in resources(lab, region).items()}
        found[f"application credentials of {region}"] = credentials(lab, region)
    empty = [what for what, lines in found.items() if not lines and not what.startswith(("servers of", "ports of"))]
    assert not empty, f"nothing was found of {empty}"
    assert {line.split()[0] for line in found["daemons of central"]} == DAEMONS, found["daemons of central"]
    stopped = [line for what, lines in found.items() if what.startswith("units of") for line in lines if "ActiveState=active" not in line]
    assert not stopped, stopped
    return found


def changes(before: State, after: State) -> dict[str, Any]:
    """Differences between two states, by kind; empty if they are equal."""
    kinds = sorted(before.keys() | after.keys())
    found = {kind: sorted(before.get(kind, set()) ^ after.get(kind, set())) for kind in kinds}
    return {kind: lines for kind, lines in found.items() if lines}
