"""The minter: what it signs and refuses, and that HTCondor can always read the list of refused workers."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from distcloud.minter.minter import MinterError, MinterSettings, handle, read_refused, read_settings, serve

WORKER, OTHER = "vm-aaaaaaaaaaaaaaaa", "vm-bbbbbbbbbbbbbbbb"
NOW = 1_000_000.0
BOUND = {"group": "physics", "cloud": "east", "region": "RegionOne", "alias": "canada"}


class Tools:
    """Replaces HTCondor's commands: records the calls, and reads the file like condor_config_val."""

    def __init__(self, refused: Path, *, reads: str | None = None, fails: str = "") -> None:
        self.refused, self.reads, self.fails = refused, reads, fails
        self.commands: list[Sequence[str]] = []

    def __call__(self, command: Sequence[str]) -> str:
        self.commands.append(command)
        if command[0] == self.fails:
            raise MinterError(f"{command[0]} failed (1)")
        if command[0] == "condor_token_create":
            return "aaa.bbb-_1.ccc\n"
        if command[0] == "condor_config_val":
            if self.reads is not None:
                return self.reads
            return next(line.split(" = ")[1] for line in self.refused.read_text().splitlines() if line.startswith("REVOKED"))
        return ""


@pytest.fixture
def settings(tmp_path: Path) -> MinterSettings:
    return MinterSettings("pool.test", 7200, tmp_path / "60-refused-workers.conf")


def ask(settings: MinterSettings, tools: Tools, **request: Any) -> dict[str, Any]:
    return handle(json.dumps(request), settings, run=tools, now=NOW)


def test_token_only_allows_joining(settings: MinterSettings) -> None:
    tools = Tools(settings.refused_file)
    assert ask(settings, tools, verb="mint", worker=WORKER, **BOUND, lifetime=7200) == {"token": "aaa.bbb-_1.ccc"}
    (command,) = tools.commands
    assert " ".join(command) == (
        f"condor_token_create -identity worker-{WORKER}+physics+east+RegionOne+canada@pool.test -lifetime 7200 "
        "-authz ADVERTISE_STARTD -authz ADVERTISE_MASTER"
    )


def test_no_alias_is_a_hyphen(settings: MinterSettings) -> None:
    tools = Tools(settings.refused_file)
    ask(settings, tools, verb="mint", worker=WORKER, **BOUND | {"alias": None}, lifetime=60)
    assert f"worker-{WORKER}+physics+east+RegionOne+-@pool.test" in tools.commands[0]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"verb": "mint", "worker": WORKER, **BOUND, "lifetime": 7201}, "lifetime"),
        ({"verb": "mint", "worker": WORKER, **BOUND, "lifetime": 59}, "lifetime"),
        ({"verb": "mint", "worker": WORKER, **BOUND, "lifetime": "3600"}, "lifetime"),
        ({"verb": "mint", "worker": WORKER, **BOUND, "lifetime": True}, "lifetime"),
        ({"verb": "mint", "worker": WORKER, **BOUND, "lifetime": 36.5}, "lifetime"),
        ({"verb": "mint", "worker": WORKER, **BOUND}, "exactly the keys"),
        ({"verb": "mint", "worker": WORKER, **BOUND, "lifetime": 3600, "authz": "ADMINISTRATOR"}, "exactly the keys"),
        ({"verb": "mint", "worker": "scheduler", **BOUND, "lifetime": 3600}, "worker"),
        ({"verb": "mint", "worker": f"{WORKER}\n", **BOUND, "lifetime": 3600}, "worker"),
        ({"verb": "mint", "worker": "vm-AAAAAAAAAAAAAAAA", **BOUND, "lifetime": 3600}, "worker"),
        ({"verb": "mint", "worker": [WORKER], **BOUND, "lifetime": 3600}, "worker"),
        ({"verb": "mint", "worker": WORKER, "lifetime": 3600}, "exactly the keys"),
        *(
            ({"verb": "mint", "worker": WORKER, **BOUND, name: value, "lifetime": 3600}, name)
            for name in BOUND
            for value in ("a+b", "a@b", "", 'a"', "a b", "-a", ["a"], 1, "\u00e9")
        ),
        *(({"verb": "mint", "worker": WORKER, **BOUND, name: None, "lifetime": 3600}, name) for name in ("group", "cloud", "region")),
        ({"verb": "mint", "worker": WORKER, **BOUND, "group": "g" * 240, "lifetime": 3600}, "longer than 255 characters"),
        ({"verb": "refuse", "worker": "x,condor@family", "until": 1}, "worker"),
        ({"verb": "sign", "worker": WORKER, "lifetime": 3600}, "verb"),
        ({}, "verb"),
    ],
)
def test_invalid_request_runs_no_command(settings: MinterSettings, request_: dict[str, Any], message: str) -> None:
    tools = Tools(settings.refused_file)
    with pytest.raises(MinterError, match=message):
        ask(settings, tools, **request_)
    assert tools.commands == [] and not settings.refused_file.exists()


