"""The lab's two regions from a user's view: endpoints in the catalog, links in responses, access rules of a credential.

region-a uses http, region-b https with a private CA. The site tests show that servers boot there. Needs a lab with
its site (`playbooks/lab.yml`, `playbooks/site.yml`). All resources created here are removed again.
"""

from __future__ import annotations

import uuid
from typing import Any

import openstack
import pytest
from running_lab import Lab

SCHEMES = {"region-a": "http", "region-b": "https"}


@pytest.fixture(scope="module", params=sorted(SCHEMES))
def region(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def cloud(lab: Lab, region: str) -> Any:
    """The region as its admin."""
    return lab.cloud(f"{region}-admin")


@pytest.fixture(scope="module")
def address(lab: Lab, region: str) -> str:
    return lab.address(machine(lab, region))


def machine(lab: Lab, region: str) -> str:
    """The host on which the region runs."""
    return next(host for host in lab.inventory["lab_regions"]["hosts"] if lab.hostvars(host)["lab_region"] == region)


def test_catalog_has_public_address_of_each_service(cloud: Any, region: str, address: str) -> None:
    for service in ("identity", "image", "placement", "compute", "network"):
        url = cloud.endpoint_for(service)
        assert url and url.startswith(f"{SCHEMES[region]}://{address}"), (service, url)
        # The list of versions under it, which needs no login but the right certificate.
        root = url.rstrip("/").removesuffix("/v2.1").removesuffix("/v3") + "/"
        assert cloud.session.get(root, authenticated=False).status_code in (200, 300), root


def test_links_in_answers_keep_the_public_address(cloud: Any, region: str, address: str) -> None:
    version = cloud.session.get(cloud.endpoint_for("compute")).json()["version"]
    links = [link["href"] for link in version["links"] if link["rel"] == "self"]
    assert links and all(link.startswith(f"{SCHEMES[region]}://{address}") for link in links), links


def test_hypervisor_and_network_agent_are_up(cloud: Any) -> None:
    services = list(cloud.compute.services(binary="nova-compute"))
    assert [(one.state, one.status) for one in services] == [("up", "enabled")]
    assert [(one.binary, one.is_alive) for one in cloud.network.agents()] == [("neutron-openvswitch-agent", True)]


def test_guest_port_is_brought_up_again(lab: Lab, region: str) -> None:
    host, port = machine(lab, region), "tap-lab-test"

    def up() -> bool:
        return ",UP" in lab.run(host, f"ip link show {port}")

    lab.run(host, f"ip tuntap add {port} mode tap")
    try:
        lab.wait("the new port is up", up, 60)
        lab.run(host, f"ip link set {port} down")
        lab.wait("the port is up again", up, 60)
    finally:
        lab.run(host, f"ip link del {port}")


def test_access_rules_allow_only_one_service(cloud: Any) -> None:
    me = cloud.current_user_id
    rules = [{"service": "compute", "method": "GET", "path": path} for path in ("/v2.1/servers", "/v2.1/servers/**", "/v2.1/flavors/**")]
    credential = cloud.identity.create_application_credential(me, f"lab-test-{uuid.uuid4().hex[:8]}", access_rules=rules)
    try:
        limited = openstack.connect(
            load_yaml_config=False,
            load_envvars=False,
            auth_type="v3applicationcredential",
            auth={
                "auth_url": cloud.config.auth["auth_url"],
                "application_credential_id": credential.id,
                "application_credential_secret": credential.secret,
            },
            region_name=cloud.config.region_name,
            cacert=cloud.config.config.get("cacert"),
        )

        def status(service: str, path: str) -> int:
            url = cloud.endpoint_for(service).rstrip("/") + path
            return int(limited.session.get(url, raise_exc=False, allow_reauth=False).status_code)

        assert status("compute", "/servers") == 200
        for service, path in {"compute": "/os-keypairs", "image": "/v2/images", "network": "/v2.0/networks", "identity": "/users"}.items():
            assert status(service, path) in (401, 403), service
    finally:
        cloud.identity.delete_application_credential(me, credential)
