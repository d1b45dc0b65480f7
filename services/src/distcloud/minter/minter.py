"""The minter: the only program that may use the pool's signing key. It signs only worker tokens of limited lifetime.

Started by systemd as root for one connection (`Accept=yes`: standard input and output are the socket), it reads one line of
JSON and responds with one. It uses only the Python standard library, so that the code that runs as root is small.

    {"verb": "mint", "worker": "vm-...", "group": "...", "cloud": "...", "region": "...", "alias": "..." or null,
     "lifetime": SECONDS}                                   -> {"token": "..."}
    {"verb": "refuse", "worker": "vm-...", "until": EPOCH}  -> {"refused": NUMBER}
    anything else                                           -> {"error": "..."}

The token's identity is worker-WORKER+GROUP+CLOUD+REGION+ALIAS@DOMAIN, with "-" for no alias: the pool accepts only these values in
the worker's ads, and gives it jobs of that group only.

Its settings are /etc/distcloud/minter.json: {"domain": ..., "max_lifetime": SECONDS, "refused_file": PATH}.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

SETTINGS = Path("/etc/distcloud/minter.json")
_WORKER = re.compile(r"vm-[a-z2-7]{16}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_BOUND = ("group", "cloud", "region", "alias")
_MAX_IDENTITY = 255
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_MAX_LINE = 4096
_TIMEOUT_SECONDS = 10
_MIN_LIFETIME = 60
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

Run = Callable[[Sequence[str]], str]


class MinterError(Exception):
    """The request is refused; the message is sent to the caller."""


@dataclass(frozen=True)
class MinterSettings:
    """Limits of what the minter signs."""

    domain: str
    max_lifetime: int
    refused_file: Path


def read_settings(path: Path) -> MinterSettings:
    """Read the settings. Raises MinterError with the file, the key and what was expected."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MinterError(f"{path}: cannot be read: {error}") from error
    if not isinstance(raw, dict) or set(raw) != {"domain", "max_lifetime", "refused_file"}:
        raise MinterError(f"{path}: should have exactly the keys domain, max_lifetime and refused_file")
    if not isinstance(raw["domain"], str) or not _DOMAIN.fullmatch(raw["domain"]):
        raise MinterError(f"{path}: domain: should be the pool's domain in lower case")
    if type(raw["max_lifetime"]) is not int or raw["max_lifetime"] < _MIN_LIFETIME:
        raise MinterError(f"{path}: max_lifetime: should be a number of seconds, {_MIN_LIFETIME} or more")
    if not isinstance(raw["refused_file"], str) or not raw["refused_file"].startswith("/"):
        raise MinterError(f"{path}: refused_file: should be an absolute path")
    return MinterSettings(raw["domain"], raw["max_lifetime"], Path(raw["refused_file"]))


def run(command: Sequence[str]) -> str:
    """Run an HTCondor tool in an environment that does not depend on the caller."""
    environment = {"PATH": _PATH, "LC_ALL": "C", **{key: os.environ[key] for key in ("CONDOR_CONFIG",) if key in os.environ}}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False, env=environment)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MinterError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise MinterError(f"{command[0]} failed ({done.returncode}): {' '.join(done.stderr.split())[:200]}")
    return done.stdout


def handle(line: str, settings: MinterSettings, *, run: Run = run, now: float | None = None) -> dict[str, Any]:
    """Process one request line and return the response. Raises MinterError."""
    try:
        request = json.loads(line)
    except ValueError as error:
        raise MinterError("the request is not valid JSON") from error
    if not isinstance(request, dict):
        raise MinterError("the request is not a JSON object")
    moment = time.time() if now is None else now
    match request.get("verb"):
        case "mint":
            worker, lifetime = _fields(request, "lifetime", *_BOUND)
            return {"token": _mint(_identity(worker, request, settings), lifetime, settings, run)}
        case "refuse":
            return {"refused": _refuse(_fields(request, "until"), settings, run, moment)}
        case _:
            raise MinterError("verb: should be mint or refuse")


def _fields(request: Mapping[str, Any], number: str, *others: str) -> tuple[str, int]:
    if set(request) != {"verb", "worker", number, *others}:
        raise MinterError(f"the request should have exactly the keys {', '.join(('verb', 'worker', *others))} and {number}")
    worker, value = request["worker"], request[number]
    if not isinstance(worker, str) or not _WORKER.fullmatch(worker):
        raise MinterError("worker: should be vm- and 16 characters of a-z2-7")
    if type(value) is not int:
        raise MinterError(f"{number}: should be a whole number of seconds")
    return worker, value


