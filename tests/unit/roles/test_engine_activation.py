"""Role engine: each engine of a host runs a release of its own, which replaces the one before after it has checked the configuration."""

from __future__ import annotations

import getpass
import grp
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from playbook_changes import Playbook, Run

ROLE = Path(__file__).resolve().parents[3] / "roles" / "engine"
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("timeout"), reason="needs root, because the role's files belong to root, and coreutils"
)
# Releases by age, oldest first; R0 is what no engine has run for long.
R0, R1, R2, R3, R4 = ("00aa", "11bb", "22cc", "33dd", "44ee")
# The steps after the host is prepared, and the part of them that concerns releases.
WHOLE, SWITCH = ("configure", "service"), ("activate", "prune")
PROGRAM = """#!/bin/sh
case "$2" in
    create-key) echo key > "$3" ;;
    check) if grep --quiet invalid "$4"; then echo "configuration: invalid" >&2; exit 2; fi ;;
esac
"""
# Units are active from their start on; each start is logged with the release that the engine's link points to.
SYSTEMCTL = """#!%s
import datetime, os, pathlib, sys
host = pathlib.Path(%r)
verb, *names = sys.argv[1:]
for name in [name for name in names if name.endswith(".service")]:
    engine = name.removeprefix("distcloud-").removesuffix(".service")
    started, unit = host / "started" / engine, host / "units" / name
    if verb == "show":
        print("Id=" + name)
        print("LoadState=" + ("loaded" if unit.exists() else "not-found"))
        print("UnitFileState=" + ("enabled" if started.exists() else "disabled"))
        print("ActiveState=" + ("active" if started.exists() else "inactive"))
        if started.exists():
            at = datetime.datetime.fromtimestamp(started.stat().st_mtime_ns / 1e9, datetime.timezone.utc)
            print("MainPID=1")
            print("ExecMainStartTimestamp=" + at.strftime("%%a %%Y-%%m-%%d %%H:%%M:%%S.%%f UTC"))
        print()
    elif verb == "is-enabled":
        print("not-found" if not unit.exists() else "enabled" if started.exists() else "disabled")
    elif verb in ("start", "restart"):
        started.touch()
        with (host / "log").open("a") as log:
            log.write(verb + " " + engine + " " + os.readlink(host / "opt" / engine).split("/")[-2] + "\\n")
"""


