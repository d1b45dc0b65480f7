#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_units
short_description: Bring several systemd units to the desired state in one call
description:
  - Enables, starts, stops and restarts a list of units in one round trip, letting systemd order and parallelize the starts.
  - A running unit is restarted when one of its files is younger than its start. That is decided from the host's current state, not from
    what this run changed, so the next run completes one that was interrupted between writing a file and restarting.
  - Reloads systemd's unit files if one of the units needs it. Check mode inspects the files instead.
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.attributes
options:
  units:
    description: The units.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Full name of the unit; C(.service) may be left out.
        type: str
        required: true
      state:
        description: Whether the unit runs.
        type: str
        choices: [started, stopped]
        default: started
      enabled:
        description: Whether the unit starts with the host.
        type: bool
        default: true
      files:
        description: The files that the unit reads at start.
        type: list
        elements: path
        default: []
  changed_files:
    description: Files that earlier tasks would have changed in check mode, where their age does not show it.
    type: list
    elements: path
    default: []
  timeout:
    description: Seconds that starting all units together may take.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: Run the image service
  hep.distcloud.systemd_units:
    units:
      - name: glance-api
        files:
          - /etc/glance/glance-api.conf
      - name: haproxy
        state: stopped
        enabled: false
    changed_files: "{{ configuration.paths }}"
"""

RETURN = r"""
units:
  description: What was done to each unit (in check mode, would be done).
  returned: always
  type: dict
  sample: {glance-api.service: [enable, start]}
"""

import os
import time
import typing as t

from ..module_utils._core.module import BaseModule, Failure

PROPERTIES = ("Id", "Names", "LoadState", "UnitFileState", "ActiveState", "NeedDaemonReload", "InactiveExitTimestampMonotonic")
ORDER = ("disable", "stop", "enable", "start", "restart")
TIMED_OUT = 124  # exit code of the command timeout


def full_name(name: str) -> str:
    """The unit's name with its type."""
    return name if "." in name else name + ".service"


def steps(spec: dict[str, t.Any], is_enabled: bool, is_active: bool, is_stale: bool) -> list[str]:
    """The actions that one unit needs, in order."""
    todo = []
    if spec["enabled"] != is_enabled:
        todo.append("enable" if spec["enabled"] else "disable")
    if spec["state"] == "stopped":
        return [*todo, "stop"] if is_active else todo
    if not is_active:
        return [*todo, "start"]
    return [*todo, "restart"] if is_stale else todo


def parse_show(text: str) -> dict[str, dict[str, str]]:
    """The blocks of `systemctl show`, one mapping a unit, by the name under which it was asked for or else its own."""
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.strip().split("\n\n")]
    return {name: block for block in blocks for name in [block.get("Id", ""), *block.get("Names", "").split()]}


def is_unread(state: dict[str, str]) -> bool:
    """Whether systemd may not have read the unit's file as it is now."""
    return state.get("NeedDaemonReload") == "yes" or state.get("LoadState") == "not-found"


