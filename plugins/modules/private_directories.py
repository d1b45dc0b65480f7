#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: private_directories
short_description: Create directories inside of a directory that another user owns
description:
  - Internal to the collection.
  - Creates directories with mode 0700 and sets that mode, as their owner and not as root. The owner of the parent directory can replace
    any part of the path by a link at any time; root would follow it, the owner gains nothing.
  - Does not change the owner of an existing directory; fails if it is another one.
  - In check mode the user may be missing, as on a new host.
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.attributes
options:
  user:
    description: The user who owns the directories, and the existing one above them.
    type: str
    required: true
  paths:
    description: The directories, parents first.
    type: list
    elements: path
    required: true
"""

EXAMPLES = r"""
- name: Create the spool directories
  hep.distcloud.private_directories:
    user: distcloud-scheduler
    paths:
      - /var/lib/distcloud/scheduler/spool
      - /var/lib/distcloud/scheduler/spool/new
"""

RETURN = r"""
paths:
  description: The directories that were changed (in check mode, would be changed).
  returned: always
  type: list
  elements: str
  sample: [/var/lib/distcloud/scheduler/spool]
"""

import os
import pwd
import stat
import typing as t

from ..module_utils._core.module import BaseModule, Failure

MODE = 0o700


class PrivateDirectories(BaseModule):
    """Root looks at the directories; their owner makes the changes."""

    service = "directory"
    result_key = "paths"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {"user": {"type": "str", "required": True}, "paths": {"type": "list", "elements": "path", "required": True}}

    def run(self) -> None:
        changed: list[str] = []
        diffs = []
        try:
            uid = self.find_uid()
            for path in self.params["paths"]:
                mode = self.find_mode(path, uid)
                if mode == MODE:
                    continue
                if not self.module.check_mode:
                    self.make(path, uid)
                changed.append(path)
                before = "" if mode is None else f"{path} ({mode:04o})\n"
                diffs.append({"before_header": path, "after_header": path, "before": before, "after": f"{path} ({MODE:04o})\n"})
        except Failure as failure:
            self.fail(failure, changed=bool(changed), paths=changed)
        self.module.exit_json(changed=bool(changed), paths=changed, diff=diffs)

    def find_uid(self) -> int | None:
        """The user's id; None where check mode runs before the user is created."""
        try:
            return pwd.getpwnam(self.params["user"]).pw_uid
        except KeyError as error:
            if self.module.check_mode:
                return None
            raise Failure(f"user {self.params['user']} does not exist; create it first", self.service, "user") from error

    def find_mode(self, path: str, uid: int | None) -> int | None:
        """The directory's permissions; None if it does not exist."""
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Failure(f"{path} cannot be read: {error.strerror}", self.service, error.errno or 0) from error
        if not stat.S_ISDIR(status.st_mode):
            raise Failure(f"{path} exists but is not a directory; remove it first", self.service, "kind")
        if uid is not None and status.st_uid != uid:
            message = f"{path} belongs to user id {status.st_uid} and not to {self.params['user']}; remove it or change its owner"
            raise Failure(message, self.service, "owner")
        return stat.S_IMODE(status.st_mode)

    def make(self, path: str, uid: int | None) -> None:
        """Create the directory and set its mode, as the user."""
        user = self.params["user"]
        become = [] if uid == os.geteuid() else ["runuser", "-u", user, "--"]
        code, out, err = self.module.run_command([*become, "install", "-d", "-m", f"{MODE:04o}", "--", path], cwd="/")
        if code != 0:
            message = f"user {user} cannot create {path}: {(err or out).strip()}; the directory above it must exist and belong to this user"
            raise Failure(message, self.service, code)


def main() -> None:
    PrivateDirectories.main()


if __name__ == "__main__":
    main()
