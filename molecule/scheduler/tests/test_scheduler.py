"""The Cloud Scheduler as its roles leave it: unit, API, command line, minter, secrets, the page."""

from __future__ import annotations

import base64
import json
import os
import re
import tarfile
from pathlib import Path

import pytest
from lab_access import wait

testinfra_hosts = ["ansible://scratch"]

URL = "https://mol-scheduler.distcloud.lab:8443"
PROPERTIES = {
    "CapabilityBoundingSet": "",
    "LockPersonality": "yes",
    "NoNewPrivileges": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "ProtectHome": "yes",
    "ProtectProc": "invisible",
    "ProtectSystem": "strict",
    "RestrictNamespaces": "yes",
    "Type": "notify",
    "User": "distcloud-scheduler",
}
MINTER = """
import json, socket, sys
with socket.socket(socket.AF_UNIX) as minter:
    minter.settimeout(60)
    minter.connect("/run/distcloud/minter.sock")
    minter.sendall(sys.argv[1].encode() + b"\\n")
    print(minter.makefile().readline())
"""


def minter(host, **request):
    return json.loads(host.check_output("runuser -u distcloud-scheduler -- python3 -c %s %s", MINTER, json.dumps(request)))


def secrets():
    folder = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "secrets"
    return {path.name: path.read_text().strip() for path in folder.iterdir()}


@pytest.mark.security
def test_unit_is_hardened_with_its_own_user(host):
    unit = host.service("distcloud-scheduler")
    assert unit.is_running, host.check_output("journalctl -u distcloud-scheduler -n 30 --no-pager")
    assert unit.is_enabled
    output = host.check_output(f"systemctl show distcloud-scheduler -p {','.join(PROPERTIES)}")
    assert dict(line.split("=", 1) for line in output.splitlines()) == PROPERTIES
    assert host.check_output(f"ps -o user:32= -p {main_process(host)}") == "distcloud-scheduler"


def main_process(host):
    return host.check_output("systemctl show distcloud-scheduler -p MainPID --value")


def test_release_is_built_from_the_wheelhouse_alone(host):
    release = host.check_output("dirname $(readlink --canonicalize /opt/distcloud/scheduler)")
    (collected,) = (Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "wheelhouse").glob("distcloud-*.tar")
    with tarfile.open(collected) as wheels:
        names = {Path(name).name for name in wheels.getnames() if name.endswith(".whl")}
    assert names
    assert names <= set(host.check_output(f"ls {release}/wheels").split())
    alone = f"{release}/venv/bin/pip install --dry-run --no-index --ignore-installed --find-links {release}/wheels"
    output = host.run(f"{alone} --requirement {release}/wheels/requirements-engine.txt")
    assert output.rc == 0, output.stderr
    assert host.run("distcloud --help").rc == 0


def test_started_means_serving(host):
    assert host.check_output(f"systemctl restart distcloud-scheduler && curl --silent --fail {URL}/healthz") == '{"status":"ok"}'


@pytest.mark.fault
def test_hanging_process_is_restarted(host):
    folder = "/run/systemd/system/distcloud-scheduler.service.d"
    settings = "[Service]\nWatchdogSec=6\nTimeoutAbortSec=2\n"
    restart = "systemctl daemon-reload && systemctl restart distcloud-scheduler"
    try:
        host.check_output(f"mkdir -p {folder} && printf %s > {folder}/soon.conf && {restart}", settings)
        hung = main_process(host)
        host.check_output(f"kill -STOP {hung}")
        host.check_output(f"for n in $(seq 60); do curl --silent --fail --max-time 1 {URL}/healthz && exit; sleep 1; done; exit 1")
        assert main_process(host) != hung
        assert "watchdog" in host.check_output("journalctl --unit distcloud-scheduler --output cat --lines 50").lower()
    finally:
        host.check_output(f"rm -r {folder} && {restart}")


@pytest.mark.security
def test_only_tls_is_served(host):
    assert host.socket("tcp://0.0.0.0:8443").is_listening
    assert host.run(f"curl --silent --max-time 10 {URL.replace('https', 'http')}/healthz").rc != 0
    assert host.run(f"curl --silent --max-time 10 --tls-max 1.1 {URL}/healthz").rc != 0
    key = host.file("/etc/distcloud/scheduler/tls/scheduler.key")
    assert (key.user, key.group, key.mode) == ("root", "distcloud-scheduler", 0o640)


