"""The site end to end, on two real regions: jobs wait, workers boot, jobs run, workers are deleted, and nothing is left."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from typing import Any

import jsonschema
import pytest
from running_lab import BIN, ROOT, Lab
from site_jobs import REGIONS, agree, ever, history, living, nothing_left, printed, servers_ever, submit
from site_listings import Seen
from site_secrets import secrets_of, shown
from site_state import changes, whole_site

pytestmark = pytest.mark.usefixtures("no_jobs")


def test_summary_describes_the_run(lab: Lab) -> None:
    summary = json.loads((ROOT / "build" / lab.name / "summary.json").read_text("utf-8"))
    jsonschema.validate(summary, json.loads((ROOT / "docs" / "site_summary.schema.json").read_text("utf-8")))
    assert {region["name"] for region in summary["regions"] if region["reachable"]} == set(REGIONS)
    assert {image["region"] for image in summary["images"]} == set(REGIONS)
    assert len({image["sha512"] for image in summary["images"]}) == 1
    good = [job for job in summary["jobs"] if job["exit_code"] == 0]
    assert {job["owner"] for job in good} >= {"alice", "bob"}
    assert {job["region"] for job in good} == set(REGIONS)
    ids = {vm["id"] for vm in summary["vms"]}
    assert {job["vm"] for job in good} <= ids


def test_status_page_and_table_list_all_addresses(lab: Lab) -> None:
    """The command from the README, piped: its output is plain text, and its page supports phones and dark mode."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")} | {"DISTCLOUD_LAB": lab.name}
    done = subprocess.run(["make", "status"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    folder = ROOT / "build" / lab.name
    command = [str(BIN / "distcloud"), "report", "show", str(folder / "summary.json")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown in done.stdout
    assert "\x1b" not in done.stdout, "a pipe gets no colors"
    page = (folder / "index.html").read_text("utf-8")
    assert '<meta name="viewport" content="width=device-width' in page
    assert '<meta name="color-scheme" content="light dark">' in page and "@media (prefers-color-scheme: dark)" in page
    addresses = json.loads((folder / "summary.json").read_text("utf-8"))["addresses"]
    assert {address["name"] for address in addresses} == {"scheduler", "metrics", "submit node"}
    for address in addresses:
        assert address["url"] in html.unescape(page), f"{address['url']} is not on the page"
        assert f"  {address['url']}\n" in shown, f"{address['url']} is not in the table"
        assert address["name"] in page and f"{address['name']}: {address['what']}" in shown


@pytest.mark.leak
def test_nothing_is_left_after_the_demonstration(lab: Lab) -> None:
    nothing_left(lab)


def test_second_run_changes_nothing(lab: Lab) -> None:
    """A second `make site`: no task reports a change, nothing changed, and no secret is shown."""
    before = whole_site(lab)
    output = lab.playbook("playbooks/lab.yml", "playbooks/site.yml", "-vvv", "--diff")
    recap = re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", output, re.MULTILINE)
    assert recap and all(line[1:] == ("0", "0", "0") for line in recap), recap
    assert not shown(output, secrets_of(lab.state))
    assert changes(before, whole_site(lab)) == {}


PART = "/v1/groups/physics/metadata/integration"
PART_TEXT = "written by a metadata part of group {{ cs_group_name }}"
PART_BODY = f"#cloud-config\nwrite_files:\n  - {{path: /etc/distcloud-part, permissions: '0644', content: '{PART_TEXT}'}}\n"

# What a job can learn about its worker's identity. Control checks that must succeed show that the refusals are meaningful.
SPY = """\
import errno, json, os, resource, socket, time

def attempt(what, *arguments):
    began = time.monotonic()
    try:
        result = what(*arguments) or "nothing"
    except OSError as error:
        result = errno.errorcode.get(error.errno, str(error))
    return result if time.monotonic() - began < 30 else "too late"

def reads(path):
    with open(path, "rb") as file:
        return file.read(1) and "read"

def lists(path):
    return os.listdir(path) and "listed"

def connects(host, port):
    socket.create_connection((host, port), 60).close()
    return "connected"

def limit(name):
    with open("/proc/self/cgroup") as file:
        group = file.read().rpartition("0::")[2].strip()
    with open(f"/sys/fs/cgroup{group}/{name}") as file:
        return file.read().strip()

root = os.stat("/").st_dev
system = os.path.realpath(f"/sys/dev/block/{os.major(root)}:{os.minor(root)}").split("/")
disks = [name for name in os.listdir("/sys/block") if open(f"/sys/block/{name}/size").read().strip() != "0"]
tokens, cloud = "/etc/condor/tokens.d", "/var/lib/cloud"
print(json.dumps({
    "folders": {path: os.path.isdir(path) for path in (tokens, cloud)},
    "lists": {path: attempt(lists, path) for path in ("/etc/condor", tokens)},
    "reads": {path: attempt(reads, path) for path in ("/etc/passwd", tokens + "/worker", cloud + "/instance/user-data.txt")},
    "system": {name: attempt(reads, "/dev/" + name) for name in disks if name in system},
    "drives": {name: attempt(reads, "/dev/" + name) for name in disks if name not in system},
    "memory": {name: attempt(limit, name) for name in ("memory.max", "memory.swap.max")},
    "processes": resource.getrlimit(resource.RLIMIT_NPROC),
    "connects": {host: attempt(connects, host, port) for host, port in (("CENTRAL", 9618), ("169.254.169.254", 80))},
}))
time.sleep(30)
"""


@dataclass(frozen=True)
class Crowd:
    """Jobs of two users, submitted together and finished; the scheduler was killed while their workers were being created."""

    began: float  # seconds since the epoch
    clusters: dict[str, str]
    jobs: list[dict[str, Any]]
    seen: Seen


@pytest.fixture(scope="module")
def crowd(lab: Lab) -> Crowd:
    nothing_left(lab)
    began = time.time()
    assert lab.api("PUT", PART, {"content": PART_BODY})[0] == 200
    try:
        spy = "exec python3 - <<'END'\n" + SPY.replace("CENTRAL", lab.address("central")) + "END"
        # So long that work is left for a region whose request was lost in the death: it is asked again after two minutes.
        clusters = {
            "alice": submit(lab, "alice", count=3, script="cat /etc/distcloud-part && echo && sleep 30"),
            "bob": submit(lab, "bob", count=3, script=spy),
        }
        lab.wait("a VM is requested", lambda: [vm for vm in living(lab) if vm["state"] in ("requested", "starting")], 180, 0.2)
        lab.run("central", "systemctl kill -s KILL distcloud-scheduler; true")
        seen = agree(lab, dict.fromkeys(clusters.values(), 3))
    finally:
        assert lab.api("DELETE", PART)[0] == 200
    return Crowd(began, clusters, [job for cluster in clusters.values() for job in history(lab, cluster)], seen)


def test_jobs_of_two_users_run_in_both_regions(lab: Lab, crowd: Crowd) -> None:
    assert all(job["JobStatus"] == 4 and job["ExitCode"] == 0 for job in crowd.jobs)
    assert {job["MachineAttrDistcloudRegion0"] for job in crowd.jobs} == set(REGIONS)
    clouds = lab.api("GET", "/v1/groups/physics/clouds")[1]
    limits = {cloud["region"]: cloud["max_vms"] for cloud in clouds}
    highest = crowd.seen.highest
    assert all(highest[region] <= limits[region] for region in REGIONS), (highest, limits)
    nothing_left(lab)


@pytest.mark.fault
def test_scheduler_killed_during_boot_leaks_no_server(lab: Lab, crowd: Crowd) -> None:
    # The listed servers are all that Nova ever created, one in each region, and all that the ledger has a server for.
    made = {(region, server.name, server.id) for region in REGIONS for server in servers_ever(lab, region, crowd.began)}
    rows = ever(lab, crowd.began)
    assert sorted(region for region, _name, _id in made) == sorted(REGIONS), made
    assert crowd.seen.servers == made == {(row["region"], row["id"], row["server_id"]) for row in rows if row["server_id"]}
    # Killed before it had asked a cloud, it gives that VM up and asks for another.
    assert all("request was lost" in row["reason"] for row in rows if not row["server_id"]), rows
    assert {job["MachineAttrDistcloudVm0"] for job in crowd.jobs} == {row["id"] for row in rows if row["server_id"]}


def test_group_metadata_reaches_its_workers(lab: Lab, crowd: Crowd) -> None:
    text = PART_TEXT.replace("{{ cs_group_name }}", "physics")
    assert printed(lab, "alice", crowd.clusters["alice"]).split("\n") == [text] * 3 + [""]


@pytest.mark.security
def test_job_cannot_read_the_token_of_its_vm(lab: Lab, crowd: Crowd) -> None:
    reports = [json.loads(line) for line in printed(lab, "bob", crowd.clusters["bob"]).splitlines()]
    assert len(reports) == 3
    for spied in reports:
        # The token exists in a private directory, and the worker joined the pool with it. Cloud-init's directory is open, not its files.
        assert spied["folders"] == {"/etc/condor/tokens.d": True, "/var/lib/cloud": True}
        assert spied["lists"] == {"/etc/condor": "listed", "/etc/condor/tokens.d": "EACCES"}
        assert spied["reads"] == {
            "/etc/passwd": "read",
            "/etc/condor/tokens.d/worker": "EACCES",
            "/var/lib/cloud/instance/user-data.txt": "EACCES",
        }
        # The disk that it runs from, and the one that Nova wrote the user data on.
        assert spied["system"] and set(spied["system"].values()) == {"EACCES"}, spied["system"]
        assert spied["drives"] and set(spied["drives"].values()) == {"EACCES"}, spied["drives"]
        # Rejected by the worker's own firewall, not because a route, response or network is missing.
        assert spied["connects"].pop("169.254.169.254") in ("ECONNREFUSED", "EHOSTUNREACH"), spied
        assert list(spied["connects"].values()) == ["connected"], spied


@pytest.mark.security
def test_kernel_bounds_memory_and_processes_of_a_job(lab: Lab, crowd: Crowd) -> None:
    for spied in map(json.loads, printed(lab, "bob", crowd.clusters["bob"]).splitlines()):
        assert spied["memory"] == {"memory.max": str(128 * 2**20), "memory.swap.max": "0"}
        assert spied["processes"] == [4096, 4096]


def test_unmatchable_job_boots_nothing_and_is_explained(lab: Lab) -> None:
    cluster = submit(lab, "alice", extra="requirements = TARGET.Memory >= 999999")
    try:
        lab.wait("the scheduler has seen it", lambda: lab.api("GET", f"/v1/explain?job={cluster}.0")[0] == 200, 180)
        before = lab.api("GET", "/v1/status")[1]
        lab.wait("two more cycles", lambda: lab.api("GET", "/v1/status")[1]["cycle"] >= before["cycle"] + 2, 180)
        assert not living(lab)
        output = lab.run("central", f"distcloud scheduler explain {cluster}.0")
        for region in REGIONS:
            assert region in output, output
        assert "999999" in output, output
    finally:
        lab.run("central", f"condor_rm {cluster}", check=False)