@dataclass(frozen=True)
class Host:
    """A host whose packages and accounts are there and whose releases are built; systemd is a stand-in."""

    folder: Path

    def prepare(self) -> None:
        for name in ("bin", "etc", "local", "opt", "started", "units", "releases"):
            (self.folder / name).mkdir()
        for age, release in enumerate((R4, R3, R2, R1, R0)):
            program = self.folder / "releases" / release / "venv" / "bin" / "distcloud"
            program.parent.mkdir(parents=True)
            program.write_text(PROGRAM)
            program.chmod(0o755)
            at = 1_700_000_000 - age
            os.utime(self.folder / "releases" / release, (at, at))
        systemctl = self.folder / "bin" / "systemctl"
        systemctl.write_text(SYSTEMCTL % (sys.executable, str(self.folder)))
        systemctl.chmod(0o755)

    def playbook(self, engines: dict[str, str], steps: Sequence[str], configuration: str) -> Playbook:
        """Applies steps of the role to engines, each with the named release."""
        tasks = []
        for engine, release in engines.items():
            (self.folder / "etc" / engine).mkdir(exist_ok=True)
            values = {"engine_name": engine, "engine_configuration": f"{configuration} for {release}\n", "__engine_release": release}
            tasks += [
                {"ansible.builtin.include_role": {"name": "hep.distcloud.engine", "tasks_from": step}, "vars": values} for step in steps
            ]
        path = self.folder / "play.yml"
        path.write_text(yaml.safe_dump([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]))
        places = {
            "__engine_links": "opt",
            "__engine_cli_link": "local/distcloud",
            "__engine_releases": "releases",
            "__engine_directory": "etc/{{ engine_name }}",
            "__engine_public_directory": "public/{{ engine_name }}",
            "__engine_unit_file": "units/{{ __engine_unit }}",
        }
        variables = {
            **{name: f"{self.folder}/{place}" for name, place in places.items()},
            "__engine_prepared": engines,
            "__engine_account": grp.getgrgid(os.getgid()).gr_name,
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "engine_keep_releases": 1,
            "host_firewall_manage": False,
        }
        (self.folder / "variables.yml").write_text(yaml.safe_dump(variables))
        return Playbook(path, environment={**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}", "USER": getpass.getuser()})

    def run(self, engines: dict[str, str], steps: Sequence[str] = SWITCH, configuration: str = "valid") -> Run:
        return self.playbook(engines, steps, configuration).run(f"--extra-vars=@{self.folder}/variables.yml")

    def repairs(self, engines: dict[str, str], settled: bool = True) -> list[str]:
        """Switch the releases, as a dry run before predicted it and with nothing left to do after it."""
        playbook = self.playbook(engines, SWITCH, "valid")
        return changes(playbook.repairs_drift(f"--extra-vars=@{self.folder}/variables.yml", settled=settled))

    def link(self, **targets: str) -> None:
        """Set links of the engines, and that of the command to the release of engine alpha."""
        for name, release in targets.items():
            (self.folder / "opt" / name.replace("_", ".")).symlink_to(f"{self.folder}/releases/{release}/venv")
        (self.folder / "local" / "distcloud").symlink_to(f"{self.folder}/releases/{targets['alpha']}/venv/bin/distcloud")

    def links(self) -> dict[str, str]:
        """The release that each link points to."""
        found = [*(self.folder / "opt").iterdir(), *(self.folder / "local").iterdir()]
        return {path.name: os.readlink(path).removeprefix(f"{self.folder}/releases/").split("/")[0] for path in found}

    def releases(self) -> set[str]:
        return {path.name for path in (self.folder / "releases").iterdir()}

    def starts(self) -> list[str]:
        """Each start and restart, with the release that was active then."""
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []


def changes(found: list[str]) -> list[str]:
    return [change.removeprefix("localhost: ") for change in found]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    made.prepare()
    return made


def test_refused_configuration_keeps_the_release(host: Host) -> None:
    assert not host.run({"alpha": R1}, WHOLE).failures
    refused = host.run({"alpha": R4}, WHOLE, "invalid")
    assert "configuration: invalid" in refused.failures["localhost"]
    assert host.links() == {"alpha": R1, "distcloud": R1}, "the next restart of the engine runs what it ran"
    assert (host.folder / "etc" / "alpha" / "alpha.yml").read_text() == f"valid for {R1}\n"
    assert host.starts() == [f"start alpha {R1}"]


def test_two_engines_run_two_releases(host: Host) -> None:
    assert not host.run({"alpha": R1, "beta": R2}, WHOLE).failures
    assert host.starts() == [f"start alpha {R1}", f"start beta {R2}"], "the link is there before the start"
    assert host.links() == {"alpha": R1, "beta": R2, "distcloud": R2}, "the command is of the release that was activated last"
    assert host.releases() == {R1, R2, R4}, "the active ones and the newest other"


@pytest.mark.long
def test_upgrade_of_one_engine_keeps_the_other(host: Host) -> None:
    host.link(alpha=R1, beta=R2)
    kept = f"Remove all but the newest releases ({host.folder}/releases/"
    assert host.repairs({"alpha": R4}, settled=False) == [
        "Record the previous release",
        "Activate the release",
        "Link the distcloud command",
        f"{kept}{R0})",
        f"{kept}{R3})",
    ]
    assert host.links() == {"alpha": R4, "alpha.previous": R1, "beta": R2, "distcloud": R4}
    assert host.releases() == {R1, R2, R4}


@pytest.mark.long
def test_upgrade_of_all_engines_is_predicted(host: Host) -> None:
    host.link(alpha=R1, beta=R2)
    made = host.repairs({"alpha": R4, "beta": R4})
    assert made.count("Link the distcloud command") == 1 and made.count("Activate the release") == 2
    assert host.links() == {"alpha": R4, "alpha.previous": R1, "beta": R4, "beta.previous": R2, "distcloud": R4}
    assert host.releases() == {R1, R2, R4}


def test_refused_releases_do_not_displace_the_previous(host: Host) -> None:
    host.link(alpha=R4, alpha_previous=R0)
    assert not host.run({"alpha": R4}).failures
    assert host.releases() == {R0, R4}


def test_command_of_the_previous_release_is_repaired(host: Host) -> None:
    """As an interrupted run leaves it."""
    host.link(alpha=R4, alpha_previous=R1)
    command = host.folder / "local" / "distcloud"
    command.unlink()
    command.symlink_to(f"{host.folder}/releases/{R1}/venv/bin/distcloud")
    assert changes(host.run({"alpha": R4}, ["activate"]).changed) == ["Link the distcloud command"]
    assert os.access(command, os.X_OK) and host.links()["distcloud"] == R4


def test_release_is_activated_right_before_the_restart() -> None:
    def names(step: str) -> list[str]:
        return [task["name"] for task in yaml.safe_load((ROLE / "tasks" / f"{step}.yml").read_text("utf-8"))]

    activate = names("service").index("Activate the release")
    assert names("service")[activate + 1] == "Start or restart {{ engine_name }}"
    assert all("activate.yml" not in (ROLE / "tasks" / f"{step}.yml").read_text("utf-8") for step in ("prepare", "configure"))
