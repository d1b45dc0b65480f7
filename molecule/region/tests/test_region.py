"""Two regions behind one Keystone that start no guests: services, catalogue, servers, what the intake left."""

from __future__ import annotations

import time

import pytest
from lab_access import wait

testinfra_hosts = ["ansible://scratch"]
UNITS = [
    *("mariadb", "rabbitmq-server", "memcached", "ovs-vswitchd", "glance-api", "placement-api", "nova-api", "nova-conductor"),
    *("nova-scheduler", "nova-compute", "neutron-api", "neutron-rpc-server", "neutron-openvswitch-agent"),
]
REGIONS = ("region-m", "region-n")


@pytest.mark.parametrize("unit", UNITS)
def test_a_service_runs_and_comes_back_with_the_host(host, unit):
    service = host.service(unit)
    assert service.is_running, host.run("journalctl -u %s -n 50 --no-pager", unit).stdout
    # Debian starts this one by another unit.
    assert service.is_enabled or unit == "ovs-vswitchd"


def test_what_a_region_does_not_need_does_not_run(on):
    for unit in ("blazar-api", "blazar-manager"):
        assert not on("mol-region-m").service(unit).is_running, unit
        assert on("mol-region-n").service(unit).is_running, unit


def test_no_password_stands_in_a_file_for_everybody(host, state):
    secrets = [path.read_text().strip() for path in (state / "secrets").iterdir()]
    assert secrets
    for secret in secrets:
        found = host.run("grep -rlF -- %s /etc /var/lib/distcloud-lab-openstack", secret).stdout.split()
        assert not [path for path in found if host.file(path).mode & 0o004], "readable by everybody"


def test_both_regions_stand_behind_one_keystone(account):
    admin = account("region-m-admin")
    services = {service.id: service.type for service in admin.identity.services()}
    assert len(set(services.values())) == len(services), "no service stands in the catalogue twice"
    types = {"identity", "image", "placement", "compute", "network"}
    for region, more in (("region-m", set()), ("region-n", {"reservation"})):
        endpoints = list(admin.identity.endpoints(region_id=region))
        assert {services[endpoint.service_id] for endpoint in endpoints} == types | more
        assert len(endpoints) == 3 * len(types | more)
    # One log-in is good for both.
    for region in REGIONS:
        assert admin.session.get("/servers", endpoint_filter={"service_type": "compute", "region_name": region}).status_code == 200


@pytest.mark.parametrize("region", REGIONS)
def test_the_intake_is_there(account, region):
    own = account(region)
    assert own.compute.get_limits().absolute.instances == 30
    flavor = own.compute.find_flavor("mol.small", get_extra_specs=True)
    assert (flavor.vcpus, flavor.ram, flavor.extra_specs) == (1, 64, {"hw:mem_page_size": "any"})
    rules = own.network.find_security_group("mol-region").security_group_rules
    assert {rule["protocol"] for rule in rules if rule["direction"] == "ingress"} == {"tcp", "icmp"}
    assert [image.name for image in own.image.images(visibility="private")] == ["mol-worker-1"]


def test_a_tenant_has_things_of_its_own_in_the_same_project(account):
    own = account("region-t")
    assert own.network.find_network("mol-tenant") and own.network.find_security_group("mol-tenant")
    assert [pair.name for pair in own.compute.keypairs()] == ["mol-tenant"]


def test_servers_without_guests(account, on):
    """Far more than this machine could run; nothing of them runs."""
    own = account("region-m")
    wish = {
        "image_id": own.image.find_image("mol-worker-1").id,
        "flavor_id": own.compute.find_flavor("mol.small").id,
        "networks": [{"uuid": own.network.find_network("mol-region").id}],
    }
    began = time.monotonic()
    made = [own.compute.create_server(name=f"many-{number}", **wish) for number in range(20)]
    try:
        wait(
            "20 servers are active", lambda: [server.status for server in own.compute.servers(name="many-")] == ["ACTIVE"] * 20, seconds=180
        )
        print(f"20 servers active after {time.monotonic() - began:.0f} s")
        assert not on("mol-region-m").process.filter(comm="qemu-system-x86")
    finally:
        for server in made:
            own.compute.delete_server(server)
    wait("they are gone", lambda: not list(own.compute.servers(name="many-")), seconds=120)
