#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_units
short_description: Bring several systemd units to the desired state in one call
description:
  - Enables, starts, stops, restarts and reloads a list of units in one round trip, letting systemd order and parallelize the starts.
  - A running unit is restarted when one of its files is newer than its start. That depends on the present state and not on what this run
    has changed, so that a run that was interrupted between writing a file and restarting is completed by the next one.
  - Has systemd reload its unit files where one of the units needs that. Check mode does not; it reads the files instead.
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
        description:
          - Whether the unit must run.
          - With V(current) a unit that does not run or does not exist is left alone, and O(units[].enabled) is ignored; one that runs with
            outdated files is restarted or reloaded.
        type: str
        choices: [started, stopped, current]
        default: started
      enabled:
        description: Whether the unit starts with the host.
        type: bool
        default: true
      files:
        description:
          - The files that the unit reads at its start.
          - Of a symbolic link both the link and the file that it points to count; of a link to a directory only the link.
        type: list
        elements: path
        default: []
      reload:
        description: Whether a reload makes the unit read its files. It is then reloaded, or restarted if it cannot reload.
        type: bool
        default: false
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

- name: Reload the web server if it runs with an older certificate
  hep.distcloud.systemd_units:
    units:
      - name: nginx
        state: current
        files: [/etc/ssl/site.pem]
        reload: true
"""

RETURN = r"""
units:
  description: What was done to each unit (in check mode, would be done).
  returned: always
  type: dict
  sample: {glance-api.service: [enable, start]}
"""

import os
import stat
import typing as t
from datetime import datetime, timedelta, timezone

from ..module_utils._core.module import BaseModule, Failure

PROPERTIES = (
    "Id",
    "Names",
    "LoadState",
    "UnitFileState",
    "ActiveState",
    "NeedDaemonReload",
    "CanReload",
    "MainPID",
    "ExecMainStartTimestamp",
    "InactiveExitTimestamp",
    "ActiveEnterTimestamp",
    "StateChangeTimestamp",
)
VERBS = {
    "disable": "disable",
    "stop": "stop",
    "enable": "enable",
    "start": "start",
    "restart": "restart",
    "reload": "reload-or-restart",
}  # by action, in the order of execution
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
TIMED_OUT = 124  # the exit code of the command timeout


def full_name(name: str) -> str:
    """The unit's name with its type."""
    return name if "." in name else name + ".service"


def actions(spec: dict[str, t.Any], is_enabled: bool, is_active: bool, is_outdated: bool) -> list[str]:
    """The actions that one unit needs, in the order of execution."""
    if spec["state"] == "current":
        todo = []
    else:
        todo = [] if spec["enabled"] == is_enabled else ["enable" if spec["enabled"] else "disable"]
        if spec["state"] == "stopped":
            return [*todo, "stop"] if is_active else todo
        if not is_active:
            return [*todo, "start"]
    return [*todo, "reload" if spec["reload"] else "restart"] if is_outdated else todo


def parse_show(text: str) -> dict[str, dict[str, str]]:
    """The blocks of `systemctl show`, one mapping per unit, by each of its names."""
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.strip().split("\n\n")]
    return {name: block for block in blocks for name in [block.get("Id", ""), *block.get("Names", "").split()]}


def is_unread(state: dict[str, str]) -> bool:
    """Whether systemd may not have read the current version of the unit's file."""
    return state.get("NeedDaemonReload") == "yes" or state.get("LoadState") == "not-found"


