#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_units
short_description: Bring several systemd units to the wished state in one call
description:
  - Enables, starts, stops and restarts a list of units in one round trip, letting systemd order and parallelise the starts.
  - A running unit is restarted when one of its files is younger than its start. That is decided from what is there and not from what
    this run has changed, so that a run which broke off between writing a file and restarting is completed by the next one.
  - Has systemd read its unit files anew where one of the units needs that. Check mode does not; it looks at the files instead.
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
        description: Whether the unit has to run.
        type: str
        choices: [started, stopped]
        default: started
      enabled:
        description: Whether the unit starts with the host.
        type: bool
        default: true
      files:
        description: The files which the unit reads at its start.
        type: list
        elements: path
        default: []
  changed_files:
    description: Files that would have been changed by earlier tasks in check mode, where their age does not tell.
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
  description: What was, or in check mode would be, done to which unit.
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
TIMED_OUT = 124  # what the command timeout says


def full_name(name: str) -> str:
    """The unit's name with its type."""
    return name if "." in name else name + ".service"


def steps(wish: dict[str, t.Any], is_enabled: bool, is_active: bool, is_stale: bool) -> list[str]:
    """What has to be done to one unit, in the order in which it has to be done."""
    todo = []
    if wish["enabled"] != is_enabled:
        todo.append("enable" if wish["enabled"] else "disable")
    if wish["state"] == "stopped":
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
    """Looks at all units at once, then does the same verb to all units that need it."""

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
            todo, diff = self.look()
            if not self.module.check_mode:
                self.act(todo)
        except Failure as failure:
            self.fail(failure)
        changed = bool(todo)
        self.module.exit_json(changed=changed, units=todo, diff=diff if changed else {})

    def look(self) -> tuple[dict[str, list[str]], dict[str, t.Any]]:
        wishes = {full_name(wish["name"]): wish for wish in self.params["units"]}
        shown = self.show(wishes)
        # Where systemd has not read a unit's file yet, what it shows of the unit is not true.
        unread = [name for name in wishes if is_unread(shown[name])]
        if unread and self.module.check_mode:
            shown.update((name, dict(shown[name], **self.on_disk(name))) for name in unread)
        elif unread:
            self.systemctl("daemon-reload")
            shown = self.show(wishes)
        todo, before, after = {}, {}, {}
        for name, wish in wishes.items():
            state = shown[name]
            is_enabled = state.get("UnitFileState") in ("enabled", "static", "indirect", "generated")
            is_active = state.get("ActiveState") in ("active", "activating", "reloading")
            missing = state.get("LoadState") == "not-found"
            planned = missing and any(path.endswith("/" + name) for path in self.params["changed_files"])
            if missing and not planned:
                if wish["state"] == "stopped":
                    continue
                raise Failure("there is no unit %s on this host; install its package first" % name, self.service, "not-found")
            if state.get("UnitFileState") == "static":
                is_enabled = wish["enabled"]
            what = steps(wish, is_enabled, is_active, is_active and self.stale(wish, state))
            if what:
                todo[name] = what
                before[name] = {"enabled": is_enabled, "active": is_active}
                after[name] = {"enabled": wish["enabled"], "active": wish["state"] == "started", "done": what}
        return todo, {"before": before, "after": after}

    def show(self, names: t.Iterable[str]) -> dict[str, dict[str, str]]:
        """What systemd knows of each unit, in one call."""
        return parse_show(self.systemctl("show", *names, options=("-p", ",".join(PROPERTIES))))

    def on_disk(self, name: str) -> dict[str, str]:
        """What a reload would change in what is shown of a unit: is-enabled looks at the files and not at what was read of them."""
        said = self.systemctl("is-enabled", name, may_fail=True).strip()
        if said in ("", "not-found"):
            return {"LoadState": "not-found"}
        # Another name of a unit says nothing about whether that is enabled.
        return {"LoadState": "loaded"} if said == "alias" else {"LoadState": "loaded", "UnitFileState": said}

    def stale(self, wish: dict[str, t.Any], state: dict[str, str]) -> bool:
        """Whether one of the unit's files is younger than the unit's start."""
        age = time.clock_gettime(time.CLOCK_MONOTONIC) - int(state.get("InactiveExitTimestampMonotonic") or 0) / 1e6
        started = time.time() - age
        for path in wish["files"]:
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
        # Synchronising every unit with its old init script takes a second each and changes nothing under systemd.
        command = ["timeout", str(self.params["timeout"]), "systemctl", verb, *options, *names]
        code, out, err = self.module.run_command(command, environ_update={"SYSTEMCTL_SKIP_SYSV": "1", "LC_ALL": "C"})
        if code == 0 or may_fail:
            return out
        told = self.journal(names)
        # Of many that were started together, those that are up have no part in the failure.
        named = told if told and verb in ("start", "restart") else names
        why = "was not finished within %d s" % self.params["timeout"] if code == TIMED_OUT else "failed: %s" % (err.strip() or out.strip())
        raise Failure("%s %s" % (" ".join(["systemctl", verb, *named]), why), self.service, code, {"units": told})

    def journal(self, names: t.Iterable[str]) -> dict[str, str]:
        """The last lines of what did not come up, since nobody should have to log in to read them."""
        told = {}
        for name in names:
            if self.module.run_command(["systemctl", "is-active", "--quiet", name])[0] != 0:
                told[name] = self.module.run_command(["journalctl", "--no-pager", "-n", "15", "-o", "cat", "-u", name])[1]
        return told


def main() -> None:
    SystemdUnits.main()


if __name__ == "__main__":
    main()