def _identity(worker: str, request: Mapping[str, Any], settings: MinterSettings) -> str:
    values = {name: request[name] for name in _BOUND}
    if values["alias"] is None:
        values["alias"] = "-"
    for name, value in values.items():
        if not isinstance(value, str) or not (_NAME.fullmatch(value) or (name == "alias" and value == "-")):
            raise MinterError(f"{name}: should be a name of letters, digits, dot, underscore and hyphen")
    identity = f"worker-{'+'.join((worker, *values.values()))}@{settings.domain}"
    if len(identity) > _MAX_IDENTITY:
        raise MinterError(
            f"the identity {identity} is longer than {_MAX_IDENTITY} characters; shorten the names of the group, the cloud or the alias"
        )
    return identity


def _mint(identity: str, lifetime: int, settings: MinterSettings, run: Run) -> str:
    if not _MIN_LIFETIME <= lifetime <= settings.max_lifetime:
        raise MinterError(f"lifetime: should be between {_MIN_LIFETIME} and {settings.max_lifetime} seconds")
    token = run(
        [
            *("condor_token_create", "-identity", identity, "-lifetime", str(lifetime)),
            *("-authz", "ADVERTISE_STARTD", "-authz", "ADVERTISE_MASTER"),
        ]
    ).strip()
    if not re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", token):
        raise MinterError("condor_token_create returned no token; check that the pool's signing key exists")
    return token


def _refuse(request: tuple[str, int], settings: MinterSettings, run: Run, now: float) -> int:
    worker, until = request
    # No token outlives max_lifetime: a later end would only keep the entry longer.
    until = min(until, int(now) + settings.max_lifetime)
    path = settings.refused_file
    lock = os.open(path.parent, os.O_RDONLY)  # lock the directory: a lock file in it would be read by HTCondor
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = read_refused(path)
        before = dict(refused)
        refused = {name: end for name, end in refused.items() if end > now}
        if until > now:
            refused[worker] = max(until, refused.get(worker, 0))
        # Remains after a failure or crash: the file may then be correct, but the running daemons may not have read it.
        unfinished = path.with_name(f".{path.name}.unfinished")
        if refused != before or not path.exists() or unfinished.exists():
            unfinished.touch(mode=0o600)
            _replace(path, render_refused(refused, settings.domain), run)
            run(["condor_reconfig"])
            unfinished.unlink()
    finally:
        os.close(lock)
    return len(refused)


def read_refused(path: Path) -> dict[str, int]:
    """Worker -> end of its refusal, parsed from the comments that `render_refused` writes."""
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return {}
    return {name: int(end) for name, end in re.findall(r"^# (vm-[a-z2-7]{16}) until (\d+)$", text, re.MULTILINE)}


def render_refused(refused: Mapping[str, int], domain: str) -> str:
    """The HTCondor configuration file with the list that COLLECTOR_REQUIREMENTS uses: identities without the names of group, cloud,
    region and alias. The name `none` keeps it from being empty."""
    ends = "".join(f"# {name} until {refused[name]}\n" for name in sorted(refused))
    names = ",".join(f"worker-{name}@{domain}" for name in ["none", *sorted(refused)])
    head = "# Identities of deleted workers whose tokens have not expired yet. Written by distcloud-minter.\n"
    return f"{head}{ends}REVOKED_WORKERS = {names}\n"


def _replace(path: Path, text: str, run: Run) -> None:
    """Replace the file atomically, and restore the old one unless HTCondor reads the new one."""
    old = path.read_bytes() if path.exists() else None
    _write(path, text.encode("ascii"))
    try:
        read = run(["condor_config_val", "REVOKED_WORKERS"]).strip()
        if f"REVOKED_WORKERS = {read}" not in text.splitlines():
            raise MinterError(f"HTCondor does not read REVOKED_WORKERS from {path}; check whether a later file sets it again")
    except MinterError:
        if old is None:
            path.unlink()
        else:
            _write(path, old)
        raise


def _write(path: Path, content: bytes) -> None:
    # HTCondor reads every file in config.d except names with a leading dot (LOCAL_CONFIG_DIR_EXCLUDE_REGEXP).
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o644)  # regardless of the umask: every HTCondor tool reads this directory, as the user who runs it
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def serve(source: TextIO, sink: TextIO, settings_path: Path) -> int:
    """Read one request from `source` and write one response to `sink`, even for an error; returns the exit status."""
    try:
        response = handle(source.readline(_MAX_LINE), read_settings(settings_path))
    except MinterError as error:
        response = {"error": str(error)}
    sink.write(json.dumps(response) + "\n")
    sink.flush()
    return 1 if "error" in response else 0


def main() -> None:
    settings_path = Path(sys.argv[1]) if len(sys.argv) > 1 else SETTINGS
    # A caller that connects and sends nothing must not keep a root process running.
    signal.alarm(60)
    sys.exit(serve(sys.stdin, sys.stdout, settings_path))


if __name__ == "__main__":
    main()
