"""Two regions behind one Keystone that start no guests: services, catalog, servers, and the resources of the intake."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import time
from pathlib import Path

import pytest
from lab_access import wait
from region_tls_server import tls_server

testinfra_hosts = ["ansible://scratch"]
UNITS = [
    *("mariadb", "rabbitmq-server", "memcached", "ovs-vswitchd", "glance-api", "placement-api", "nova-api", "nova-conductor"),
    *("nova-scheduler", "nova-compute", "neutron-api", "neutron-rpc-server", "neutron-openvswitch-agent"),
]
REGIONS = ("region-m", "region-n")


def states(host, verb, units):
    """What systemd says of each unit, in one call."""
    return dict(zip(units, host.run(f"systemctl is-{verb} {' '.join(units)}").stdout.split(), strict=True))


def test_services_are_active_and_enabled(host):
    assert states(host, "active", UNITS) == dict.fromkeys(UNITS, "active"), host.run("journalctl -p err -n 50 --no-pager").stdout
    # Debian starts this one by another unit.
    boot = [unit for unit in UNITS if unit != "ovs-vswitchd"]
    assert states(host, "enabled", boot) == dict.fromkeys(boot, "enabled")


def test_unneeded_services_are_inactive(on):
    units = ["keystone", "blazar-api", "blazar-manager"]
    assert list(states(on("mol-region-m"), "active", units).values()) == ["active", "inactive", "inactive"]
    assert list(states(on("mol-region-n"), "active", units).values()) == ["inactive", "active", "active"]


def test_check_predicts_drift_repair(account, on, converge):
    first, second = on("mol-region-m"), on("mol-region-n")
    first.check_output("ovs-vsctl --if-exists del-br br-ex")
    first.check_output("mariadb -e \"ALTER USER glance@'127.0.0.1' IDENTIFIED BY 'by-hand'\"")
    second.check_output("systemctl unmask keystone && systemctl stop openvswitch-switch")
    second.check_output("echo '# by hand' >> /etc/nova/nova.conf")
    admin = account("region-m-admin")
    image = next(one.id for one in admin.identity.services() if one.type == "image")
    admin.identity.delete_endpoint(next(one for one in admin.identity.endpoints(region_id="region-n", service_id=image)))
    assert converge.repairs_drift("--tags=openstack") == [
        "mol-region-n: Write the configuration files (/etc/nova/nova.conf)",
        "mol-region-n: Start base services",
        "mol-region-n: Disable Keystone if another region's is used",
        "mol-region-m: Create the bridge into the provider network",
        "mol-region-m: Create databases and accounts",
        "mol-region-n: Create service users and catalog",
        "mol-region-n: Start the other services",
    ]
    for machine in (first, second):
        wait("the agent has connected the bridge", lambda machine=machine: "phy-br-ex" in machine.run("ovs-vsctl list-ports br-ex").stdout)


@pytest.mark.security
def test_a_keystone_behind_tls_is_not_shared(converge, tmp_path):
    outer = os.environ.get("DISTCLOUD_LAB_NETWORK", "10.203.0.0/24").rpartition(".")[0] + ".1"
    with tls_server(tmp_path, address=outer, port=5000):
        properties = converge.refuses("--tags=openstack", "--limit=mol-region-n", lab_openstack_keystone_host=outer)
    assert f"the Keystone at {outer} is behind TLS" in properties


@pytest.mark.security
def test_password_files_are_not_world_readable(host, state):
    words = " ".join(f"-e {path.read_text().strip()}" for path in (state / "secrets").iterdir())
    found = host.run(f"grep -rlZF {words} /etc /var/lib/distcloud-lab-openstack | xargs -0r stat --format='%a %n'").stdout.splitlines()
    assert found
    assert not [line for line in found if int(line.split()[0], 8) & 0o004], "readable by everybody"


def test_both_regions_share_one_keystone(account):
    admin = account("region-m-admin")
    services = {service.id: service.type for service in admin.identity.services()}
    assert len(set(services.values())) == len(services), "each service is in the catalog once"
    types = {"identity", "image", "placement", "compute", "network"}
    for region, more in (("region-m", set()), ("region-n", {"reservation"})):
        endpoints = list(admin.identity.endpoints(region_id=region))
        assert {services[endpoint.service_id] for endpoint in endpoints} == types | more
        assert len(endpoints) == 3 * len(types | more)
    # One log-in is good for both.
    for region in REGIONS:
        assert admin.session.get("/servers", endpoint_filter={"service_type": "compute", "region_name": region}).status_code == 200


@pytest.mark.parametrize("region", REGIONS)
def test_region_resources_exist(account, region):
    own = account(region)
    assert own.compute.get_limits().absolute.instances == 30
    flavor = own.compute.find_flavor("mol.small", get_extra_specs=True)
    assert (flavor.vcpus, flavor.ram, flavor.extra_specs) == (1, 64, {"hw:mem_page_size": "any"})
    rules = own.network.find_security_group("mol-region").security_group_rules
    assert {rule["protocol"] for rule in rules if rule["direction"] == "ingress"} == {"tcp", "icmp"}
    assert [image.name for image in own.image.images(visibility="private")] == ["mol-worker-1"]


@pytest.mark.parametrize("region", REGIONS)
def test_uploaded_image_records_its_inputs(account, region, state):
    record = json.loads((state / "images" / "worker.json").read_text("utf-8"))
    properties = account(region).image.find_image("mol-worker-1").properties
    assert {name: value for name, value in properties.items() if name.startswith("distcloud_") and name != "distcloud_owner"} == {
        "distcloud_image": "worker",
        "distcloud_build": record["key"][:16],
        "distcloud_manifest": "worker-1.manifest.json",
        "distcloud_manifest_sha256": hashlib.sha256(b"manifest").hexdigest(),
    }
    assert properties["distcloud_owner"]


def test_tenant_has_own_resources_in_shared_project(account):
    own = account("region-t")
    assert own.network.find_network("mol-tenant") and own.network.find_security_group("mol-tenant")
    assert [pair.name for pair in own.compute.keypairs()] == ["mol-tenant"]


def test_servers_without_guests(account, on):
    """More than this machine could run; nothing of them runs."""
    own = account("region-m")
    request = {
        "image_id": own.image.find_image("mol-worker-1").id,
        "flavor_id": own.compute.find_flavor("mol.small").id,
        "networks": [{"uuid": own.network.find_network("mol-region").id}],
    }
    began = time.monotonic()
    made = [own.compute.create_server(name=f"many-{number}", **request) for number in range(6)]
    try:
        wait(
            "six servers are active", lambda: [server.status for server in own.compute.servers(name="many-")] == ["ACTIVE"] * 6, seconds=180
        )
        print(f"six servers active after {time.monotonic() - began:.0f} s")
        assert not on("mol-region-m").process.filter(comm="qemu-system-x86")
    finally:
        for server in made:
            own.compute.delete_server(server)
    wait("they are gone", lambda: not list(own.compute.servers(name="many-")), seconds=120)


def test_old_unused_images_are_removed(account, converge, state):
    """Two are kept: of three versions the oldest goes in the region where nobody uses it."""
    own = account("region-m")
    path = state / "images" / "worker.json"
    record = path.read_text("utf-8")
    server = own.compute.create_server(
        name="old",
        image_id=own.image.find_image("mol-worker-1").id,
        flavor_id=own.compute.find_flavor("mol.small").id,
        networks=[{"uuid": own.network.find_network("mol-region").id}],
    )
    try:
        new_version(path, 2)
        second = converge.run("--tags=image")
        assert not second.failures and second.changed == [f"{region}: Upload the worker image to the region" for region in REGIONS]
        new_version(path, 3)
        assert converge.repairs_drift("--tags=image") == [
            *(f"{region}: Upload the worker image to the region" for region in REGIONS),
            "region-n: Remove old unused images from the region (mol-worker-1)",
        ]
        kept = {region: {image.name for image in account(region).image.images(visibility="private")} for region in REGIONS}
        assert kept == {"region-m": {"mol-worker-1", "mol-worker-2", "mol-worker-3"}, "region-n": {"mol-worker-2", "mol-worker-3"}}
    finally:
        own.compute.delete_server(server)
        path.write_text(record, "utf-8")
    for one in map(account, REGIONS):
        for name in ("mol-worker-2", "mol-worker-3"):
            one.image.delete_image(one.image.find_image(name))
    assert not converge.run("--tags=image").failures


def new_version(path: Path, number: int) -> None:
    """Record an image of another name and content, as a build does."""
    record = json.loads(path.read_text("utf-8"))
    content = Path(record["file"]).read_bytes() + bytes(512)
    file = path.with_name(f"worker-{number}.qcow2")
    file.write_bytes(content)
    record |= {"name": f"mol-worker-{number}", "file": str(file), "sha512": hashlib.sha512(content).hexdigest()}
    path.write_text(json.dumps(record), "utf-8")


def test_a_host_is_reserved(account):
    """Blazar takes a host, and a lease on it begins."""
    session = account("region-m-admin").session

    def blazar(method, path, body=None):
        where = {"service_type": "reservation", "region_name": "region-n"}
        return session.request(path, method, json=body, endpoint_filter=where, headers={"Accept": "application/json"}).json()

    host = blazar("POST", "/os-hosts", {"name": "mol-region-n"})["host"]["id"]
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    reservation = {"resource_type": "physical:host", "min": 1, "max": 1, "hypervisor_properties": "", "resource_properties": ""}
    body = {"name": "mol", "start_date": "now", "end_date": f"{end:%Y-%m-%d %H:%M}", "reservations": [reservation], "events": []}
    lease = blazar("POST", "/leases", body)["lease"]["id"]
    wait("the lease is active", lambda: blazar("GET", f"/leases/{lease}")["lease"]["status"] == "ACTIVE", seconds=60)
    session.delete(f"/leases/{lease}", endpoint_filter={"service_type": "reservation", "region_name": "region-n"})
    session.delete(f"/os-hosts/{host}", endpoint_filter={"service_type": "reservation", "region_name": "region-n"})
