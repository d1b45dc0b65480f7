"""A minimal engine built from the service kit: command line, migration, API, loop, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from distcloud.common.http.auth import digest_of

ENGINE = """
from typing import ClassVar

from distcloud.common.http.app import create_app, loop_dependencies
from distcloud.common.cli.commands import engine_app
from distcloud.common.config import EngineSettings
from distcloud.common.control.loop import ControlLoop
from distcloud.common.metrics import LoopMetrics
from distcloud.common.http.report import Report
from distcloud.common.service import Components, Service


class DemoSettings(EngineSettings):
    ENGINE: ClassVar[str] = "demo"
    fail: bool = False


def build(settings, runtime):
    async def cycle():
        if settings.fail:
            raise SystemExit(7)

    async def report(caller):
        return Report(title="Demo", problems=[], tables=[], links=[])

    async def finished():
        print("closed", flush=True)

    runtime.cleanup.push_async_callback(finished)
    loop = ControlLoop(
        runtime.database, cycle, seconds=0.1, metrics=LoopMetrics(settings.ENGINE, runtime.registry)
    )
    app = create_app(
        "Demo", settings, stuck=loop.stuck, dependencies=lambda: loop_dependencies(loop.problem(), loop.status.database), report=report,
        registry=runtime.registry,
    )
    return Components(app, loop.run, loop.stuck)


service = Service("demo_engine", build)
app = engine_app("A demo.", DemoSettings, "demo_engine.main")

if __name__ == "__main__":
    app()
"""


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A directory with the package `demo_engine`."""
    package = tmp_path / "demo_engine"
    (package / "migrations" / "versions").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "main.py").write_text(textwrap.dedent(ENGINE))
    (package / "migrations" / "env.py").write_text("from distcloud.common.storage.migrations import run\n\nrun()\n")
    return tmp_path


def command(engine: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "demo_engine.main", *arguments]


def environment(engine: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{engine}:{os.environ.get('PYTHONPATH', '')}"}


def call(engine: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(engine, *arguments), env=environment(engine), capture_output=True, text=True, timeout=60)


def write_config(engine: Path, **changes: Any) -> Path:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    data = {
        "listen": {"port": port},
        "state_directory": str(engine),
        "encryption_key_file": str(engine / "encryption.key"),
        "tokens": [{"name": "me", "scope": "viewer", "sha256": digest_of("t")}],
        **changes,
    }
    path = engine / "demo.yml"
    path.write_text(yaml.safe_dump(data))
    return path


def healthy(name: str) -> dict[str, Any]:
    return {"name": name, "ok": True, "required": True, "problem": ""}


def test_create_key_never_replaces_a_file(engine: Path) -> None:
    key = engine / "encryption.key"
    assert call(engine, "create-key", str(key)).returncode == 0
    assert key.stat().st_mode & 0o777 == 0o600
    content = key.read_text()
    again = call(engine, "create-key", str(key))
    assert (again.returncode, "exists already" in again.stderr, key.read_text()) == (1, True, content)
    missing = call(engine, "create-key", str(engine / "none" / "key"))
    assert missing.returncode == 1 and "cannot be created" in missing.stderr and "Traceback" not in missing.stderr


def test_configuration_errors_have_exit_code_two(engine: Path) -> None:
    config = write_config(engine, cycle_seconds="often")
    for verb in ("check", "migrate", "run"):
        done = call(engine, verb, "--config", str(config))
        assert (done.returncode, "cycle_seconds: should be a valid number" in done.stderr) == (2, True)
    config = write_config(engine)
    assert call(engine, "check", "--config", str(config)).returncode == 0
    done = call(engine, "run", "--config", str(config))
    assert (done.returncode, "encryption.key: key file is missing" in done.stderr) == (2, True)
    assert "Traceback" not in done.stderr
    assert call(engine, "migrate", "--config", str(config)).returncode == 0
    assert (engine / "demo.db").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_service_runs_until_a_signal(engine: Path, number: signal.Signals) -> None:
    config = write_config(engine)
    assert call(engine, "create-key", str(engine / "encryption.key")).returncode == 0
    url = f"http://127.0.0.1:{yaml.safe_load(config.read_text())['listen']['port']}"
    process = subprocess.Popen(command(engine, "run", "--config", str(config)), env=environment(engine), stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx2.TransportError):
                ready = httpx2.get(f"{url}/readyz").json()
                if ready["status"] == "ready":
                    break
            time.sleep(0.1)
        assert ready == {"status": "ready", "dependencies": [healthy("engine"), healthy("database")]}
        assert httpx2.get(f"{url}/v1/report", headers={"Authorization": "Bearer t"}).json()["title"] == "Demo"
        metrics = httpx2.get(f"{url}/metrics").text
        assert "distcloud_demo_cycle_seconds_count" in metrics and "process_cpu_seconds_total" in metrics
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and output == "closed\n"


def test_service_under_nohup_ignores_sighup() -> None:
    from distcloud.common.service import _stop_signals

    before = signal.getsignal(signal.SIGHUP)
    try:
        for handler, expected in ((signal.SIG_IGN, False), (signal.SIG_DFL, True)):
            signal.signal(signal.SIGHUP, handler)
            assert (signal.SIGHUP in _stop_signals()) is expected
    finally:
        signal.signal(signal.SIGHUP, before)


def test_end_of_one_component_stops_the_other() -> None:
    from distcloud.common.service import _side_by_side

    async def main() -> None:
        stop = asyncio.Event()

        async def fails() -> None:
            raise RuntimeError("broken")

        async def serves() -> None:
            await stop.wait()

        with pytest.raises(RuntimeError, match="broken"):
            await _side_by_side(serves(), fails(), stop)
        assert stop.is_set()

    asyncio.run(main())


def test_service_on_an_unknown_schema_is_not_restarted(engine: Path) -> None:
    config = write_config(engine)
    assert call(engine, "create-key", str(engine / "encryption.key")).returncode == 0
    migrated = call(engine, "migrate", "--config", str(config))
    assert migrated.returncode == 0 and "setup plugin" not in migrated.stderr
    with contextlib.closing(sqlite3.connect(engine / "demo.db")) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS alembic_version_demo (version_num VARCHAR(32))")
        database.execute("INSERT INTO alembic_version_demo VALUES ('0004')")
    done = call(engine, "run", "--config", str(config))
    assert done.returncode == 78 and "version 0004 is unknown" in done.stderr
    assert "Traceback" not in done.stderr


def test_waiting_migration_extends_the_start_and_stops(engine: Path) -> None:
    config = write_config(engine)
    assert call(engine, "create-key", str(engine / "encryption.key")).returncode == 0
    lock = (engine / "demo.db.migrating").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    with lock, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(60)
        manager.bind(str(engine / "notify"))
        process = subprocess.Popen(
            command(engine, "run", "--config", str(config)), env={**environment(engine), "NOTIFY_SOCKET": str(engine / "notify")}
        )
        try:
            assert manager.recv(100) == b"EXTEND_TIMEOUT_USEC=60000000"
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