@pytest.mark.parametrize("line", ["", "x", "[]", "null", '"mint"', "{"])
def test_malformed_line_is_refused(settings: MinterSettings, line: str) -> None:
    with pytest.raises(MinterError, match=r"JSON|verb"):
        handle(line, settings, run=Tools(settings.refused_file), now=NOW)


def test_refusals_are_listed_until_token_expires(settings: MinterSettings) -> None:
    tools = Tools(settings.refused_file)
    assert ask(settings, tools, verb="refuse", worker=WORKER, until=int(NOW) + 100) == {"refused": 1}
    assert ask(settings, tools, verb="refuse", worker=OTHER, until=int(NOW) + 10**9) == {"refused": 2}
    assert read_refused(settings.refused_file) == {WORKER: NOW + 100, OTHER: NOW + 7200}, "no longer than any token can live"
    names = f"worker-none@pool.test,worker-{WORKER}@pool.test,worker-{OTHER}@pool.test"
    assert f"REVOKED_WORKERS = {names}" in settings.refused_file.read_text().splitlines()
    assert [command[0] for command in tools.commands] == ["condor_config_val", "condor_reconfig"] * 2
    tools.commands.clear()
    assert ask(settings, tools, verb="refuse", worker=OTHER, until=int(NOW) + 50) == {"refused": 2}
    assert tools.commands == [], "nothing new: the pool is not reconfigured"
    assert handle(json.dumps({"verb": "refuse", "worker": OTHER, "until": 0}), settings, run=tools, now=NOW + 101) == {"refused": 1}
    assert read_refused(settings.refused_file) == {OTHER: NOW + 7200}
    assert settings.refused_file.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in settings.refused_file.parent.iterdir()] == [settings.refused_file.name]


@pytest.mark.parametrize("broken", [{"reads": "something else"}, {"fails": "condor_config_val"}])
def test_unread_list_is_rolled_back(settings: MinterSettings, broken: dict[str, str]) -> None:
    with pytest.raises(MinterError):
        ask(settings, Tools(settings.refused_file, **broken), verb="refuse", worker=WORKER, until=int(NOW) + 100)
    assert not settings.refused_file.exists()
    ask(settings, Tools(settings.refused_file), verb="refuse", worker=WORKER, until=int(NOW) + 100)
    before = settings.refused_file.read_bytes()
    with pytest.raises(MinterError):
        ask(settings, Tools(settings.refused_file, **broken), verb="refuse", worker=OTHER, until=int(NOW) + 100)
    assert settings.refused_file.read_bytes() == before


class Death(BaseException):
    """The process is killed while one of its commands runs."""


@pytest.mark.parametrize("tool", ["condor_config_val", "condor_reconfig"])
@pytest.mark.parametrize("end", [MinterError, Death])
def test_failed_reconfiguration_is_repeated(settings: MinterSettings, tool: str, end: type[BaseException]) -> None:
    def cut_off(command: Sequence[str]) -> str:
        if command[0] == tool:
            raise end("cut off")
        return Tools(settings.refused_file)(command)

    for _ in range(2):  # and it stays so however often it fails
        with pytest.raises(end):
            handle(json.dumps({"verb": "refuse", "worker": WORKER, "until": int(NOW) + 100}), settings, run=cut_off, now=NOW)
    tools = Tools(settings.refused_file)
    assert ask(settings, tools, verb="refuse", worker=WORKER, until=int(NOW) + 100) == {"refused": 1}
    assert [command[0] for command in tools.commands] == ["condor_config_val", "condor_reconfig"]
    assert read_refused(settings.refused_file) == {WORKER: NOW + 100}
    tools.commands.clear()
    assert ask(settings, tools, verb="refuse", worker=WORKER, until=int(NOW) + 100) == {"refused": 1}
    assert tools.commands == [], "already reloaded"
    assert [path.name for path in settings.refused_file.parent.iterdir()] == [settings.refused_file.name]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("{}", "exactly the keys"),
        ('{"domain": "A b", "max_lifetime": 600, "refused_file": "/x"}', "domain"),
        ('{"domain": "d", "max_lifetime": "600", "refused_file": "/x"}', "max_lifetime"),
        ('{"domain": "d", "max_lifetime": 600, "refused_file": "x"}', "refused_file"),
    ],
)
def test_settings_errors_name_file_and_key(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "minter.json"
    path.write_text(content)
    with pytest.raises(MinterError, match=message) as caught:
        read_settings(path)
    assert str(path) in str(caught.value)


def test_errors_are_sent_as_responses(tmp_path: Path) -> None:
    sink = io.StringIO()
    assert serve(io.StringIO('{"verb": "mint"}\n'), sink, tmp_path / "missing.json") == 1
    assert "missing.json" in json.loads(sink.getvalue())["error"]
