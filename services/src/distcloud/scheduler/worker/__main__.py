"""`python -m distcloud.scheduler.worker`: renders a worker's configuration from settings given as JSON on standard input.

A role uses it on the control node to configure static workers from the same templates as VMs. Without `--file` it prints a
JSON object, path to text; with it the text of that one file. No secret is read or written.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import PurePosixPath

from ...common.text import printable
from .configuration import SettingsError, WorkerSettings, configuration


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m distcloud.scheduler.worker", description="Render a worker's configuration.")
    parser.add_argument("--file", metavar="NAME", help="print only this file, by its name, for example 50-distcloud-worker.conf")
    options = parser.parse_args(arguments)
    try:
        files = configuration(read_settings(sys.stdin.read()))
    except SettingsError as problem:
        sys.stderr.write(f"worker settings: {printable(str(problem))}\n")
        return 2
    if options.file is None:
        json.dump(files, sys.stdout, indent=1)
        sys.stdout.write("\n")
        return 0
    text = next((text for path, text in files.items() if PurePosixPath(path).name == options.file), None)
    if text is None:
        sys.stderr.write(f"unknown file {options.file}; known: {', '.join(PurePosixPath(path).name for path in files)}\n")
        return 2
    sys.stdout.write(text)
    return 0


def read_settings(text: str) -> WorkerSettings:
    """Settings from a JSON object whose keys are the fields of WorkerSettings. Raises SettingsError."""
    try:
        given = json.loads(text)
    except json.JSONDecodeError as problem:
        raise SettingsError(f"expected a JSON object on standard input: {problem}") from problem
    if not isinstance(given, dict):
        raise SettingsError("expected a JSON object on standard input")
    known = {field.name for field in fields(WorkerSettings)}
    if unknown := sorted(set(given) - known):
        raise SettingsError(f"unknown keys: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    if missing := sorted({"host", "domain", "condor_host", "group"} - set(given)):
        raise SettingsError(f"missing keys: {', '.join(missing)}")
    return WorkerSettings(**given)


if __name__ == "__main__":
    raise SystemExit(main())