def microseconds(stamp: str) -> int:
    """Microseconds since the epoch, of a timestamp in the format `us+utc`."""
    read = datetime.strptime(stamp, "%a %Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=timezone.utc)
    return (read - EPOCH) // timedelta(microseconds=1)


def last_read(state: dict[str, str], reload: bool) -> int | None:
    """When a running unit last read its files, in microseconds since the epoch; None where systemd does not say.

    A service reads them when its process starts, well before it is called active. A unit without a process (a socket) reads them when it
    leaves the inactive state. A change of state after it became active is a reload.
    """
    active, changed = state.get("ActiveEnterTimestamp"), state.get("StateChangeTimestamp")
    if reload and state.get("CanReload") == "yes" and state.get("ActiveState") == "active" and active and changed and changed != active:
        return microseconds(changed)
    process = state.get("MainPID", "0") != "0" and state.get("ExecMainStartTimestamp")
    started = process or state.get("InactiveExitTimestamp") or active
    return microseconds(started) if started else None


def modified(path: str) -> int | None:
    """When a file was last modified, in microseconds since the epoch; None if it does not exist."""
    try:
        times = [os.lstat(path).st_mtime_ns]
        target = os.stat(path)
        if stat.S_ISREG(target.st_mode):
            times.append(target.st_mtime_ns)
    except OSError:
        return None
    return max(times) // 1000


class SystemdUnits(BaseModule):
    """Looks at all units at once, then runs each action for all units that need it."""

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
                    "state": {"type": "str", "choices": ["started", "stopped", "current"], "default": "started"},
                    "enabled": {"type": "bool", "default": True},
                    "files": {"type": "list", "elements": "path", "default": []},
                    "reload": {"type": "bool", "default": False},
                },
            },
            "changed_files": {"type": "list", "elements": "path", "default": []},
            "timeout": {"type": "int", "default": 600},
        }

    def run(self) -> None:
        try:
            todo, diff = self.plan()
            if not self.module.check_mode:
                self.apply(todo)
        except Failure as failure:
            self.fail(failure)
        changed = bool(todo)
        self.module.exit_json(changed=changed, units=todo, diff=diff if changed else {})

    def plan(self) -> tuple[dict[str, list[str]], dict[str, t.Any]]:
        """The actions by unit, and the diff."""
        specs = {full_name(spec["name"]): spec for spec in self.params["units"]}
        shown = self.show(specs)
        # Where systemd has not read a unit's file yet, what it shows of the unit is outdated.
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
                if spec["state"] != "started":
                    continue
                raise Failure(f"unit {name} does not exist on this host; install its package first", self.service, "not-found")
            if spec["state"] == "current" and not is_active:
                continue
            if state.get("UnitFileState") == "static":
                is_enabled = spec["enabled"]
            needed = actions(spec, is_enabled, is_active, is_active and self.is_outdated(spec, state))
            if needed:
                todo[name] = needed
                before[name] = {"enabled": is_enabled, "active": is_active}
                after[name] = {"enabled": spec["enabled"], "active": spec["state"] != "stopped", "done": needed}
                if spec["state"] == "current":
                    after[name]["enabled"] = is_enabled
        return todo, {"before": before, "after": after}

    def show(self, names: t.Iterable[str]) -> dict[str, dict[str, str]]:
        """The properties of each unit, in one call."""
        return parse_show(self.systemctl("show", *names, options=("--timestamp=us+utc", "-p", ",".join(PROPERTIES))))

    def on_disk(self, name: str) -> dict[str, str]:
        """The properties of a unit that a daemon-reload would change: is-enabled reads the files and not systemd's memory of them."""
        enablement = self.systemctl("is-enabled", name, may_fail=True).strip()
        if enablement in ("", "not-found"):
            return {"LoadState": "not-found"}
        # An alias does not show whether its unit is enabled.
        return {"LoadState": "loaded"} if enablement == "alias" else {"LoadState": "loaded", "UnitFileState": enablement}

    def is_outdated(self, spec: dict[str, t.Any], state: dict[str, str]) -> bool:
        """Whether one of the unit's files is newer than what the unit has read."""
        if self.module.check_mode and set(spec["files"]) & set(self.params["changed_files"]):
            return True
        read = last_read(state, spec["reload"])
        return read is not None and any(at is not None and at > read for at in map(modified, spec["files"]))

    def apply(self, todo: dict[str, list[str]]) -> None:
        for action, verb in VERBS.items():
            names = [name for name, needed in todo.items() if action in needed]
            if not names:
                continue
            if action in ("start", "restart"):
                self.systemctl("reset-failed", *names, may_fail=True)
            self.systemctl(verb, *names)

    def systemctl(self, verb: str, *names: str, options: t.Sequence[str] = (), may_fail: bool = False) -> str:
        # Synchronizing every unit with its old init script takes a second each and changes nothing under systemd.
        command = ["timeout", str(self.params["timeout"]), "systemctl", verb, *options, *names]
        code, out, err = self.module.run_command(command, environ_update={"SYSTEMCTL_SKIP_SYSV": "1", "LC_ALL": "C"})
        if code == 0 or may_fail:
            return out
        logs = self.journal(names)
        # Of many units that were started together, those that are up did not fail.
        failed = logs if logs and verb in ("start", "restart", "reload-or-restart") else names
        seconds = self.params["timeout"]
        reason = f"was not finished within {seconds} s" if code == TIMED_OUT else f"failed: {err.strip() or out.strip()}"
        raise Failure(f"{' '.join(['systemctl', verb, *failed])} {reason}", self.service, code, {"units": logs})

    def journal(self, names: t.Iterable[str]) -> dict[str, str]:
        """The last lines of the log of each unit that is not up, so that nobody has to log in to read them."""
        logs = {}
        for name in names:
            if self.module.run_command(["systemctl", "is-active", "--quiet", name])[0] != 0:
                logs[name] = self.module.run_command(["journalctl", "--no-pager", "-n", "15", "-o", "cat", "-u", name])[1]
        return logs


def main() -> None:
    SystemdUnits.main()


if __name__ == "__main__":
    main()
