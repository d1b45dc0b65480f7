#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: command_lanes
short_description: Run one-time commands in parallel lanes
description:
  - Runs lists of commands. The commands of one lane run one after the other, the lanes run in parallel.
  - A command that succeeded leaves a marker and is not run again until its fingerprint changes. The fingerprint covers the command, its
    environment and O(lanes[].revision). After a killed run, the next one continues with the first command without a marker.
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.attributes
options:
  lanes:
    description: The commands of all lanes. Those of one lane run in the given order.
    type: list
    elements: dict
    required: true
    suboptions:
      lane:
        description: The lane that runs the command.
        type: str
        required: true
      name:
        description: Name of the command, its marker and its log.
        type: str
        required: true
      argv:
        description: The command. Must not contain secrets, since every user of the host can read it.
        type: list
        elements: str
        required: true
      user:
        description: The user who runs it.
        type: str
        default: root
      environment:
        description: Additional environment; its values may be secret.
        type: dict
        default: {}
      revision:
        description: A value whose change makes the command run again, for example the version of a package.
        type: str
        default: ""
  state_dir:
    description: Directory of the markers and logs, accessible to root only.
    type: path
    required: true
  timeout:
    description: Seconds that each command may take.
    type: int
    default: 900
"""

EXAMPLES = r"""
- name: Database schemas
  hep.distcloud.command_lanes:
    state_dir: /var/lib/distcloud/schema
    lanes:
      - {lane: one, name: glance, user: glance, argv: [glance-manage, db_sync]}
      - {lane: two, name: placement, user: placement, argv: [placement-manage, db, sync]}
"""

RETURN = r"""
ran:
  description: The commands that were run (in check mode, would be run), with the seconds each took.
  returned: always
  type: dict
  sample: {glance: 3.1, placement: 2.2}
"""

import fcntl
import hashlib
import json
import os
import subprocess
import threading
import time
import typing as t

from ..module_utils._core.module import BaseModule, Failure
from ..module_utils._core.process import run_in_group


def fingerprint(command: dict[str, t.Any]) -> str:
    """A digest of everything whose change requires another run of the command."""
    essence = [command["argv"], command["user"], sorted(command["environment"].items()), command["revision"]]
    return hashlib.sha256(json.dumps(essence).encode("utf-8")).hexdigest()


def lanes_of(commands: t.Iterable[dict[str, t.Any]]) -> dict[str, list[dict[str, t.Any]]]:
    """The commands by lane, each lane in its order."""
    lanes: dict[str, list[dict[str, t.Any]]] = {}
    for command in commands:
        lanes.setdefault(command["lane"], []).append(command)
    return lanes


class CommandLanes(BaseModule):
    """One thread per lane; after the first failure no lane starts another command."""

    service = "command"
    result_key = "ran"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {
            "lanes": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "lane": {"type": "str", "required": True},
                    "name": {"type": "str", "required": True},
                    "argv": {"type": "list", "elements": "str", "required": True},
                    "user": {"type": "str", "default": "root"},
                    "environment": {"type": "dict", "default": {}, "no_log": True},
                    "revision": {"type": "str", "default": ""},
                },
            },
            "state_dir": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 900},
        }

    def run(self) -> None:
        todo = self.todo()
        if todo and not self.module.check_mode:
            os.makedirs(self.params["state_dir"], mode=0o700, exist_ok=True)
            with open(os.path.join(self.params["state_dir"], "lock"), "w") as lock:
                try:
                    self.take(lock)
                except Failure as failure:
                    self.fail(failure, changed=False, ran={})
                # Read again: the run that held the lock until now may have done them.
                todo = self.todo()
                self.work(todo, lock.fileno())
        diff = {"before": "", "after": "".join(f"run {command['name']}\n" for command in todo)}
        self.module.exit_json(changed=bool(todo), ran=self.ran, diff=diff if todo else {})

    def todo(self) -> list[dict[str, t.Any]]:
        """The commands that have no marker yet, or one of another fingerprint."""
        todo = [command for command in self.params["lanes"] if self.marker(command) != fingerprint(command)]
        self.ran: dict[str, float] = {command["name"]: 0.0 for command in todo}
        return todo

    def take(self, lock: t.IO[str]) -> None:
        """Wait for another run, or for the commands of one that was killed; not forever, since nothing else ends those."""
        patience = self.params["timeout"] * len(self.params["lanes"])
        deadline = time.monotonic() + patience
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise Failure(
                        f"another run, or a command that it left running, has been working in {self.params['state_dir']} for more than "
                        f"{patience} s; find the process that has {lock.name} open",
                        self.service,
                        "locked",
                        {"lock": lock.name},
                    ) from error
            time.sleep(0.2)

    def work(self, todo: list[dict[str, t.Any]], lock: int) -> None:
        """Run all lanes; leaves by fail_json where a command failed."""
        self.failures: list[Failure] = []
        threads = [threading.Thread(target=self.drive, args=(lane, lock)) for lane in lanes_of(todo).values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Unlock explicitly: a daemon that a command left in the background has the descriptor too, and would keep the lock.
        fcntl.flock(lock, fcntl.LOCK_UN)
        if self.failures:
            self.fail(self.failures[0], changed=True, ran=self.ran)

    def marker(self, command: dict[str, t.Any]) -> str:
        try:
            with open(os.path.join(self.params["state_dir"], command["name"] + ".done")) as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def drive(self, lane: list[dict[str, t.Any]], lock: int) -> None:
        for command in lane:
            try:
                if self.failures:
                    return
                self.execute(command, lock)
            except Failure as failure:
                self.failures.append(failure)
                return
            except Exception as error:
                # Any exception: it would end the thread silently, and its command would count as succeeded.
                words = (command["name"], type(error).__name__, error)
                self.failures.append(Failure("{} was aborted: {}: {}".format(*words), self.service, "error"))
                return

    def execute(self, command: dict[str, t.Any], lock: int) -> None:
        base = os.path.join(self.params["state_dir"], command["name"])
        argv = list(command["argv"])
        if command["user"] != "root":
            argv = ["runuser", "-u", command["user"], "--", *argv]
        given = {key: str(value) for key, value in command["environment"].items()}
        began = time.monotonic()
        with open(base + ".log", "wb") as log:
            os.fchmod(log.fileno(), 0o600)
            try:
                code = run_in_group(argv, self.params["timeout"], log, env={**os.environ, "LC_ALL": "C.UTF-8", **given}, lock=lock)
            except subprocess.TimeoutExpired as error:
                raise Failure(
                    f"{command['name']} was not finished after {self.params['timeout']} s; see {base}.log on the host",
                    self.service,
                    "timeout",
                ) from error
            except (OSError, ValueError) as error:
                raise Failure(f"{command['name']} could not be started: {error}", self.service, "start") from error
        self.ran[command["name"]] = round(time.monotonic() - began, 1)
        if code != 0:
            with open(base + ".log", encoding="utf-8", errors="replace") as log_file:
                tail = log_file.read()[-2000:]
            raise Failure(f"{command['name']} ended with code {code}; the end of its log: {tail}", self.service, code)
        with open(base + ".new", "w") as file:
            file.write(fingerprint(command))
        os.replace(base + ".new", base + ".done")


def main() -> None:
    CommandLanes.main()


if __name__ == "__main__":
    main()
