# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The scheduler's modules against the scheduler's real API: over TLS on loopback, with a real database."""

from __future__ import annotations

import asyncio
import json
import threading
import types
import urllib.error
import urllib.request

import pytest
from ansible_collections.hep.distcloud.plugins.modules.scheduler_cloud import SchedulerCloud
from ansible_collections.hep.distcloud.plugins.modules.scheduler_cloud_info import SchedulerCloudInfo
from ansible_collections.hep.distcloud.plugins.modules.scheduler_group import SchedulerGroup
from ansible_collections.hep.distcloud.plugins.modules.scheduler_group_info import SchedulerGroupInfo
from ansible_collections.hep.distcloud.plugins.modules.scheduler_metadata import SchedulerMetadata
from ansible_collections.hep.distcloud.plugins.modules.scheduler_metadata_info import SchedulerMetadataInfo
from module_harness import run_module

pytest.importorskip("distcloud.scheduler.api.app", reason="the engines are not installed in this environment")

SECRET = "unmistakable-secret"
AUTH = {"auth_url": "https://k.example.org/v3", "application_credential_id": "id", "application_credential_secret": SECRET}
CLOUD = {"group": "atlas", "name": "victoria", "region": "Victoria", "auth": AUTH}
SECRETS = {"admin": "admin-token-0123456789", "atlas": "atlas-token-0123456789"}


def certificate(folder):
    """A self-signed certificate for 127.0.0.1."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    (folder / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem, plain, none = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "tls.key").write_bytes(key.private_bytes(pem, plain, none))


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """A scheduler's API in a separate thread; yields its URL, its CA and the number of wake-ups."""
    from distcloud.common.config import LogSettings, check
    from distcloud.common.http.auth import digest_of
    from distcloud.common.http.server import bind, serve
    from distcloud.common.logs import configure
    from distcloud.common.secretbox import SecretBox
    from distcloud.common.storage.database import Database
    from distcloud.scheduler.api.app import create_app
    from distcloud.scheduler.catalog.catalog import Catalog
    from distcloud.scheduler.settings import SchedulerSettings

    folder = tmp_path_factory.mktemp("scheduler")
    certificate(folder)
    configure(LogSettings(), (folder / "log").open("a"))
    SecretBox.create_file(folder / "key")
    tokens = [
        {"name": "admin", "scope": "cloud_admin", "sha256": digest_of(SECRETS["admin"])},
        {"name": "atlas", "scope": "group_admin", "groups": ["atlas"], "sha256": digest_of(SECRETS["atlas"])},
    ]
    listen = {"port": 1, "tls_certificate": str(folder / "tls.crt"), "tls_key": str(folder / "tls.key")}
    data = {"listen": listen, "pool": {"collector": "c", "schedds": ["s"], "domain": "d.lab"}, "condor_host": "c", "tokens": tokens}
    settings = check(data, SchedulerSettings, "test")
    socket = bind(settings.listen.model_copy(update={"port": 0}))
    ready = threading.Event()
    found = types.SimpleNamespace(url=f"https://127.0.0.1:{socket.getsockname()[1]}", ca=str(folder / "tls.crt"), woken=0)
    status = types.SimpleNamespace(stuck="")

    def wake():
        found.woken += 1

    async def main():
        database = Database(f"sqlite:///{folder}/x.db", "scheduler")
        await database.migrate("distcloud.scheduler")
        found.stop, found.loop = asyncio.Event(), asyncio.get_running_loop()
        view = types.SimpleNamespace(status=lambda: status, last_plan=lambda: None, wake=wake)
        app = create_app(settings, view, Catalog(database, SecretBox.from_file(folder / "key"), wake))
        ready.set()
        await serve(app, settings.listen, found.stop, sock=socket)
        await database.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(60), "the scheduler's API did not come up"
    yield found
    found.loop.call_soon_threadsafe(found.stop.set)
    thread.join(60)
    assert not thread.is_alive()
    log = (folder / "log").read_text()
    assert "/v1/groups/atlas/clouds/victoria" in log
    assert SECRET not in log
    assert not any(secret in log for secret in SECRETS.values())


@pytest.fixture
def run(scheduler):
    def call(module, who="admin", check=False, diff=False, **options):
        connection = {"api_url": scheduler.url, "api_token": SECRETS[who], "ca_path": scheduler.ca}
        result = run_module(module, dict(connection, **options), check=check, diff=diff)
        assert SECRET not in result.raw
        assert SECRETS[who] not in result.raw
        return result

    return call


