#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: htcondor_configuration_check
short_description: Check a complete set of HTCondor configuration files before it is written
description:
  - Internal to the collection.
  - Checks the set in a scratch directory and determines what applying it requires. An invalid set is a failure, and nothing is changed.
  - Keeps a journal of what has to be applied until the role removes it, so that an interrupted run is completed by the next one; then the
    files are up to date already and show nothing of what the daemons run with.
  - The task is changed if an earlier run left something to apply; the journal itself is not a change.
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.attributes
attributes:
  diff_mode:
    support: none
options:
  files:
    description: Texts of the files in C(/etc/condor/config.d), by name. Files that are not listed stay as they are.
    type: dict
    default: {}
  remove:
    description: Names of files in C(/etc/condor/config.d) that will be removed.
    type: list
    elements: str
    default: []
  restart:
    description: Parameters that a daemon reads only at its start.
    type: list
    elements: str
    default: []
  expressions:
    description: Parameters that must be ClassAd expressions.
    type: list
    elements: str
    default: []
  maps:
    description: Texts of files that C(condor_reconfig) reads, by path.
    type: dict
    default: {}
  unit:
    description: Texts of files of the unit, which need a restart, by path.
    type: dict
    default: {}
  journal:
    description: File of the journal, on a file system that a reboot clears, because the daemons then read everything.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Check the complete configuration
  hep.distcloud.htcondor_configuration_check:
    files:
      90-site.conf: "NEGOTIATOR_INTERVAL = 7"
    restart: [DAEMON_LIST]
    journal: /run/distcloud-htcondor.json
"""

RETURN = r"""
installed:
  description: Whether HTCondor is installed.
  returned: success
  type: bool
  sample: true
running:
  description: Whether its service runs.
  returned: success
  type: bool
  sample: true
reconfigure:
  description: Whether the effective parameters change.
  returned: success
  type: bool
  sample: true
restart:
  description: Parameters that change and need a restart.
  returned: success
  type: list
  elements: str
  sample: [DAEMON_LIST]
pending:
  description: Whether an earlier run left something to apply.
  returned: success
  type: bool
  sample: false
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import typing as t

from ..module_utils._core.files import replace_file
from ..module_utils._core.module import BaseModule, Failure

CONDOR = "/etc/condor"
LIVE = os.path.join(CONDOR, "config.d")
TOP = os.path.join(CONDOR, "condor_config")
VOLATILE = {"PID", "PPID", "CONFIG_ROOT", "REAL_UID", "REAL_GID", "CONDOR_CONFIG", "LOCAL_CONFIG_DIR"}


def dump(top: str, *flags: str) -> dict[str, str]:
    """The parameters under that top-level file. Raises ValueError with the reason if HTCondor cannot read it."""
    done = subprocess.run(
        ["condor_config_val", "-dump", *flags], env={**os.environ, "CONDOR_CONFIG": top}, capture_output=True, text=True, check=False
    )
    # HTCondor continues after some errors, with a message on standard error and a return code of 0.
    if done.returncode != 0 or re.search(r"error", done.stderr, re.IGNORECASE):
        raise ValueError((done.stderr or done.stdout).strip())
    pairs = (line.split(" = ", 1) for line in done.stdout.splitlines() if " = " in line and not line.startswith("#"))
    return {name.strip().upper(): text for name, text in pairs}


def effective(top: str) -> dict[str, str]:
    """The effective parameters. A random value ($RANDOM_INTEGER) stays unexpanded, because each reading differs."""
    return {**dump(top, "-expanded"), **{name: text for name, text in dump(top).items() if "$RANDOM_" in text}}


def write_set(scratch: str, files: dict[str, str], remove: list[str]) -> tuple[str, str]:
    """Write the new set into a scratch directory; the top-level file that reads only this directory, and the directory."""
    directory = os.path.join(scratch, "config.d")
    shutil.copytree(LIVE, directory)
    for name in remove:
        if os.path.exists(os.path.join(directory, name)):
            os.unlink(os.path.join(directory, name))
    for name, text in files.items():
        with open(os.path.join(directory, name), "w", encoding="utf-8") as out:
            out.write(text)
    with open(TOP, encoding="utf-8") as source:
        text = source.read()
    top = os.path.join(scratch, "condor_config")
    with open(top, "w", encoding="utf-8") as out:
        out.write(text.replace(LIVE, directory))
    return top, directory


class NoBindings(Exception):
    """No Python of the host can import HTCondor's bindings; the text is the reason."""


# Reads a list of [name, expression] in JSON, prints the problem of the first invalid one, or nothing.
CHECK = """
import json, sys
import classad2
for name, text in json.load(sys.stdin):
    try:
        classad2.ExprTree(text)
    except Exception as error:
        print("%s is not a ClassAd expression: %s\\n%s" % (name, error, text))
        break
"""
SYSTEM_PYTHON = "/usr/bin/python3"


