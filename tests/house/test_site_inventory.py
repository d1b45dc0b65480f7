"""The example inventory passes `validate`, and `validate` names each mistake in an invalid one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.x509.oid import ExtendedKeyUsageOID
from example_site import EXAMPLE, ROOT, Site
from own_ca import OwnCa
from role_variables import unread

CENTRAL = "central.example.org"
COMMON = EXAMPLE.parent / "common"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_example_is_valid_and_unchanged(site: Site) -> None:
    code, output = site.validate()
    assert code == 0, output
    assert "changed=0" in output and "changed=1" not in output


def test_inventory_variables_are_used() -> None:
    for path in (*EXAMPLE.rglob("*.yml"), *COMMON.rglob("*.yml")):
        if path.name != "hosts.yml":
            names = [name for name in yaml.safe_load(path.read_text()) if not name.startswith("ansible_")]
            assert unread(names) == [], f"{path.relative_to(ROOT)}: nothing reads these"


def test_example_files_are_documented() -> None:
    for path in sorted(EXAMPLE.rglob("*.yml")):
        assert f"{path.relative_to(EXAMPLE)}" in (ROOT / "docs" / "first_site.md").read_text(), f"docs/first_site.md lacks {path.name}"


def groups(**values: Any) -> Callable[[Site], None]:
    return lambda site: site.variable("group_vars/all", distcloud_groups=values)


def hosts(group: str, names: list[str]) -> Callable[[Site], None]:
    def change(site: Site) -> None:
        path = site.inventory / "hosts.yml"
        loaded = yaml.safe_load(path.read_text())
        loaded["all"]["children"][group]["hosts"] = dict.fromkeys(names)
        path.write_text(yaml.safe_dump(loaded))

    return change


def both(*changes: Callable[[Site], Any]) -> Callable[[Site], None]:
    def change(site: Site) -> None:
        for one in changes:
            one(site)

    return change


def central(**values: Any) -> Callable[[Site], None]:
    return lambda site: site.variable("host_vars/central.example.org", **values)


def region(**values: Any) -> Callable[[Site], None]:
    return lambda site: site.variable("host_vars/cloud-two", **values)


def test_separate_submit_node_needs_only_its_group(site: Site) -> None:
    hosts("submit", ["queue"])(site)
    site.variable("host_vars/queue", distcloud_fqdn="submit.example.org")
    site.vault.unlink()
    names = "[htcondor_roles, htcondor_submit_nodes, htcondor_token_host, scheduler_schedds | default('none')] | to_json"
    for host, expected in (
        ("central.example.org", [["central_manager"], ["submit"], "central.example.org", ["submit.example.org"]]),
        ("queue", [["submit"], ["submit"], "central.example.org", "none"]),
    ):
        done = site.run("ansible", *site.inventories, host, "-c", "local", "-m", "debug", "-a", f"msg={{{{ {names} }}}}")
        assert json.loads(yaml.safe_load(done.stdout.partition("=>")[2])["msg"]) == expected


def test_missing_common_inventory_is_named(site: Site) -> None:
    site.inventories = ["-i", str(site.inventory)]
    code, output = site.validate()
    assert code != 0 and f"lacks the groups and wiring of inventories/common; give it before your own: -i {COMMON}" in output


def test_common_inventory_in_second_place_is_refused(site: Site) -> None:
    site.inventories = ["-i", str(site.inventory), "-i", str(COMMON)]
    code, output = site.validate()
    assert code != 0 and f"The inventory {COMMON} comes after another one, whose variables it would override" in output


def test_port_of_the_scheduler_is_in_its_urls(site: Site) -> None:
    central(scheduler_listen_port=9443)(site)
    site.vault.unlink()
    urls = site.run(
        "ansible",
        *site.inventories,
        CENTRAL,
        "-c",
        "local",
        "-m",
        "debug",
        "-a",
        "msg={{ [distcloud_scheduler_url, scheduler_url] | to_json }}",
    )
    assert json.loads(yaml.safe_load(urls.stdout.partition("=>")[2])["msg"]) == [f"https://{CENTRAL}:9443"] * 2


def test_status_skips_empty_groups(site: Site) -> None:
    site.vault.unlink()
    (site.inventory / "hosts.yml").write_text("all: {}\n")
    done = site.run("ansible-playbook", *site.inventories, "playbooks/status.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (site.state / "report" / "index.html").is_file()


def test_own_ca_and_certificates_are_accepted(site: Site) -> None:
    brought(site)
    code, output = site.validate()
    assert code == 0, output


def brought(site: Site, ca: OwnCa | None = None, **changed: Any) -> OwnCa:
    """An admin's own CA with both certificates that the playbooks install, one of them with a wildcard; `changed` overrides
    the files named."""
    ca = ca or OwnCa(site.home / "own")
    files = {name: ca.files(name, host) for name, host in (("condor", CENTRAL), ("scheduler", "*.example.org"))} | changed
    site.variable("group_vars/all", certificates_ca_certificate=str(ca.certificate), certificates_files=files)
    return ca


def other_ca(site: Site) -> None:
    brought(site, condor=OwnCa(site.home / "other").files("condor", CENTRAL))


def other_names(site: Site) -> None:
    ca = OwnCa(site.home / "own")
    brought(site, ca, condor=ca.files("other", "other.example.org", "*.example.net"), scheduler=ca.files("nameless"))


def clients_certificate(site: Site) -> None:
    ca = OwnCa(site.home / "own")
    brought(site, ca, condor=ca.files("client", CENTRAL, usages=(ExtendedKeyUsageOID.CLIENT_AUTH,)))


def swapped_keys(site: Site) -> None:
    ca = OwnCa(site.home / "own")
    condor, scheduler = ca.files("condor", CENTRAL), ca.files("scheduler", CENTRAL)
    swapped = {"condor": {**condor, "key_file": scheduler["key_file"]}, "scheduler": scheduler}
    site.variable("group_vars/all", certificates_ca_certificate=str(ca.certificate), certificates_files=swapped)


# Per case: the change that makes the inventory invalid, and the words that the output must have.
INVALID: dict[str, tuple[Callable[[Site], Any], tuple[str, ...]]] = {
    "no name": (lambda site: site.variable("group_vars/all", distcloud_site="a b"), ("distcloud_site is a b",)),
    "group empty, group too large": (
        both(hosts("submit", []), hosts("schedulers", ["a.example.org", "b.example.org"])),
        (
            "Group submit of the inventory has 0 hosts: it needs at least one",
            "Group schedulers of the inventory has 2 hosts: it needs exactly one",
        ),
    ),
    "short names of submit nodes": (
        hosts("submit", ["one.example.org", "one.example.net"]),
        ("Group submit: the short names of its hosts (the first part of distcloud_fqdn) must be unique, not one, one",),
    ),
    "scheduler elsewhere": (hosts("schedulers", ["other.example.org"]), ("schedulers has other.example.org", "same host")),
    "groups not a mapping": (
        lambda site: site.variable("group_vars/all", distcloud_groups=["physics"]),
        ("distcloud_groups must be a mapping",),
    ),
    "users": (
        groups(
            **{
                "nobody": {"users": []},
                "bad": {"users": ["alice", "Bob Two", "$(x)"]},
                "text": {"users": "alice"},
                "phy sics": {"users": ["a"]},
            }
        ),
        (
            "distcloud_groups.nobody: ",
            "distcloud_groups.bad: users wrong: Bob Two, $(x).",
            "distcloud_groups.text: users wrong: alice",
            "distcloud_groups.phy sics: ",
        ),
    ),
    "no vault": (
        lambda site: site.vault.unlink(),
        ("distcloud_scheduler_tokens.admin must be", "distcloud_scheduler_tokens.viewer must be"),
    ),
    "short token": (
        lambda site: site.variable("group_vars/all", distcloud_vault_viewer_token="short"),
        ("distcloud_scheduler_tokens.viewer must be a text of at least 20",),
    ),
    "no clouds.yaml": (lambda site: (site.state / "clouds.yaml").unlink(), ("distcloud_clouds_yaml: no file", "clouds.yaml")),
    "open clouds.yaml": (lambda site: (site.state / "clouds.yaml").chmod(0o644), ("mode 0644", "chmod 600")),
    "no entry": (
        lambda site: site.write_clouds({"clouds": {}}),
        ("cloud-one: ", "no entry clouds.cloud-one-admin", "region_admin_cloud names it", "no entry clouds.cloud-two"),
    ),
    "not a mapping": (lambda site: site.write_clouds("text"), ("no entry clouds.cloud-two",)),
    "invalid YAML": (lambda site: site.write_clouds("clouds: [}"), ("cloud-two", "clouds.yaml")),
    "no region_cloud": (region(region_cloud=""), ("cloud-two: a host of group regions needs region_cloud",)),
    "bounds of the planner": (
        central(scheduler_policy={"drain_timeot": 60, "build_timeout": "long"}),
        ("scheduler_policy.drain_timeot", "Supported parameters", "build_timeout", "unable to convert to int"),
    ),
    "types": (
        both(
            region(region_quotas="many", region_flavors=[{"name": "f", "vcpus": "eight"}]),
            central(scheduler_log_level="loud", htcondor_negotiator_interval="soon", engine_keep_releases="few"),
        ),
        (
            "region_quotas",
            "vcpus",
            "eight",
            "scheduler_log_level",
            "loud",
            "htcondor_negotiator_interval",
            "soon",
            "engine_keep_releases",
            "few",
        ),
    ),
    "no earlier release kept": (
        central(engine_keep_releases=0),
        ("engine_keep_releases is 0 on central.example.org: it must be at least 1",),
    ),
    "own CA without certificates": (
        lambda site: site.variable("group_vars/all", certificates_ca_certificate=str(OwnCa(site.home / "own").certificate)),
        ('Certificate "condor" of central.example.org: with certificates_ca_certificate there is no CA key', "certificates_files.condor"),
    ),
    "a certificate is not there": (
        lambda site: brought(site, scheduler={"certificate_file": "/nonexistent.pem", "key_file": "/nonexistent.key"}),
        ('Certificate "scheduler" of central.example.org: ', "must both be given and both exist", "/nonexistent.key"),
    ),
    "a misspelt field": (
        lambda site: brought(site, condor={"certificate": "/a.pem"}),
        ("certificates_files.condor must be a mapping with certificate_file and key_file",),
    ),
    "another certificate's key": (swapped_keys, ('Certificate "condor": key_file', "does not match certificate_file")),
    "a client's certificate": (
        clients_certificate,
        ("own/client.pem is for TLS Web Client Authentication", "only; get one for TLS Web Server Authentication"),
    ),
    "another CA's certificate": (other_ca, ('Certificate "condor": certificate_file', "does not lead to certificates_ca_certificate")),
    "an ended certificate": (
        lambda site: brought(site, condor=OwnCa(site.home / "own").files("ended", CENTRAL, days=-1)),
        ('Certificate "condor": ', "has expired"),
    ),
    "a certificate of tomorrow": (
        lambda site: brought(site, condor=OwnCa(site.home / "own").files("early", CENTRAL, since=1)),
        ('Certificate "condor": ', "is not valid before 20"),
    ),
    "an ended CA": (
        lambda site: brought(site, OwnCa(site.home / "own", days=-1)),
        ("certificates_ca_certificate: ", "own/root.pem is valid from 20", "valid now"),
    ),
    "an ended intermediate certificate": (
        lambda site: brought(site, OwnCa(site.home / "own", between=(-400, -1))),
        ('Certificate "condor": certificate_file', "own/condor.pem has the intermediate certificate intermediate, which is valid from 20"),
    ),
    "an intermediate certificate of tomorrow": (
        lambda site: brought(site, OwnCa(site.home / "own", between=(1, 100))),
        (
            'Certificate "scheduler": certificate_file',
            "own/scheduler.pem has the intermediate certificate intermediate, which is valid from",
        ),
    ),
    "names of other hosts": (
        other_names,
        (
            "own/other.pem is not for DNS:central.example.org, but for DNS:other.example.org, DNS:*.example.net",
            "own/nameless.pem is not for DNS:central.example.org, but for nothing",
            "get one from your CA for DNS:central.example.org",
        ),
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_inventory_is_named(site: Site, case: str) -> None:
    change, words = INVALID[case]
    change(site)
    code, output = site.validate()
    assert code != 0, output
    for word in words:
        assert word in output, f"{word!r} is not in the output: {output[-3000:]}"