def test_group_life_cycle(run, scheduler):
    parts = [{"name": "base", "content": "packages: [cvmfs]"}, {"name": "run", "content": "#!/bin/sh\n", "mime_type": "x-shellscript"}]
    steps = [
        (SchedulerGroup, {"groups": [{"name": "atlas"}, {"name": "belle2", "keep_alive": 600}]}),
        (SchedulerCloud, CLOUD),
        (SchedulerCloud, {"group": "atlas", "name": "victoria", "enabled": True}),
        (SchedulerMetadata, {"group": "atlas", "cloud": "victoria", "parts": parts, "purge": True}),
        (SchedulerMetadata, {"group": "atlas", "cloud": "victoria", "parts": parts[:1], "purge": True}),
        (SchedulerCloud, dict(CLOUD, auth=dict(AUTH, application_credential_secret="another-secret"))),
        (SchedulerCloud, dict(CLOUD, auth=AUTH)),
        (SchedulerCloud, {"group": "atlas", "clouds": [{"name": "victoria", "max_vms": 3, "attributes": {"HasGpu": "true"}}]}),
        (SchedulerCloud, {"group": "atlas", "name": "victoria", "reset": ["max_vms", "attributes"]}),
        (SchedulerCloud, {"group": "atlas", "name": "victoria", "state": "absent"}),
        (SchedulerGroup, {"groups": [{"name": "atlas", "state": "absent"}, {"name": "belle2", "state": "absent"}]}),
    ]
    for number, (module, options) in enumerate(steps):
        predicted = run(module, check=True, diff=True, **options)
        woken = scheduler.woken
        done = run(module, diff=True, **options)
        assert not done.failed, done.raw
        assert done.changed, number
        assert scheduler.woken > woken
        if "groups" not in options:  # in check mode the second item cannot see the effect of the first
            assert predicted.data["diff"] == done.data["diff"]
            assert predicted.data.get(module.result_key) == done.data.get(module.result_key)
        again = run(module, diff=True, **options)
        assert not again.changed, again.raw
        assert "diff" not in again.data
        if number == 8:
            cloud = run(SchedulerCloudInfo, group="atlas").data["clouds"][0]
            assert cloud["enabled"] is True
            assert cloud["auth"]["application_credential_secret"] == "********"
            assert [part["name"] for part in run(SchedulerMetadataInfo, group="atlas", cloud="victoria").data["parts"]] == ["base"]
    assert run(SchedulerGroupInfo).data["groups"] == []
    assert run(SchedulerCloudInfo, group="atlas").data["clouds"] == []


def test_only_cloud_admin_enables_even_in_check_mode(run):
    run(SchedulerGroup, name="atlas")
    run(SchedulerCloud, who="atlas", **CLOUD)
    for check in (True, False):
        refused = run(SchedulerCloud, who="atlas", check=check, enabled=True, **CLOUD)
        assert refused.data["failure"]["code"] == 403
    run(SchedulerCloud, enabled=True, **CLOUD)
    assert not run(SchedulerCloud, who="atlas", **CLOUD).changed
    assert run(SchedulerCloudInfo, who="atlas", group="atlas", name="victoria").data["clouds"][0]["enabled"] is True
    assert run(SchedulerGroup, who="atlas", name="belle2").data["failure"]["code"] == 403


def test_error_names_invalid_field(run):
    run(SchedulerGroup, name="atlas")
    bad = run(SchedulerCloud, who="atlas", group="atlas", name="bad", region="r", auth=AUTH, ca_certificate="no PEM")
    assert bad.data["failure"]["details"]["errors"][0]["field"] == "ca_certificate"
    assert "ca_certificate" in bad.data["msg"]


def test_unknown_ca_is_refused_before_sending_token(scheduler):
    options = {"api_url": scheduler.url, "api_token": SECRETS["admin"], "name": "atlas"}
    assert run_module(SchedulerGroup, options).data["failure"]["code"] == "certificate"
    assert run_module(SchedulerGroup, dict(options, validate_certs=False), check=True).failed is False


def test_old_tls_is_refused(scheduler):
    import ssl

    context = ssl.create_default_context(cafile=scheduler.ca)
    with urllib.request.urlopen(scheduler.url + "/healthz", context=context) as answer:
        assert json.load(answer) == {"status": "ok"}
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(scheduler.url + "/healthz", context=context)
