"""One running lab region, asked by the ways a user would notice: catalogue, rules of a credential, image, network, a server's console.

Needs a region that is up. The environment says which: DISTCLOUD_TEST_CLOUD (entry of an administrator in clouds.yaml),
OS_CLIENT_CONFIG_FILE, and for a server that really boots DISTCLOUD_TEST_IMAGE (a qcow2 whose console is ttyS0) and
DISTCLOUD_TEST_SUBNET ("CIDR GATEWAY FIRST LAST", a free piece of the lab's network). Everything made here is taken away again.
"""

from __future__ import annotations

import os
import time
import typing as t
import uuid

import pytest

openstack = pytest.importorskip("openstack")
CLOUD = os.environ.get("DISTCLOUD_TEST_CLOUD", "")
pytestmark = pytest.mark.skipif(not CLOUD, reason="DISTCLOUD_TEST_CLOUD names no running region")

BOOT_TIMEOUT = 300  # seconds that a guest under emulation may take on shared cores


@pytest.fixture(scope="module")
def cloud() -> t.Any:
    with openstack.connect(cloud=CLOUD) as connection:
        yield connection


@pytest.fixture(scope="module")
def mark() -> str:
    return "lab-test-" + uuid.uuid4().hex[:8]


@pytest.fixture(scope="module")
def network(cloud: t.Any, mark: str) -> t.Any:
    """The flat network: the one that is there, or one made for the test, since a physical network carries only one."""
    for found in cloud.network.networks():
        if found.provider_network_type == "flat":
            yield found
            return
    cidr, gateway, first, last = os.environ.get("DISTCLOUD_TEST_SUBNET", "10.203.0.0/24 10.203.0.1 10.203.0.190 10.203.0.199").split()
    made = cloud.network.create_network(name=mark, provider_network_type="flat", provider_physical_network="physnet1")
    cloud.network.create_subnet(
        network_id=made.id, name=mark, ip_version=4, cidr=cidr, gateway_ip=gateway, is_dhcp_enabled=False,
        allocation_pools=[{"start": first, "end": last}],
    )  # fmt: skip
    yield made
    cloud.network.delete_network(made)


@pytest.fixture(scope="module")
def image(cloud: t.Any, mark: str) -> t.Any:
    """The given bootable image; a little random data where none is given."""
    path = os.environ.get("DISTCLOUD_TEST_IMAGE", "")
    source = {"filename": path, "disk_format": "qcow2"} if path else {"data": os.urandom(1 << 20), "disk_format": "raw"}
    bus = {"hw_disk_bus": "virtio", "hw_vif_model": "virtio", "hw_rng_model": "virtio"}
    made = cloud.image.create_image(name=mark, container_format="bare", wait=True, **source, **bus)
    yield cloud.image.get_image(made.id)
    cloud.image.delete_image(made.id)


@pytest.fixture(scope="module")
def flavor(cloud: t.Any, mark: str) -> t.Any:
    made = cloud.compute.create_flavor(name=mark, ram=512, vcpus=1, disk=2)
    yield made
    cloud.compute.delete_flavor(made)


def test_catalogue_names_every_service_at_its_public_address(cloud: t.Any) -> None:
    scheme = cloud.config.auth["auth_url"].split(":")[0]
    for service in ("identity", "image", "placement", "compute", "network"):
        url = cloud.endpoint_for(service)
        assert url is not None, service
        assert url.startswith(scheme + "://"), url
        assert "127.0.0.1" not in url
        assert cloud.session.get(url.rstrip("/").removesuffix("/v2.1").removesuffix("/v3") + "/").status_code in (200, 300)


def test_links_in_answers_keep_the_public_scheme(cloud: t.Any) -> None:
    scheme = cloud.config.auth["auth_url"].split(":")[0]
    version = cloud.session.get(cloud.endpoint_for("compute")).json()["version"]
    assert all(link["href"].startswith(scheme + "://") for link in version["links"] if link["rel"] == "self")


def test_hypervisor_and_network_agent_are_up(cloud: t.Any) -> None:
    services = list(cloud.compute.services(binary="nova-compute"))
    assert [(one.state, one.status) for one in services] == [("up", "enabled")]
    assert [(one.binary, one.is_alive) for one in cloud.network.agents()] == [("neutron-openvswitch-agent", True)]


def test_access_rules_let_one_service_in_and_no_other(cloud: t.Any, mark: str) -> None:
    me = cloud.current_user_id
    rules = [{"service": "compute", "method": "GET", "path": path} for path in ("/v2.1/servers", "/v2.1/servers/**", "/v2.1/flavors/**")]
    credential = cloud.identity.create_application_credential(me, mark, access_rules=rules)
    try:
        limited = openstack.connect(
            auth_type="v3applicationcredential",
            auth={
                "auth_url": cloud.config.auth["auth_url"],
                "application_credential_id": credential.id,
                "application_credential_secret": credential.secret,
            },
            region_name=cloud.config.region_name,
            cacert=cloud.config.config.get("cacert"),
        )
        assert limited.session.get(cloud.endpoint_for("compute") + "/servers", raise_exc=False).status_code == 200
        refused = {
            "compute": "/os-keypairs",
            "image": "/v2/images",
            "network": "/v2.0/networks",
            "identity": "/users",
        }
        for service, path in refused.items():
            answer = limited.session.get(cloud.endpoint_for(service).rstrip("/") + path, raise_exc=False)
            assert answer.status_code == 401, (service, answer.status_code)
    finally:
        cloud.identity.delete_application_credential(me, credential)


def test_image_is_active_and_has_its_hash(image: t.Any) -> None:
    assert image.status == "active"
    assert len(image.hash_value) == 128


def test_server_boots_on_the_flat_network_and_speaks_on_its_console(
    cloud: t.Any, mark: str, network: t.Any, image: t.Any, flavor: t.Any
) -> None:
    server = cloud.compute.create_server(
        name=mark, image_id=image.id, flavor_id=flavor.id, networks=[{"uuid": network.id}], config_drive=True
    )
    try:
        server = cloud.compute.wait_for_server(server, wait=BOOT_TIMEOUT, interval=0.5)
        assert server.status == "ACTIVE"
        assert len(server.addresses[network.name]) == 1
        if os.environ.get("DISTCLOUD_TEST_IMAGE"):
            deadline = time.monotonic() + BOOT_TIMEOUT
            output = ""
            while "Cloud-init" not in output and time.monotonic() < deadline:
                output = cloud.compute.get_server_console_output(server)["output"]
                time.sleep(1)
            assert "Cloud-init" in output, output[-2000:]
    finally:
        cloud.compute.delete_server(server)
        cloud.compute.wait_for_delete(server, interval=0.5, wait=120)
