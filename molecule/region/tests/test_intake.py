"""The intake: drift, invalid input, a tenant without admin rights, unreachable regions, removal of a region."""

from __future__ import annotations

import json
import time

import pytest
import yaml
from region_tls_server import tls_server

GIVEN = "Create project, users, quotas, flavors and provider networks"
MADE = "Create networks, routers, security groups and key pair"


def test_check_predicts_drift_repair(account, converge, state):
    admin, own = account("region-m-admin"), account("region-m")
    project = own.current_project_id
    group = own.network.find_security_group("mol-region")
    own.network.create_security_group_rule(security_group_id=group.id, direction="ingress", ethertype="IPv4", protocol="tcp")
    own.compute.delete_keypair("mol-region")
    admin.compute.delete_flavor(admin.compute.find_flavor("mol.small"))
    admin.set_compute_quotas(project, instances=7)
    admin.identity.assign_project_role_to_user(project, own.current_user_id, admin.identity.find_role("admin"))
    found = converge.repairs_drift("--tags=intake", "--limit=region-m")
    assert found == [f"region-m: {GIVEN}", f"region-m: {MADE}"]
    assert own.compute.get_limits().absolute.instances == 30

    (state / "secrets" / "region-m-mol-region-m").unlink()
    found = converge.run("--tags=intake", "--limit=region-m")
    assert not found.failures and found.changed == ["region-m: Add our own entry to clouds.yaml", f"region-m: {GIVEN}"]
    assert account("region-m").compute.get_limits()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"region_networks": [{"name": "x", "subnets": [{"name": "x", "cidr": "192.0.2.0/28", "gateway_ip": "198.51.100.1"}]}]},
            "networks[0].subnets[0].gateway_ip",
        ),
        ({"region_flavors": [{"name": "x", "vcpus": "many", "ram": 1, "disk": 1}]}, "vcpus"),
        ({"region_networks": [{"name": "nowhere", "existing": True}]}, "network nowhere does not exist"),
    ],
)
def test_invalid_input_names_its_field(converge, variables, words):
    assert words in converge.refuses("--tags=intake", "--limit=region-m", **variables)


def test_existing_network_is_not_changed(converge):
    done = converge.run("--tags=intake", "--limit=region-m", region_networks=[{"name": "mol-region", "existing": True}])
    assert not done.failures and not done.changed


def test_tenant_setup_lists_missing_resources(account, converge):
    """Nothing of the admin's is tried; the two things that only the region's admin could give are named with what to ask for."""
    own = account("region-t")
    own.compute.delete_keypair("mol-tenant")
    done = converge.run("--tags=intake", "--limit=region-t")
    assert not done.failures and done.changed == [f"region-t: {MADE}"]
    text = "\n".join(done.messages["region-t"])
    assert "region-t: missing resources" in text
    assert "flavor: mol.huge: a flavor with 64 vCPU, 262144 MiB, 1 GiB disk that our project may use" in text
    assert "mol.small" not in text


@pytest.mark.security
def test_refused_login_fails_after_other_regions_complete(account, playbook, state, tmp_path):
    clouds = yaml.safe_load((state / "clouds.yaml").read_text("utf-8"))["clouds"]
    clouds["region-locked-admin"] = json.loads(json.dumps(clouds["region-m-admin"]))
    clouds["region-locked-admin"]["auth"]["password"] = "not-this-one"
    (tmp_path / "clouds.yaml").write_text(yaml.safe_dump({"clouds": clouds}))
    locked = {"region-locked": {"distcloud_clouds_yaml": str(tmp_path / "clouds.yaml")}}
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"children": {"scratch_regions": {"hosts": locked}}}}))
    account("region-m").compute.delete_keypair("mol-region")
    for mode, changed in (["--check"], [f"region-m: {MADE}"]), ([], [f"region-m: {MADE}"]), ([], []):
        done = playbook("regions", inventory).run("--limit=region-m,region-locked", *mode)
        assert "region-locked-admin: the log-in was refused" in done.failures["region-locked"]
        assert [change for change in done.changed if change.startswith("region-m:")] == changed, (mode, done.failures, done.messages)
        assert not any(MADE in change or GIVEN in change for change in done.changed if "region-locked" in change)