def test_readiness_lists_dependencies(host):
    ask = f"curl --silent {URL}/readyz"
    ready = 'grep \'"status":"ready"\''
    output = json.loads(host.check_output(f"for n in $(seq 60); do {ask} | {ready} && exit; sleep 1; done; {ask}"))
    assert output["status"] == "ready", output
    assert [part["name"] for part in output["dependencies"]] == ["engine", "database", "pool", "minter", "clouds"]


@pytest.mark.security
def test_requests_without_a_token_are_refused(host):
    assert host.check_output(f"curl --silent --output /dev/null --write-out '%{{http_code}}' {URL}/v1/status") == "401"


@pytest.mark.security
def test_a_new_cloud_is_disabled(host):
    status = json.loads(host.check_output("distcloud scheduler status --json"))
    clouds = [(one["group"], one["cloud"], one["enabled"]) for one in status["clouds"]]
    assert clouds == [("physics", "nowhere", False)]


@pytest.mark.security
def test_every_user_has_read_only_access(host):
    nobody = "runuser -u nobody --"
    asked = host.run(f"{nobody} distcloud scheduler explain 999999.0")
    assert (asked.rc, "the queue has no job 999999.0" in asked.stderr) == (1, True), asked.stderr
    assert "physics\tnowhere" in host.check_output(f"{nobody} distcloud scheduler status")
    for path in ("cli.token", "cli.yml", "scheduler.yml", "encryption.key"):
        assert host.run(f"{nobody} cat /etc/distcloud/scheduler/{path}").rc != 0, f"{path} is for root and the service"
    assert host.run(f"{nobody} ls /etc/distcloud").rc != 0
    public = host.file("/etc/distcloud-public/scheduler")
    assert (public.user, public.mode, sorted(public.listdir())) == ("root", 0o755, ["cli.token", "cli.yml"])
    change = (
        f"curl --silent --request PUT --header @- --json '{{}}' --output /dev/null --write-out '%{{http_code}}' {URL}/v1/groups/physics"
    )
    header = "sed 's/^/Authorization: Bearer /' /etc/distcloud-public/scheduler/cli.token"
    assert host.check_output(f"{nobody} sh -c %s", f"{header} | {change}") == "403"


@pytest.mark.security
def test_sandboxed_minter_signs_and_refuses(host):
    assert host.check_output("systemctl show distcloud-minter@x.service -p PrivateTmp --value") == "yes"
    worker = "vm-aaaaaaaaaaaaaaaa"
    bound = {"group": "physics", "cloud": "victoria", "region": "Victoria", "alias": None}
    token = minter(host, verb="mint", worker=worker, **bound, lifetime=600)["token"]
    claims = token.split(".")[1]
    identity = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sub"]
    assert identity.startswith(f"worker-{worker}+physics+victoria+Victoria+-@")
    assert minter(host, verb="refuse", worker=worker, until=4102444800) == {"refused": 1}
    # The daemons read their configuration again by themselves, after the minter's answer.
    wait("the collector has the list", lambda: f"worker-{worker}@" in host.check_output("condor_config_val -collector REVOKED_WORKERS"), 60)


@pytest.mark.security
def test_no_secret_is_exposed(host):
    output = {
        "processes": host.check_output("ps -eo args"),
        "journal": host.check_output("journalctl --no-pager"),
        "configuration": host.check_output("cat /etc/distcloud/*/*.yml /etc/distcloud/*.json /etc/systemd/system/distcloud-*"),
        "database": host.check_output("cat /var/lib/distcloud/scheduler/scheduler.db* | tr -cd '[:print:]'"),
    }
    assert len(secrets()) == 4
    for place, text in output.items():
        assert [name for name, secret in secrets().items() if secret in text] == [], place
        # Header and body in JSON, recognized by base64; the ciphertexts in the database have no dots.
        assert re.search(r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.", text) is None, f"{place}: a token of the pool"


def test_page_is_written(host):
    folder = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "report"
    assert "<html" in (folder / "index.html").read_text()
    assert json.loads((folder / "summary.json").read_text())["problems"] == []
