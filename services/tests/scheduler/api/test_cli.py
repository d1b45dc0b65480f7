"""The command line against a real API over loopback: tables, JSON, error messages."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from distcloud.common.cli.apiclient import client_paths
from distcloud.common.http.server import bind, serve
from distcloud.scheduler.domain.model import Cloud, Demand, Flavor, Group, PlanInputs, Resources
from distcloud.scheduler.engine.view import ExplainInputs

from ..support.api_world import Api, make_api, settings, token, vm

SMALL = Flavor("m1", Resources(1, 2000, 20.0))
JOB = Demand("atlas", "alice", "TARGET.HasGpu =?= true", Resources(1, 1000, 1.0), idle=1)
VICTORIA = Cloud("victoria", "atlas", "Victoria", enabled=True, flavors=(SMALL,), images=frozenset({"worker"}), default_image="worker")


@dataclass
class Server:
    """A running API, and the environment variables that configure the command for it."""

    url: str
    folder: Path
    api: Api

    def environment(self, **changes: str) -> dict[str, str]:
        base = {key: value for key, value in os.environ.items() if not key.startswith("DISTCLOUD_") and "proxy" not in key.lower()}
        return {**base, "DISTCLOUD_SCHEDULER_URL": self.url, "DISTCLOUD_SCHEDULER_TOKEN_FILE": str(self.folder / "token"), **changes}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "token").write_text(token("admin") + "\n")
    listen = settings().listen
    sock: socket.socket = bind(listen.model_copy(update={"port": 0}))
    found: list[tuple[Api, asyncio.Event, asyncio.AbstractEventLoop]] = []
    ready = threading.Event()

    async def main() -> None:
        stop = asyncio.Event()
        api = await make_api(folder)
        api.engine.rows = [vm(number) for number in range(1200)]
        world = PlanInputs(demand=(JOB,), clouds=(VICTORIA,), groups=(Group("atlas"),), now=1000.0)
        api.engine.inputs = ExplainInputs("12.0", True, 1, JOB, world)
        found.append((api, stop, asyncio.get_running_loop()))
        ready.set()
        await serve(api.app, listen, stop, sock=sock)
        await api.database.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(60)
    api, stop, loop = found[0]
    yield Server(f"http://127.0.0.1:{sock.getsockname()[1]}", folder, api)
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)


def distcloud(*arguments: str, **options: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from distcloud.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)  # type: ignore[call-overload,no-any-return]


def test_tables_are_plain_lines_when_piped(server: Server) -> None:
    done = distcloud("scheduler", "vms", "--limit", "1100", env=server.environment())
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1101
    assert lines[0].split("\t")[:3] == ["ID", "STATE", "GROUP"]
    assert lines[1].split("\t")[:3] == [vm(1199).id, "running", "atlas"]
    assert "\x1b" not in done.stdout
    assert "increase --limit" in done.stderr


def test_json_output_equals_api_response(server: Server) -> None:
    done = distcloud("scheduler", "vms", "--json", "--cloud", "victoria", "--state", "running", "--limit", "3", env=server.environment())
    answer = json.loads(done.stdout)
    assert [row["id"] for row in answer["vms"]] == [vm(number).id for number in (1199, 1198, 1197)]
    status = json.loads(distcloud("scheduler", "status", "--json", env=server.environment()).stdout)
    assert status["healthy"] is True
    why = json.loads(distcloud("scheduler", "explain", "12.0", "--json", env=server.environment()).stdout)
    assert (why["job"], why["status"]) == ("12.0", "idle") and why["summary"]
    (cloud,) = why["clouds"]
    assert (cloud["cloud"], cloud["reason"]) == ("victoria", "requirements_mismatch")
    (failure,) = cloud["mismatches"][0]["failures"]
    assert "HasGpu" in failure["clause"] and cloud["mismatches"][0]["flavor"] == "m1"


def test_status_explain_and_retire_print_text(server: Server) -> None:
    status = distcloud("scheduler", "status", env=server.environment()).stdout
    assert "Engine: healthy" in status
    assert "VMs: 1200 running" in status
    why = distcloud("scheduler", "explain", "12.0", env=server.environment()).stdout
    assert "victoria\trequirements_mismatch" in why
    assert "HasGpu" in why
    assert "atlas\tvictoria\tVictoria\t1200\t1200 running" in distcloud("scheduler", "totals", env=server.environment()).stdout
    first = distcloud("scheduler", "retire", vm(5).id, env=server.environment()).stdout
    assert first == "the VM is now retiring\n"
    assert "already" in distcloud("scheduler", "retire", vm(5).id, env=server.environment()).stdout


def test_report_prints_problems_and_tables(server: Server) -> None:
    lines = distcloud("scheduler", "report", env=server.environment()).stdout.splitlines()
    assert lines[:2] == ["Cloud Scheduler", "Clouds"]
    assert "ID\tSTATE\tGROUP\tCLOUD\tFLAVOR\tAGE\tREASON" in lines
    assert json.loads(distcloud("scheduler", "report", "--json", env=server.environment()).stdout)["title"] == "Cloud Scheduler"


def test_error_of_server_is_printed_with_exit_code(server: Server) -> None:
    done = distcloud("scheduler", "explain", "1;2", env=server.environment())
    assert done.returncode == 1
    assert "job" in done.stderr
    (server.folder / "wrong").write_text("a-wrong-token")
    done = distcloud("scheduler", "status", env=server.environment(DISTCLOUD_SCHEDULER_TOKEN_FILE=str(server.folder / "wrong")))
    assert done.returncode == 1
    assert "unknown token" in done.stderr
    assert "a-wrong-token" not in done.stderr
    for url in ("http://127.0.0.1:9", "https://central..lab:9"):  # the latter is an invalid name, which only the resolver detects
        done = distcloud("scheduler", "status", env=server.environment(DISTCLOUD_SCHEDULER_URL=url))
        assert done.returncode == 1
        assert f"{url}: unreachable" in done.stderr
    done = distcloud("scheduler", "retire", "vm-\x01", env=server.environment())
    assert done.returncode == 1
    assert "invalid request" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"DISTCLOUD_SCHEDULER_URL": ""}, "set DISTCLOUD_SCHEDULER_URL (or url in /etc/distcloud/scheduler/cli.yml)"),
        (
            {"DISTCLOUD_SCHEDULER_URL": "https://central:port"},
            "DISTCLOUD_SCHEDULER_URL (or url in /etc/distcloud/scheduler/cli.yml): should be an address such as",
        ),
        ({"DISTCLOUD_SCHEDULER_TOKEN_FILE": "/nowhere/token"}, "/nowhere/token: cannot read the token"),
        ({"DISTCLOUD_SCHEDULER_CA": "/nowhere/ca"}, "/nowhere/ca: not a readable PEM file"),
    ],
)
def test_missing_client_configuration_is_reported(server: Server, change: dict[str, str], message: str) -> None:
    if any(path.exists() for path in client_paths("scheduler")):
        pytest.skip("this machine has a cli.yml of its own")
    done = distcloud("scheduler", "status", env=server.environment(**change))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_check_reports_configuration_errors(tmp_path: Path) -> None:
    data = {"listen": {"port": 8443}, "pool": {"collector": "c", "schedds": ["s"], "domain": "d.lab"}, "condor_host": "c"}
    path = tmp_path / "scheduler.yml"
    path.write_text(yaml.safe_dump(data))
    assert distcloud("scheduler", "check", "--config", str(path)).returncode == 0
    path.write_text(yaml.safe_dump({**data, "cycle_seconds": "often"}))
    for verb in ("check", "migrate", "run"):
        done = distcloud("scheduler", verb, "--config", str(path))
        assert done.returncode == 2
        assert f"{path}: cycle_seconds: should be a valid number" in done.stderr
        assert "Traceback" not in done.stderr


def test_run_without_key_names_missing_file(tmp_path: Path) -> None:
    data = {
        "listen": {"port": 8443},
        "pool": {"collector": "c", "schedds": ["s"], "domain": "d.lab"},
        "condor_host": "c",
        "database": {"url": f"sqlite:///{tmp_path}/x.db"},
        "encryption_key_file": str(tmp_path / "none.key"),
    }
    path = tmp_path / "scheduler.yml"
    path.write_text(yaml.safe_dump(data))
    done = distcloud("scheduler", "run", "--config", str(path))
    assert done.returncode == 2
    assert "none.key" in done.stderr
    assert "Traceback" not in done.stderr
    assert distcloud("scheduler", "migrate", "--config", str(path)).returncode == 0
    assert (tmp_path / "x.db").exists()


def test_version() -> None:
    from distcloud import __version__

    assert distcloud("--version").stdout.strip() == __version__