@pytest.mark.fault
def test_unreachable_regions_are_named_others_complete(account, on, playbook, state, tmp_path):
    clouds = yaml.safe_load((state / "clouds.yaml").read_text("utf-8"))["clouds"]
    address = clouds["region-m-admin"]["auth"]["auth_url"].rpartition(":")[0]
    machine = on("mol-region-m")
    machine.check_output("nft 'table inet hole { chain in { type filter hook input priority 0; tcp dport 5999 drop; }; }'")
    account("region-m").compute.delete_keypair("mol-region")
    with tls_server(tmp_path) as foreign, tls_server(tmp_path, days=-1) as expired:
        entries = {
            "hole": {"auth_url": f"{address}:5999/v3"},
            "closed": {"auth_url": f"{address}:5998/v3"},
            "foreign": {"auth_url": f"https://localhost:{foreign[0]}/v3"},
            "expired": {"auth_url": f"https://localhost:{expired[0]}/v3", "cacert": str(expired[1])},
        }
        for name, entry in entries.items():
            clouds[f"region-{name}-admin"] = json.loads(json.dumps(clouds["region-m-admin"] | {"api_timeout": 5}))
            clouds[f"region-{name}-admin"]["auth"]["auth_url"] = entry.pop("auth_url")
            clouds[f"region-{name}-admin"] |= entry
        (tmp_path / "clouds.yaml").write_text(yaml.safe_dump({"clouds": clouds}))
        hosts = {f"region-{name}": {"distcloud_clouds_yaml": str(tmp_path / "clouds.yaml")} for name in entries}
        inventory = tmp_path / "hosts.yml"
        inventory.write_text(yaml.safe_dump({"all": {"children": {"scratch_regions": {"hosts": hosts}}}}))
        began = time.monotonic()
        try:
            done = playbook("regions", inventory).run("--limit", ",".join(["region-m", *hosts]))
            took = time.monotonic() - began
            fatal = playbook("regions", inventory).run("--limit=region-closed", region_failures_fatal=True)
        finally:
            machine.check_output("nft delete table inet hole")
    print(f"four dead regions and one that lives: {took:.0f} s")
    # A connection that is not answered is given up by the kernel after 130 s: without our time-outs each try would last as long.
    assert took < 120, "one that does not answer holds the run up for longer than a few time-outs"
    assert sorted(done.failures) == ["region-expired", "region-foreign"], "a region that is down is not an error"
    text = "\n".join(line for lines in done.messages.values() for line in lines)
    assert "Setup failed, all other regions are complete:" in text
    for name in ("hole", "closed"):
        words = f"region-{name}-admin: the identity service is unreachable; check that the region is up and that its port is open"
        assert f"region-{name}: {words}" in text
    assert "region-closed-admin: the identity service is unreachable" in fatal.failures["region-closed"]
    assert "set cacert in clouds.yaml to the CA's file" in done.failures["region-foreign"]
    assert "it has expired; the region's admin has to renew it" in done.failures["region-expired"]
    assert f"region-m: {MADE}" in done.changed


@pytest.mark.security
def test_removal_keeps_foreign_resources(account, converge, state, playbook):
    """First refused and nothing removed, as the project holds a network of somebody else; then done, and nothing of others has gone."""
    admin, own = account("region-n-admin"), account("region-n")
    project = own.current_project_id
    theirs = admin.network.create_network(name="theirs", project_id=project)
    port = admin.network.create_port(name="their-port", network_id=admin.network.find_network("mol-region", project_id=project).id)
    flavor = admin.compute.create_flavor(name="theirs.small", vcpus=1, ram=64, disk=1)
    try:
        before = seen(admin)
        refused = playbook("remove_region").run("--limit=region-n")
        assert "still holds resources that are not ours: network theirs, port their-port" in refused.failures["region-n"]
        assert not refused.changes and seen(admin) == before and own.compute.find_keypair("mol-region")

        admin.network.delete_network(theirs)
        admin.network.delete_port(port)
        before = seen(admin)
        removed = playbook("remove_region").run("--limit=region-n")
        assert not removed.failures
        after = seen(admin)
        gone = {kind: names - after[kind] for kind, names in before.items()}
        assert gone == {
            "projects": {"mol-region-n"},
            "users": {"mol-region-n"},
            "flavors": {"mol.small"},
            "networks": {"mol-region"},
            "images": {"mol-worker-1"},
        }
        assert not [one for one in admin.network.security_groups() if one.project_id == project]
        assert not playbook("remove_region").run("--limit=region-n").changes
    finally:
        admin.compute.delete_flavor(flavor)
    fresh = converge.run("--check", "--tags=intake,image", "--limit=region-n")
    assert not fresh.failures and fresh.changes, "a region where nothing of ours is can be checked"
    assert not [*state.glob("credentials/region-n-*"), *state.glob("secrets/region-n-mol-*")], "a check makes no password and no credential"
    again = converge.run("--tags=intake,image", "--limit=region-n")
    assert not again.failures and account("region-n").compute.get_limits()


@pytest.mark.security
def test_tenant_removal_refuses_network_in_use(account, playbook, state):
    """What else is in the project, which stays, does not matter: it holds all of region-m."""
    own = account("region-t")
    port = own.network.create_port(name="their-port", network_id=own.network.find_network("mol-tenant").id)
    try:
        refused = playbook("remove_region").run("--limit=region-t")
        assert "our networks and security groups are still used by port their-port" in refused.failures["region-t"]
        assert not refused.changes and own.compute.find_keypair("mol-tenant")
        assert (state / "credentials" / "region-t-scheduler.yml").exists()
    finally:
        own.network.delete_port(port)
    text = playbook("remove_region").run("--check", "--limit=region-t")
    assert not text.failures and text.changes


def seen(admin):
    """The names of what the admin sees in all projects of one region."""
    return {
        "projects": {one.name for one in admin.identity.projects()},
        "users": {one.name for one in admin.identity.users()},
        "flavors": {one.name for one in admin.compute.flavors(is_public="None")},
        "networks": {one.name for one in admin.network.networks()},
        "images": {one.name for one in admin.image.images()},
    }