class SystemdUnits(BaseModule):
    """Queries all units at once, then runs each verb once for all units that need it."""

    service = "systemd"
    result_key = "units"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {
            "units": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
                    "enabled": {"type": "bool", "default": True},
                    "files": {"type": "list", "elements": "path", "default": []},
                },
            },
            "changed_files": {"type": "list", "elements": "path", "default": []},
            "timeout": {"type": "int", "default": 600},
        }

    def run(self) -> None:
        try:
            todo, diff = self.lookup()
            if not self.module.check_mode:
                self.act(todo)
        except Failure as failure:
            self.fail(failure)
        changed = bool(todo)
        self.module.exit_json(changed=changed, units=todo, diff=diff if changed else {})

    def lookup(self) -> tuple[dict[str, list[str]], dict[str, t.Any]]:
        specs = {full_name(spec["name"]): spec for spec in self.params["units"]}
        shown = self.show(specs)
        # Until systemd has read a unit's file, what it shows of the unit is outdated.
        unread = [name for name in specs if is_unread(shown[name])]
        if unread and self.module.check_mode:
            shown.update((name, dict(shown[name], **self.on_disk(name))) for name in unread)
        elif unread:
            self.systemctl("daemon-reload")
            shown = self.show(specs)
        todo, before, after = {}, {}, {}
        for name, spec in specs.items():
            state = shown[name]
            is_enabled = state.get("UnitFileState") in ("enabled", "static", "indirect", "generated")
            is_active = state.get("ActiveState") in ("active", "activating", "reloading")
            missing = state.get("LoadState") == "not-found"
            planned = missing and any(path.endswith("/" + name) for path in self.params["changed_files"])
            if missing and not planned:
                if spec["state"] == "stopped":
                    continue
                raise Failure(f"unit {name} does not exist on this host; install its package first", self.service, "not-found")
            if state.get("UnitFileState") == "static":
                is_enabled = spec["enabled"]
            what = steps(spec, is_enabled, is_active, is_active and self.stale(spec, state))
            if what:
                todo[name] = what
                before[name] = {"enabled": is_enabled, "active": is_active}
                after[name] = {"enabled": spec["enabled"], "active": spec["state"] == "started", "done": what}
        return todo, {"before": before, "after": after}

    def show(self, names: t.Iterable[str]) -> dict[str, dict[str, str]]:
        """The properties of each unit, in one call."""
        return parse_show(self.systemctl("show", *names, options=("-p", ",".join(PROPERTIES))))

    def on_disk(self, name: str) -> dict[str, str]:
        """The properties that a reload would change: is-enabled reads the files and not what systemd has loaded of them."""
        state = self.systemctl("is-enabled", name, may_fail=True).strip()
        if state in ("", "not-found"):
            return {"LoadState": "not-found"}
        # An alias does not show whether the unit is enabled.
        return {"LoadState": "loaded"} if state == "alias" else {"LoadState": "loaded", "UnitFileState": state}

    def stale(self, spec: dict[str, t.Any], state: dict[str, str]) -> bool:
        """Whether one of the unit's files is younger than the unit's start."""
        age = time.clock_gettime(time.CLOCK_MONOTONIC) - int(state.get("InactiveExitTimestampMonotonic") or 0) / 1e6
        started = time.time() - age
        for path in spec["files"]:
            if path in self.params["changed_files"] and self.module.check_mode:
                return True
            try:
                if os.stat(path).st_mtime > started:
                    return True
            except FileNotFoundError:
                continue
        return False

    def act(self, todo: dict[str, list[str]]) -> None:
        for verb in ORDER:
            names = [name for name, verbs in todo.items() if verb in verbs]
            if not names:
                continue
            if verb in ("start", "restart"):
                self.systemctl("reset-failed", *names, may_fail=True)
            self.systemctl(verb, *names)

    def systemctl(self, verb: str, *names: str, options: t.Sequence[str] = (), may_fail: bool = False) -> str:
        # Synchronizing every unit with its old init script takes a second each and changes nothing under systemd.
        command = ["timeout", str(self.params["timeout"]), "systemctl", verb, *options, *names]
        code, out, err = self.module.run_command(command, environ_update={"SYSTEMCTL_SKIP_SYSV": "1", "LC_ALL": "C"})
        if code == 0 or may_fail:
            return out
        journals = self.journal(names)
        # Of many that were started together, those that are up have no part in the failure.
        named = journals if journals and verb in ("start", "restart") else names
        why = f"was not finished within {self.params['timeout']} s" if code == TIMED_OUT else f"failed: {err.strip() or out.strip()}"
        raise Failure(f"{' '.join(['systemctl', verb, *named])} {why}", self.service, code, {"units": journals})

    def journal(self, names: t.Iterable[str]) -> dict[str, str]:
        """The last lines of the units that did not start, so that nobody has to log in to read them."""
        journals = {}
        for name in names:
            if self.module.run_command(["systemctl", "is-active", "--quiet", name])[0] != 0:
                journals[name] = self.module.run_command(["journalctl", "--no-pager", "-n", "15", "-o", "cat", "-u", name])[1]
        return journals


def main() -> None:
    SystemdUnits.main()


if __name__ == "__main__":
    main()
