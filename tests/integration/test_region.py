"""Region intake on real regions: what the scheduler's credential may and may not do, drift, foreign resources, a region that is down.

Works in a project of its own (`intake-test`, another mark), so that the site's own intake stays as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import BIN, ROOT, Lab
from keystoneauth1 import session
from keystoneauth1.identity import v3
from lab_access import connection

REGIONS = ("region-a", "region-b")
NAME = "intake-test"


class Site:
    """A second site of its own on the lab's regions: inventory and state in a temporary folder."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.state = lab, folder / "state"
        self.state.mkdir(mode=0o700)
        (self.state / "ssh").mkdir()
        clouds = yaml.safe_load((lab.state / "clouds.yaml").read_text())["clouds"]
        admins = {f"{name}-admin": clouds[f"{name}-admin"] for name in REGIONS}
        down = json.loads(json.dumps(clouds["region-a-admin"]))
        down["auth"]["auth_url"] = "http://127.0.0.1:9/v3"
        self.clouds = self.state / "clouds.yaml"
        self.clouds.write_text(yaml.safe_dump({"clouds": {**admins, "region-down-admin": down}}))
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", NAME, "-f", self.state / "ssh" / "id_ed25519"], check=True)
        self.inventory = folder / "hosts.yml"
        hosts = {
            name: {"ansible_connection": "local", "region_cloud": name, "region_admin_cloud": f"{name}-admin"}
            for name in (*REGIONS, "region-down")
        }
        variables = {
            "distcloud_site": NAME,
            "distcloud_state_dir": str(self.state),
            "distcloud_clouds_yaml": str(self.clouds),
            "region_mark": NAME,
            "region_project": NAME,
            "region_user": NAME,
            "region_key_pair": NAME,
            "region_flavors": [{"name": f"{NAME}.small", "vcpus": 1, "ram": 64, "disk": 1}],
            "region_quotas": {"compute": {"instances": 2, "cores": 2}, "network": {"port": 9}},
            "region_networks": [{"name": NAME, "subnets": [{"name": NAME, "cidr": "192.0.2.0/28", "enable_dhcp": False}]}],
            "region_security_groups": [{"name": NAME, "rules": [{"protocol": "tcp", "port_min": 22}]}],
            "ansible_python_interpreter": str(BIN / "python"),
        }
        self.inventory.write_text(yaml.safe_dump({"all": {"children": {"regions": {"hosts": hosts}}, "vars": variables}}))

    def play(self, name: str, *arguments: str) -> tuple[int, str]:
        environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        command = [BIN / "ansible-playbook", "-i", self.inventory, f"playbooks/{name}.yml", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
        return done.returncode, done.stdout + done.stderr

    def changed(self, output: str, region: str) -> int:
        line = next(line for line in output.splitlines() if line.startswith(region) and "changed=" in line)
        return int(line.split("changed=")[1].split()[0])

    def credential(self, region: str) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load((self.state / "credentials" / f"{region}-scheduler.yml").read_text())
        return found

    def cloud(self, entry: str) -> Any:
        return connection(self.clouds, entry)


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    found = Site(lab, tmp_path_factory.mktemp("intake"))
    code, output = found.play("regions", "--check")
    assert code == 0, output  # a fresh region can be checked
    assert not (found.state / "credentials").exists() and not (found.state / "secrets").exists()
    code, output = found.play("regions")
    assert code == 0 and all(found.changed(output, region) for region in REGIONS), output
    found.first = output  # type: ignore[attr-defined]
    yield found
    code, output = found.play("remove_region", "--limit", ",".join(REGIONS))
    assert code == 0, output


def caller(credential: dict[str, Any]) -> session.Session:
    auth = v3.ApplicationCredential(
        auth_url=credential["auth_url"],
        application_credential_id=credential["application_credential_id"],
        application_credential_secret=credential["application_credential_secret"],
    )
    return session.Session(auth=auth, verify=credential["cacert"] or True)


def status(calls: session.Session, service: str, method: str, path: str, body: Any = None) -> int:
    """The status of a call to a path under the root of a service."""
    base = calls.get_endpoint(service_type=service, interface="public")
    root = "/".join(base.split("/")[:3])
    # A service that refuses a call before it has read the body may cut the connection after the status line: no more than that is read.
    answer = calls.request(root + path, method, json=body, raise_exc=False, allow_reauth=False, connect_retries=4, stream=True)
    return int(answer.status_code)


def test_a_region_that_is_down_is_named_and_the_others_are_done(site: Site) -> None:
    output: str = site.first  # type: ignore[attr-defined]
    assert "NOT taken in" in output and "region-down: region-down-admin: the identity service does not answer" in output.replace(
        "\n    ", " "
    )
    code, output = site.play("regions", "--limit", "region-down", "-e", "region_failures_fatal=true")
    assert code != 0


def test_the_second_run_changes_nothing(site: Site) -> None:
    before = {path: path.stat().st_mtime_ns for path in site.state.rglob("*.yml")}
    for arguments in ([], ["--check"]):
        code, output = site.play("regions", "--limit", ",".join(REGIONS), *arguments)
        assert code == 0 and not any(site.changed(output, region) for region in REGIONS), output
    assert before == {path: path.stat().st_mtime_ns for path in site.state.rglob("*.yml")}


@pytest.mark.parametrize("region", REGIONS)
def test_the_credential_can_do_what_the_driver_needs(site: Site, region: str) -> None:
    credential = site.credential(region)
    assert credential["with_access_rules"] is True
    calls = caller(credential)
    for service, path in (
        ("compute", "/v2.1/servers/detail"),
        ("compute", "/v2.1/flavors/detail"),
        ("compute", "/v2.1/limits"),
        ("image", "/v2/images"),
        ("network", "/v2.0/networks"),
        ("network", "/v2.0/ports"),
    ):
        assert status(calls, service, "GET", path) == 200, path
    # What does not exist is not found, rather than refused: the rule lets the call through.
    missing = "/v2.1/servers/00000000-0000-0000-0000-000000000000"
    assert status(calls, "compute", "GET", missing) == 404
    assert status(calls, "compute", "DELETE", missing) == 404
    assert status(calls, "compute", "POST", "/v2.1/servers", {}) == 400
    assert status(calls, "network", "DELETE", "/v2.0/ports/00000000-0000-0000-0000-000000000000") == 404


@pytest.mark.parametrize("region", REGIONS)
def test_the_credential_can_do_nothing_else(site: Site, region: str) -> None:
    credential = site.credential(region)
    calls = caller(credential)
    user = f"/v3/users/{credential['user_id']}"
    for service, method, path, body in (
        ("identity", "GET", "/v3/users", None),
        ("identity", "GET", "/v3/projects", None),
        ("identity", "POST", "/v3/users", {"user": {"name": "evil"}}),
        ("identity", "PATCH", user, {"user": {"description": "evil"}}),
        ("identity", "POST", user + "/application_credentials", {"application_credential": {"name": "evil"}}),
        ("image", "POST", "/v2/images", {"name": "evil", "disk_format": "raw", "container_format": "bare"}),
        ("compute", "POST", "/v2.1/os-keypairs", {"keypair": {"name": "evil"}}),
        ("compute", "POST", "/v2.1/flavors", {"flavor": {"name": "evil"}}),
        ("compute", "GET", "/v2.1/os-hypervisors", None),
        ("network", "POST", "/v2.0/networks", {"network": {"name": "evil"}}),
        ("network", "POST", "/v2.0/security-groups", {"security_group": {"name": "evil"}}),
        ("network", "GET", "/v2.0/security-groups", None),
    ):
        assert status(calls, service, method, path, body) in (401, 403), (method, path)
    # Other projects: the admin's flag is no help, and no token of another scope is given out.
    assert status(calls, "compute", "GET", "/v2.1/servers/detail?all_tenants=1") in (401, 403)
    other = site.cloud(f"{region}-admin").identity.find_project("admin").id
    scope = {"auth": {"identity": {"methods": ["token"], "token": {"id": calls.get_token()}}, "scope": {"project": {"id": other}}}}
    answer = calls.post(credential["auth_url"] + "/auth/tokens", json=scope, raise_exc=False, authenticated=False)
    assert answer.status_code in (401, 403, 404) and "X-Subject-Token" not in answer.headers


def test_drift_is_predicted_as_it_is_then_applied(site: Site) -> None:
    region = "region-a"
    admin, own = site.cloud(f"{region}-admin"), site.cloud(region)
    group = own.network.find_security_group(NAME)
    own.network.create_security_group_rule(security_group_id=group.id, direction="ingress", ethertype="IPv4", protocol="tcp")
    admin.compute.delete_flavor(admin.compute.find_flavor(f"{NAME}.small"))
    admin.set_compute_quotas(NAME, instances=7)
    project, role = admin.identity.find_project(NAME), admin.identity.find_role("admin")
    admin.identity.assign_project_role_to_user(project, admin.identity.find_user(NAME), role)
    own.compute.delete_keypair(NAME)
    diffs = []
    for arguments in (["--check"], []):
        code, output = site.play("regions", "--limit", region, "--diff", *arguments)
        assert code == 0 and site.changed(output, region) == 2, output
        diffs.append([line for line in output.splitlines() if line.startswith(("+", "-", "    ", "@@")) and "Saturday" not in line])
    assert diffs[0] == diffs[1]
    code, output = site.play("regions", "--limit", region)
    assert code == 0 and site.changed(output, region) == 0, output


def test_a_lost_password_is_replaced(site: Site) -> None:
    (site.state / "secrets" / f"region-a-{NAME}").unlink()
    code, output = site.play("regions", "--limit", "region-a")
    assert code == 0 and site.changed(output, "region-a") == 2, output
    assert site.cloud("region-a").compute.get_limits()


def test_rotation_makes_a_new_one_and_removes_the_old(site: Site) -> None:
    old = site.credential("region-b")
    code, output = site.play("rotate_credentials", "--limit", "region-b")
    assert code == 0, output
    new = site.credential("region-b")
    assert new["generation"] == old["generation"] + 1 and new["application_credential_id"] != old["application_credential_id"]
    assert status(caller(new), "compute", "GET", "/v2.1/limits") == 200
    with pytest.raises(Exception, match=r"404|401|find"):
        caller(old).get_token()
    assert new["application_credential_secret"] not in output


def test_a_lost_credential_is_told_and_rotation_brings_it_back(site: Site) -> None:
    path = site.state / "credentials" / "region-b-scheduler.yml"
    path.unlink()
    code, output = site.play("regions", "--limit", "region-b", "-e", "region_failures_fatal=true")
    assert code != 0 and "rotate_credentials" in output and not path.exists()
    assert site.play("rotate_credentials", "--limit", "region-b")[0] == 0
    assert status(caller(site.credential("region-b")), "compute", "GET", "/v2.1/limits") == 200


def test_bad_input_names_region_and_field_and_changes_nothing(site: Site) -> None:
    bad = json.dumps(
        {"region_networks": [{"name": NAME, "subnets": [{"name": NAME, "cidr": "192.0.2.0/28", "gateway_ip": "198.51.100.1"}]}]}
    )
    code, output = site.play("regions", "--limit", "region-a", "-e", bad, "-e", "region_failures_fatal=true")
    assert code != 0 and "networks[0].subnets[0].gateway_ip" in output
    code, output = site.play(
        "regions", "--limit", "region-a", "-e", '{"region_flavors": [{"name": "x", "vcpus": "many", "ram": 1, "disk": 1}]}'
    )
    assert "vcpus" in output and "region-a" in output


def test_a_mere_tenant_is_told_what_is_missing(site: Site) -> None:
    more = json.dumps(
        {
            "region_admin_cloud": "",
            "region_quotas": {"compute": {"instances": 50}},
            "region_flavors": [{"name": "huge", "vcpus": 64, "ram": 262144, "disk": 10}],
        }
    )
    code, output = site.play("regions", "--limit", "region-a", "-e", more)
    assert code == 0 and site.changed(output, "region-a") == 0, output
    assert "flavor: huge: a flavor with 64 vCPU" in output and "quota: compute.instances: a quota of 50; it is 2" in output


def test_removal_leaves_what_is_foreign_and_says_so(site: Site) -> None:
    region = "region-b"
    admin, own = site.cloud(f"{region}-admin"), site.cloud(region)
    project = admin.identity.find_project(NAME).id
    foreign_network = admin.network.create_network(name="theirs", project_id=project)
    foreign_flavor = admin.compute.find_flavor("theirs.small") or admin.compute.create_flavor(name="theirs.small", vcpus=1, ram=64, disk=1)
    own.compute.create_keypair(name="theirs")
    by_hand = own.identity.create_application_credential(own.current_user_id, "theirs")
    listed = world(site, region)
    code, output = site.play("remove_region", "--limit", region)
    assert code != 0 and "still holds what is not ours to remove: network theirs" in output, output
    assert world(site, region) == listed  # nothing was removed
    admin.network.delete_network(foreign_network)
    admin_before = others(site, region)
    code, output = site.play("remove_region", "--limit", region)
    assert code == 0, output
    assert others(site, region) == admin_before
    assert admin.compute.find_flavor("theirs.small") and not admin.identity.find_project(NAME) and not admin.identity.find_user(NAME)
    assert not admin.compute.find_flavor(f"{NAME}.small") and not list(admin.network.networks(project_id=project))
    # Asked for by project, Neutron would make that project's default group anew.
    assert not [group for group in admin.network.security_groups() if group.project_id == project]
    assert region not in yaml.safe_load(site.clouds.read_text())["clouds"]
    assert by_hand.id  # it went with its user, which was ours
    code, output = site.play("remove_region", "--limit", region)
    assert code == 0 and site.changed(output, region) == 0, output
    admin.compute.delete_flavor(foreign_flavor)


def world(site: Site, region: str) -> dict[str, Any]:
    admin, own = site.cloud(f"{region}-admin"), site.cloud(region)
    return {
        **others(site, region),
        "networks": sorted(network.id for network in admin.network.networks()),
        "key pairs": sorted(pair.name for pair in own.compute.keypairs()),
        "credentials": sorted(entry.id for entry in own.identity.application_credentials(own.current_user_id)),
        "groups": sorted(group.id for group in own.network.security_groups()),
        "flavors": sorted(flavor.id for flavor in admin.compute.flavors()),
    }


def others(site: Site, region: str) -> dict[str, Any]:
    """What the admin sees that is not this site's."""
    admin = site.cloud(f"{region}-admin")
    project = admin.identity.find_project(NAME)
    mine = project.id if project else None
    return {
        "servers": sorted(server.id for server in admin.compute.servers(all_projects=True)),
        "networks of others": sorted(network.id for network in admin.network.networks() if network.project_id != mine),
        "flavors of others": sorted(flavor.id for flavor in admin.compute.flavors() if not flavor.name.startswith(NAME)),
        "projects": sorted(found.name for found in admin.identity.projects() if found.name != NAME),
        "users": sorted(found.name for found in admin.identity.users() if found.name != NAME),
    }
