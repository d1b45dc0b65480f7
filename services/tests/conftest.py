"""Fixtures for all tests of the engines: a real PostgreSQL server of the tests' own, in a temporary folder."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# The machine is shared and may stall at any time, so the duration of an example means nothing.
hypothesis.settings.register_profile("shared_machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("shared_machine")

_names = itertools.count()


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name bytes by their argument: those that hold the time (gzip) would give each process of a parallel run other names."""
    return argname if isinstance(val, bytes) else None


def _tools() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Path]:
    """The folder with the server's socket. PostgreSQL refuses root, so root runs it as user postgres."""
    tools = _tools()
    # Fail instead of skip: half of the database tests would silently be missing.
    if tools is None:
        pytest.fail("PostgreSQL is not installed: run `make test-fast`, which installs it, or apt-get install postgresql", pytrace=False)
    prefix: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="distcloud-pg-"))
    if os.geteuid() == 0:
        try:
            entry = pwd.getpwnam("postgres")
        except KeyError:
            pytest.fail("running as root and there is no user postgres to run PostgreSQL as: apt-get install postgresql", pytrace=False)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        prefix = ["runuser", "-u", "postgres", "--"]

    def run(*command: str) -> None:
        subprocess.run([*prefix, *command], check=True, cwd="/", capture_output=True, text=True, timeout=300)

    data = folder / "data"
    run(str(tools / "initdb"), "-D", str(data), "-U", "tester", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c shared_buffers=16MB -c max_connections=60"
    # Its output goes to a file: a server that inherits our pipe would keep the test run waiting for its end.
    run(str(tools / "pg_ctl"), "-D", str(data), "-w", "-t", "240", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield folder
    finally:
        run(str(tools / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: Path) -> str:
    """The URL of a new, empty database."""
    import psycopg

    name = f"test{next(_names)}"
    with psycopg.connect(f"host={postgres_server} user=tester dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"postgresql://tester@/{name}?host={postgres_server}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The test runs twice: on an SQLite file and on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/x.db"
    url: str = request.getfixturevalue("postgres_url")
    return url