def broken_expression(parameters: dict[str, str], names: list[str]) -> str:
    """The problem of the first invalid expression, or an empty text. Raises NoBindings."""
    # HTCondor's own default of some is an empty text: nothing to parse.
    texts = [(name, text) for name in names if (text := parameters.get(name.upper(), "")).strip()]
    try:
        import classad2  # type: ignore[import-not-found, unused-ignore]
    except ImportError:  # Ansible's Python is not the one that the bindings are installed for
        return broken_expression_elsewhere(texts)
    for name, text in texts:
        try:
            classad2.ExprTree(text)
        except Exception as error:
            return f"{name} is not a ClassAd expression: {error}\n{text}"
    return ""


def broken_expression_elsewhere(texts: list[tuple[str, str]]) -> str:
    """The same, by the host's own Python."""
    try:
        done = subprocess.run(
            [SYSTEM_PYTHON, "-c", CHECK], input=json.dumps(texts), capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoBindings(str(error)) from error
    if done.returncode != 0:
        raise NoBindings((done.stderr.strip() or f"{SYSTEM_PYTHON} ended with {done.returncode}").splitlines()[-1])
    return done.stdout.strip()


def differs(files: dict[str, str]) -> bool:
    """Whether one of the files differs from its new text, white space aside."""

    def present(path: str) -> list[str] | None:
        try:
            with open(path, encoding="utf-8") as source:
                return source.read().split()
        except OSError:
            return None

    return any(present(path) != text.split() for path, text in files.items())


def read_journal(path: str) -> dict[str, t.Any] | None:
    """What an earlier run left to apply, or None."""
    try:
        with open(path, encoding="utf-8") as source:
            found = json.load(source)
        return {"reconfigure": bool(found["reconfigure"]), "restart": [str(name) for name in found["restart"]]}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return {"reconfigure": True, "restart": []}


def plan(running: bool, differing: set[str], spec: dict[str, t.Any], left: dict[str, t.Any] | None) -> dict[str, t.Any]:
    """What applying the set requires, with what an earlier run left, and the journal to write before a file is changed."""
    restart = {name for name in spec["restart"] if name.upper() in differing}
    reconfigure = bool(differing)
    if not running:  # it reads everything when it starts
        return {"running": False, "reconfigure": reconfigure, "restart": sorted(restart), "pending": False, "journal": None}
    if left:
        restart, reconfigure = restart | set(left["restart"]), reconfigure or left["reconfigure"]
    journal = {
        "reconfigure": reconfigure or differs(spec["maps"]),
        "restart": sorted(restart | ({"condor.service"} if differs(spec["unit"]) else set())),
    }
    return {
        "running": True,
        "reconfigure": reconfigure,
        "restart": sorted(restart),
        "pending": bool(left),
        "journal": journal if journal["reconfigure"] or journal["restart"] else None,
    }


class HtcondorConfigurationCheck(BaseModule):
    service = "htcondor"
    result_key = "restart"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        names: dict[str, t.Any] = {"type": "list", "elements": "str", "default": []}
        texts: dict[str, t.Any] = {"type": "dict", "default": {}}
        return {
            "files": texts,
            "remove": names,
            "restart": names,
            "expressions": names,
            "maps": texts,
            "unit": texts,
            "journal": {"type": "path", "required": True},
        }

    def run(self) -> None:
        if not shutil.which("condor_config_val"):
            self.module.exit_json(changed=False, installed=False, running=False, reconfigure=True, restart=[], pending=False)
        try:
            differing = self.differing()
        except Failure as failure:
            self.fail(failure)
        running = self.module.run_command(["systemctl", "is-active", "--quiet", "condor.service"])[0] == 0
        found = plan(running, differing, self.params, read_journal(self.params["journal"]))
        journal = found.pop("journal")
        if journal is not None and not self.module.check_mode:
            self.write_journal(journal)
        self.module.exit_json(changed=found["pending"], installed=True, **found)

    def differing(self) -> set[str]:
        """The parameters whose effective value the set changes. Raises Failure if the set is invalid."""
        with tempfile.TemporaryDirectory(prefix="condor-check-") as scratch:
            top, directory = write_set(scratch, self.params["files"], self.params["remove"])
            try:
                new = effective(top)
            except ValueError as error:
                message = f"The new HTCondor configuration cannot be read, nothing was changed.\n{error}"
                raise Failure(message, self.service, "unreadable") from error
            try:
                problem = broken_expression(new, self.params["expressions"])
            except NoBindings as error:
                problem = ""
                self.module.warn(f"The ClassAd expressions of the new HTCondor configuration were not checked: {error}")
            if problem:
                raise Failure(f"The new HTCondor configuration is invalid, nothing was changed.\n{problem}", self.service, "expression")
            new = {name: text.replace(directory, LIVE).replace(top, TOP) for name, text in new.items()}
        try:
            present = effective(TOP)
        except ValueError:
            present = {}
        return {name for name in new.keys() | present.keys() if new.get(name) != present.get(name)} - VOLATILE

    def write_journal(self, journal: dict[str, t.Any]) -> None:
        try:
            replace_file(self.params["journal"], json.dumps(journal).encode("utf-8"))
        except OSError as error:
            self.fail(Failure(f"{self.params['journal']} cannot be written: {error.strerror}", self.service, "journal"))


def main() -> None:
    HtcondorConfigurationCheck.main()


if __name__ == "__main__":
    main()
