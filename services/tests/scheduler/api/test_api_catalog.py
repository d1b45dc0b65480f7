"""Groups, clouds and metadata through the API: changes, validation, authorization, and that no secret is returned."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import select

from distcloud.common.secretbox import SecretBox
from distcloud.scheduler.catalog.snapshot import load_catalog, record_projects
from distcloud.scheduler.store.tables import CloudRow, VmRow

from ..support.api_world import Client, client
from ..support.stage import KEY

CREDENTIAL = {
    "auth_url": "https://keystone.example.org:5000/v3/",
    "application_credential_id": "21dced0fd20347869b93710d2b98aae0",
    "application_credential_secret": "unmistakable-secret",
}
CLOUD = {"region": "Victoria", "auth": CREDENTIAL}


@pytest.fixture
def call(tmp_path: Path, database_url: str) -> Iterator[Client]:
    with client(tmp_path, database_url) as found:
        found("PUT", "/v1/groups/atlas", {})
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """One application with group atlas and its cloud victoria, shared by tests that change nothing."""
    with client(tmp_path_factory.mktemp("shared")) as found:
        found("PUT", "/v1/groups/atlas", {})
        found("PUT", "/v1/groups/atlas/clouds/victoria", CLOUD)
        yield found


@pytest.fixture
def cloud(call: Client) -> Client:
    assert call("PUT", "/v1/groups/atlas/clouds/victoria", CLOUD, who="atlas").status_code == 200
    return call


def certificate() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def fields(answer: Any) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [error["field"] for error in answer.json()["errors"]]


def test_group_is_created_changed_reset_and_deleted(call: Client) -> None:
    path = "/v1/groups/babar"
    made = call("PUT", path, {"default_flavor": "m1", "aliases": {"europe": ["cern", "desy"]}}).json()
    assert made["changed"]
    assert made["before"] is None
    assert made["after"] == {
        "name": "babar",
        "keep_alive": 300,
        "default_flavor": "m1",
        "default_image": None,
        "aliases": {"europe": ["cern", "desy"]},
    }
    assert call("PUT", path, {"default_flavor": "m1"}).json()["changed"] is False
    changed = call("PUT", path, {"keep_alive": 600, "default_flavor": None}).json()
    assert (changed["before"]["keep_alive"], changed["after"]["keep_alive"]) == (300, 600)
    assert changed["after"]["default_flavor"] is None
    assert changed["after"]["aliases"] == {"europe": ["cern", "desy"]}
    assert call("PUT", path, {"keep_alive": None}).json()["after"]["keep_alive"] == 300
    gone = call("DELETE", path).json()
    assert gone["changed"]
    assert gone["after"] is None
    assert call("DELETE", path).json() == {"changed": False, "before": None, "after": None, "changed_secrets": []}
    assert call("GET", path).status_code == 404


def test_dry_run_returns_same_result_without_changes(call: Client) -> None:
    path = "/v1/groups/atlas/clouds/victoria"
    would = call("PUT", path, CLOUD, params={"dry_run": "true"}).json()
    assert call("GET", path).status_code == 404
    assert call.engine.woken == 1  # the group of the fixture
    assert call("PUT", path, CLOUD).json() == would
    assert call.engine.woken == 2
    for method, body in (("PUT", {"priority": 7}), ("DELETE", None)):
        would = call(method, path, body, params={"dry_run": "true"}).json()
        assert would["changed"]
        assert call("GET", path).json() == would["before"]
        assert call(method, path, body).json() == would


def test_secrets_are_encrypted_compared_and_never_returned(cloud: Client) -> None:
    path = "/v1/groups/atlas/clouds/victoria"
    shown = cloud("GET", path).json()
    assert shown["auth"]["application_credential_secret"] == "********"
    assert shown["auth"]["auth_url"] == "https://keystone.example.org:5000/v3"
    assert cloud("PUT", path, CLOUD).json()["changed"] is False
    for dry in ("true", "false"):
        other = cloud("PUT", path, {"auth": {"application_credential_secret": "another-secret"}}, params={"dry_run": dry}).json()
        assert other["changed"]
        assert other["changed_secrets"] == ["auth.application_credential_secret"]
        assert other["before"] == other["after"]
        assert "secret" not in json.dumps(other).replace("application_credential_secret", "").replace("changed_secrets", "")

    async def stored() -> str:
        async with cloud.api.database.read() as session:
            row = (await session.scalars(select(CloudRow))).one()
            return f"{row.auth} {row.auth_secrets}"

    text = cloud.runner.run(stored())
    assert "another-secret" not in text
    assert "unmistakable" not in text


def test_cloud_is_created_disabled_and_stays_enabled(cloud: Client) -> None:
    path = "/v1/groups/atlas/clouds/victoria"
    assert cloud("GET", path).json()["enabled"] is False
    for who in ("atlas", "viewer"):
        for value in (True, False):
            for dry in ("true", "false"):
                assert cloud("PUT", path, {"enabled": value}, who=who, params={"dry_run": dry}).status_code == 403
    assert cloud("PUT", "/v1/groups/atlas/clouds/new", {**CLOUD, "enabled": True}, who="atlas").status_code == 403
    assert cloud("GET", "/v1/groups/atlas/clouds/new").status_code == 404
    assert cloud("PUT", path, {"enabled": True}).json()["after"]["enabled"] is True
    assert cloud("PUT", path, {**CLOUD, "priority": 3}, who="atlas").json()["after"]["enabled"] is True
    assert cloud("PUT", path, {"enabled": None}, who="atlas").json()["changed"] is False


@pytest.mark.parametrize(
    "move",
    [
        {"region": "Toronto"},
        {"auth": {**CREDENTIAL, "auth_url": "https://other.example.org/v3"}},
    ],
)
def test_group_admin_cannot_move_enabled_cloud(cloud: Client, move: dict[str, Any]) -> None:
    path = "/v1/groups/atlas/clouds/victoria"
    assert cloud("PUT", path, move, who="atlas", params={"dry_run": "true"}).status_code == 200
    cloud("PUT", path, {"enabled": True})
    refused = cloud("PUT", path, move, who="atlas")
    assert refused.status_code == 403
    assert "enabled" in refused.json()["detail"]
    assert cloud("PUT", path, move).json()["changed"]


def test_credential_can_change_once_project_is_known(cloud: Client) -> None:
    path = "/v1/groups/atlas/clouds/victoria"
    other = {"auth": {"application_credential_id": "other", "application_credential_secret": "other-secret"}}

    async def remembered(seen: str = "") -> str | None:
        if seen:
            snapshot = await load_catalog(cloud.api.database, SecretBox([KEY]))
            key = ("atlas", "victoria")
            await record_projects(cloud.api.database, {key: (snapshot.clouds[key].account, seen)})
        async with cloud.api.database.read() as session:
            return (await session.scalars(select(CloudRow.project))).one()

    cloud("PUT", path, {"enabled": True})
    refused = cloud("PUT", path, other, who="atlas")
    assert refused.status_code == 403 and "application_credential_id" in refused.json()["detail"]
    assert cloud.runner.run(remembered("p1")) == "p1"
    assert cloud("PUT", path, other, who="atlas").json()["changed"]
    assert cloud.runner.run(remembered("p2")) == "p1", "the first project is kept"
    assert cloud("PUT", path, {"enabled": True, "priority": 2}).json()["changed"]
    assert cloud.runner.run(remembered()) == "p1", "it was enabled already"
    assert "project" not in cloud("GET", path).json()
    cloud("PUT", path, CLOUD)
    assert cloud.runner.run(remembered()) is None, "a cloud admin changed the credential on purpose"
    cloud.runner.run(remembered("p3"))
    cloud("PUT", path, {"enabled": False})
    cloud("PUT", path, other, who="atlas")
    assert cloud.runner.run(remembered()) == "p3"
    cloud("PUT", path, {"enabled": True})
    assert cloud.runner.run(remembered()) is None


def test_project_of_older_account_is_not_stored(cloud: Client) -> None:
    async def see() -> str | None:
        key = ("atlas", "victoria")
        account = (await load_catalog(cloud.api.database, SecretBox([KEY]))).clouds[key].account
        await record_projects(cloud.api.database, {key: (replace(account, auth={"application_credential_id": "older"}), "p1")})
        async with cloud.api.database.read() as session:
            return (await session.scalars(select(CloudRow.project))).one()

    assert cloud.runner.run(see()) is None


def test_stored_secret_is_not_reused_for_other_account(cloud: Client) -> None:
    path = "/v1/groups/atlas/clouds/victoria"
    secret = "auth.application_credential_secret"
    assert fields(cloud("PUT", path, {"auth": {"auth_url": "https://evil.example.org/v3"}})) == [secret]
    assert fields(cloud("PUT", path, {"auth": {"application_credential_id": "other"}})) == [secret]


def test_authentication_method_can_be_changed(cloud: Client) -> None:
    path = "/v1/groups/atlas/clouds/victoria"
    user = {"username": "distcloud", "password": "pw", "project_name": "distcloud"}
    after = cloud("PUT", path, {"auth": user}).json()["after"]["auth"]
    assert after == {
        "auth_type": "v3password",
        "auth_url": "https://keystone.example.org:5000/v3",
        "username": "distcloud",
        "password": "********",
        "project_name": "distcloud",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }
    assert cloud("PUT", path, {"auth": user}).json()["changed"] is False
    by_id = cloud("PUT", path, {"auth": {"project_id": "77"}}).json()["after"]["auth"]
    assert "project_name" not in by_id
    assert "project_domain_name" not in by_id
    assert fields(cloud("PUT", path, {"auth": {**CREDENTIAL, **user}})) == ["auth"]


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({}, ["region"]),
        ({"region": "r"}, ["auth"]),
        ({"region": "r", "auth": {}}, ["auth"]),
        ({"region": "r", "auth": {"auth_url": "https://k/v3", "username": "u"}}, ["auth.project_name", "auth.password"]),
        ({"region": "r", "auth": {"auth_url": "ftp://k"}}, ["auth.auth_url"]),
        ({"region": "r", "auth": {"auth_url": "https://user:pw@k/v3"}}, ["auth.auth_url"]),
        ({"region": "r", "auth": {"auth_url": "http://[/v3"}}, ["auth.auth_url"]),
        ({"region": "r", "auth": {"auth_url": "https://k:99999999/v3"}}, ["auth.auth_url"]),
        ({"region": "r", "auth": {"auth_url": "https://k/\u0001v3"}}, ["auth.auth_url"]),
        ({"region": "r", "auth": {"auth_url": "https://k/v3?x="}}, ["auth.auth_url"]),
        ({**CLOUD, "region": None}, ["region"]),
        ({**CLOUD, "region": "a+b"}, ["region"]),  # the worker's identity would have another cloud
        ({**CLOUD, "region": "Region One"}, ["region"]),
        ({**CLOUD, "regoin": "x"}, ["regoin"]),
        ({**CLOUD, "priority": "high"}, ["priority"]),
        ({**CLOUD, "priority": True}, ["priority"]),
        ({**CLOUD, "max_vms": -1}, ["max_vms"]),
        ({**CLOUD, "max_vms": 10**30}, ["max_vms"]),
        ({**CLOUD, "ca_certificate": "not PEM"}, ["ca_certificate"]),
        ({**CLOUD, "ca_certificate": "-----BEGIN PRIVATE KEY-----"}, ["ca_certificate"]),
        ({**CLOUD, "credential_expires_at": "tomorrow"}, ["credential_expires_at"]),
        ({**CLOUD, "attributes": {"Distcloud_Vm": "x"}}, ["attributes"]),
        ({**CLOUD, "attributes": {"bad name": "x"}}, ["attributes.bad name.[key]"]),
        ({**CLOUD, "network": "a\x00b"}, ["network"]),
        ({**CLOUD, "security_groups": "default"}, ["security_groups"]),
        ({**CLOUD, "driver": "ec3"}, ["driver"]),
    ],
)
def test_invalid_cloud_names_field_and_stores_nothing(shared: Client, body: dict[str, Any], wrong: list[str]) -> None:
    answer = shared("PUT", "/v1/groups/atlas/clouds/bad", body)
    assert sorted(fields(answer)) == sorted(wrong)
    assert [cloud["name"] for cloud in shared("GET", "/v1/groups/atlas/clouds").json()] == ["victoria"]


def test_error_never_repeats_input(shared: Client) -> None:
    body = {"region": "r", "auth": {**CREDENTIAL, "application_credential_secret": ["unmistakable"]}}
    answer = shared("PUT", "/v1/groups/atlas/clouds/bad", body)
    assert answer.status_code == 422
    assert "unmistakable" not in answer.text


def test_certificate_and_expiry_are_normalized(cloud: Client) -> None:
    path = "/v1/groups/atlas/clouds/victoria"
    pem = certificate()
    first = cloud("PUT", path, {"ca_certificate": pem.strip(), "credential_expires_at": "2027-01-31T12:00:00.000000"}).json()
    assert first["after"]["credential_expires_at"] == "2027-01-31T12:00:00Z"
    again = {"ca_certificate": f"\n{pem}\n", "credential_expires_at": "2027-01-31T13:00:00+01:00"}
    assert cloud("PUT", path, again).json()["changed"] is False
    assert cloud("PUT", path, {"ca_certificate": None}).json()["after"]["ca_certificate"] is None


def test_group_with_clouds_or_vms_cannot_be_deleted(cloud: Client) -> None:
    refused = cloud("DELETE", "/v1/groups/atlas")
    assert refused.status_code == 409
    assert "victoria" in refused.json()["detail"]

    async def add(state: str) -> None:
        async with cloud.api.database.begin() as session:
            values = {"region": "Victoria", "flavor": "f", "image": "i", "cores": 1, "ram_mib": 1, "disk_gib": 1.0}
            row = VmRow(id=f"vm-{state}", group_name="atlas", cloud="victoria", state=state, requested_at=1.0, changed_at=1.0, **values)
            session.add(row)

    cloud.runner.run(add("gone"))
    assert cloud("DELETE", "/v1/groups/atlas/clouds/victoria", params={"dry_run": "true"}).status_code == 200
    cloud.runner.run(add("running"))
    for dry in ("true", "false"):
        refused = cloud("DELETE", "/v1/groups/atlas/clouds/victoria", params={"dry_run": dry})
        assert refused.status_code == 409
        assert "1 VM;" in refused.json()["detail"]


def test_metadata_of_group_and_cloud(cloud: Client) -> None:
    group, of_cloud = "/v1/groups/atlas/metadata", "/v1/groups/atlas/clouds/victoria/metadata"
    part = {"content": "packages: [cvmfs]\nhostname: {{ cs_flavor }}\n", "priority": 5}
    assert cloud("PUT", f"{group}/cvmfs", part, who="atlas").json()["after"]["cloud"] is None
    script = {"content": "#!/bin/sh\necho hello\n", "mime_type": "text/x-shellscript"}
    assert cloud("PUT", f"{of_cloud}/hello", script, who="atlas").json()["after"]["mime_type"] == "x-shellscript"
    assert cloud("PUT", f"{of_cloud}/hello", script, who="atlas").json()["changed"] is False
    assert [found["name"] for found in cloud("GET", group, who="viewer").json()] == ["cvmfs"]
    assert [found["name"] for found in cloud("GET", of_cloud, who="viewer").json()] == ["hello"]
    assert cloud("DELETE", "/v1/groups/atlas/clouds/victoria").json()["changed"]
    assert cloud("PUT", "/v1/groups/atlas/clouds/victoria", CLOUD).json()["changed"]
    assert cloud("GET", of_cloud).json() == []
    assert cloud("DELETE", f"{group}/cvmfs", who="atlas").json()["changed"]


@pytest.mark.parametrize(
    ("content", "mime", "message"),
    [
        ("packages: [", "cloud-config", "YAML"),
        ("just text", "cloud-config", "mapping"),
        ("a: 1\na: 2\n", "cloud-config", "twice"),
        ("a: {{ b", "cloud-config", "template"),
        ("a: {{ no_such_variable }}", "cloud-config", "cs_flavor"),
        ("{% for n in range(10 ** 9) %}{% endfor %}", "cloud-boothook", "not allowed"),
        ("a: 2001-99-99", "cloud-config", "YAML"),
        ("echo hello", "x-shellscript", "interpreter"),
        ("x" * 70000, "cloud-boothook", "65536"),
        ("a: &a [*a, *a]\n" + "[" * 5000, "cloud-config", "YAML"),
    ],
)
def test_invalid_metadata_part_is_refused_with_reason(shared: Client, content: str, mime: str, message: str) -> None:
    answer = shared("PUT", "/v1/groups/atlas/metadata/bad", {"content": content, "mime_type": mime})
    assert fields(answer) == ["content"]
    assert message in answer.json()["detail"]


def test_templates_and_cloud_init_types_are_accepted(shared: Client) -> None:
    path = "/v1/groups/atlas/metadata/x"
    template = "{% if cs_flavor == 'm1' %}a: {{ cs_cloud_name }}{% else %}a: 2{% endif %}"
    assert shared("PUT", path, {"content": template}).status_code == 200
    for given, kept in (("text/cloud-boothook", "cloud-boothook"), ("x-include-url", "text/x-include-url")):
        assert shared("PUT", path, {"content": "a", "mime_type": given}).json()["after"]["mime_type"] == kept
    assert fields(shared("PUT", path, {"mime_type": "text/html"})) == ["mime_type"]
    for given in ("text/x-shellscript-per-boot", "x-shellscript-per-instance", "text/x-shellscript-per-once"):
        refused = shared("PUT", path, {"content": "#!/bin/sh\n", "mime_type": given})
        assert fields(refused) == ["mime_type"]
        assert "should be x-shellscript: a worker boots once" in refused.text
    assert fields(shared("PUT", path, {"mime_type": "x-shellscript"})) == ["content"]
    shared("DELETE", path)


def test_objects_require_an_existing_parent(shared: Client) -> None:
    assert shared("PUT", "/v1/groups/none/clouds/c", CLOUD).json()["type"].endswith("no-such-group")
    assert shared("PUT", "/v1/groups/atlas/clouds/none/metadata/m", {"content": "a: 1"}).json()["type"].endswith("no-such-cloud")
    assert shared("GET", "/v1/groups/none/clouds").status_code == 404


EVERY_PATH = [
    ("GET", "/v1/groups/atlas"),
    ("PUT", "/v1/groups/atlas"),
    ("DELETE", "/v1/groups/atlas"),
    ("GET", "/v1/groups/atlas/clouds"),
    ("GET", "/v1/groups/atlas/clouds/victoria"),
    ("PUT", "/v1/groups/atlas/clouds/victoria"),
    ("DELETE", "/v1/groups/atlas/clouds/victoria"),
    ("GET", "/v1/groups/atlas/metadata"),
    ("PUT", "/v1/groups/atlas/metadata/m"),
    ("DELETE", "/v1/groups/atlas/metadata/m"),
    ("GET", "/v1/groups/atlas/clouds/victoria/metadata"),
    ("PUT", "/v1/groups/atlas/clouds/victoria/metadata/m"),
    ("DELETE", "/v1/groups/atlas/clouds/victoria/metadata/m"),
]


@pytest.mark.parametrize(("method", "path"), EVERY_PATH)
def test_scopes_limit_group_admin_and_viewer(shared: Client, method: str, path: str) -> None:
    body = {"content": "a: 1"} if "metadata/" in path else {}
    before = shared("GET", "/v1/groups/atlas/clouds/victoria").json()
    for dry in ("true", "false"):
        options: dict[str, Any] = {"params": {"dry_run": dry}} if method != "GET" else {}
        sent = body if method == "PUT" else None
        assert shared(method, path, sent, who="belle", **options).status_code == 403
        assert shared(method, path, sent, who=None, **options).status_code == 401
        for viewer in ("viewer", "atlas-viewer"):
            answer = shared(method, path, sent, who=viewer, **options)
            assert answer.status_code == (200 if method == "GET" else 403)
            assert "unmistakable" not in answer.text
    assert shared("GET", "/v1/groups/atlas/clouds/victoria").json() == before


def test_lists_contain_only_visible_groups(cloud: Client) -> None:
    cloud("PUT", "/v1/groups/belle2", {})
    names = {who: [group["name"] for group in cloud("GET", "/v1/groups", who=who).json()] for who in ("admin", "viewer", "atlas", "belle")}
    assert names == {"admin": ["atlas", "belle2"], "viewer": ["atlas", "belle2"], "atlas": ["atlas"], "belle": ["belle2"]}


def test_group_admin_cannot_create_or_delete_groups(call: Client) -> None:
    assert call("PUT", "/v1/groups/atlas", {"keep_alive": 500}, who="atlas").json()["changed"]
    assert call("DELETE", "/v1/groups/atlas", who="atlas").status_code == 403
    assert call("PUT", "/v1/groups/belle2", {}, who="belle").status_code == 403
