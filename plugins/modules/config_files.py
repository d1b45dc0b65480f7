#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: config_files
short_description: Write several configuration files of a host in one call
description:
  - Brings a list of files to the desired content, owner, group and mode, in one round trip instead of one task per file.
  - Each file is replaced atomically, and only when its content differs.
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.attributes
options:
  files:
    description: The files, in the order in which they are written.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Path of the file. Missing parent directories are created, owned by root and with mode 0755.
        type: path
        required: true
      content:
        description:
          - The whole content of the file. Never shown in the module's arguments.
          - In the diff, values of keys that look like secrets (passwords, secrets, connection and transport URLs) are hidden.
        type: str
        required: true
      owner:
        description: The user who owns the file.
        type: str
        default: root
      group:
        description: The group that owns the file.
        type: str
        default: root
      mode:
        description: The permissions, as a quoted octal number.
        type: str
        default: "0644"
      validate:
        description:
          - A command that validates the new file before it replaces the old one; C(%s) stands for its path.
          - Not run in check mode, where the files it may refer to are not written either.
        type: str
"""

EXAMPLES = r"""
- name: Configure the image service
  hep.distcloud.config_files:
    files:
      - path: /etc/glance/glance-api.conf
        content: "{{ lookup('ansible.builtin.template', 'glance-api.conf.j2') }}"
        group: glance
        mode: "0640"
      - path: /etc/systemd/system/glance-api.service.d/restart.conf
        content: "{{ lookup('ansible.builtin.template', 'restart.conf.j2') }}"
  register: configuration
"""

RETURN = r"""
paths:
  description: The files that were changed (in check mode, would be changed).
  returned: always
  type: list
  elements: str
  sample: [/etc/glance/glance-api.conf]
"""

import functools
import grp
import os
import pwd
import re
import shlex
import stat
import typing as t

from ..module_utils._core.files import replace_file
from ..module_utils._core.module import BaseModule, Failure
from ..module_utils._core.reconcile import HIDDEN

FOLDER_MODE = 0o755
HIDDEN_KEY = r"(?:password|passwd|secret|connection|transport_url|token)"
SECRETS = (
    # key = value and key: value, to the end of the line
    re.compile(r"^([ \t]*[\w.-]*" + HIDDEN_KEY + r"[\w.-]*[ \t]*[=:][ \t]*)\S.*$", re.IGNORECASE | re.MULTILINE),
    # JSON
    re.compile(r'("[\w.-]*' + HIDDEN_KEY + r'[\w.-]*"\s*:\s*)"[^"]*"', re.IGNORECASE),
    # private keys
    re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?=-----END)", re.DOTALL),
)


def hide(text: str) -> str:
    """The text with everything that looks like a secret masked."""
    for secret in SECRETS:
        text = secret.sub(rf"\1{HIDDEN}", text)
    return text


class State(t.NamedTuple):
    """The compared attributes of a file."""

    content: bytes
    uid: int
    gid: int
    mode: int


def shown(path: str, state: State | None) -> str:
    """The state as the diff prints it."""
    if state is None:
        return ""
    try:
        text = hide(state.content.decode("utf-8"))
    except UnicodeDecodeError:
        text = f"(not text, {len(state.content)} bytes)\n"
    return f"{path + ' '}({state.uid}:{state.gid} {state.mode:04o})\n{text}"


def difference(path: str, before: State | None, after: State) -> dict[str, str] | None:
    """One entry of the diff; None where nothing differs. A difference in hidden values only is mentioned as such."""
    if before == after:
        return None
    old, new = shown(path, before), shown(path, after)
    if old == new:
        new += "(a hidden value differs)\n"
    return {"before_header": path, "after_header": path, "before": old, "after": new}


def make_folders(path: str) -> None:
    """Create a folder and its missing parents, with mode 0755 whatever the umask."""
    if not os.path.isdir(path):
        make_folders(os.path.dirname(path))
        os.mkdir(path)
        os.chmod(path, FOLDER_MODE)


class ConfigFiles(BaseModule):
    """Reads each file, compares, writes what differs."""

    service = "file"
    result_key = "paths"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True, "no_log": True},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "mode": {"type": "str", "default": "0644"},
                    "validate": {"type": "str"},
                },
            }
        }

    def run(self) -> None:
        # Ansible would mask each whole content in the diff. The diff masks single values instead, and the arguments in the result
        # leave the content out.
        self.module.no_log_values -= {item["content"] for item in self.params["files"]}
        invocation = {
            "module_args": {"files": [dict(item, content="VALUE_SPECIFIED_IN_NO_LOG_PARAMETER") for item in self.params["files"]]}
        }
        changed, diffs = [], []
        try:
            for item in self.params["files"]:
                before, after = self.current(item["path"]), self.desired(item)
                entry = difference(item["path"], before, after)
                if entry is None:
                    continue
                if not self.module.check_mode:
                    self.write(item["path"], after, item["validate"])
                changed.append(item["path"])
                diffs.append(entry)
        except Failure as failure:
            self.fail(failure, changed=bool(changed), paths=changed, invocation=invocation)
        except OSError as error:
            self.fail(
                Failure(f"cannot write {item['path']}: {error.strerror}", self.service, error.errno or 0),
                changed=bool(changed),
                paths=changed,
                invocation=invocation,
            )
        self.module.exit_json(changed=bool(changed), paths=changed, diff=diffs, invocation=invocation)

    def desired(self, item: dict[str, t.Any]) -> State:
        try:
            return State(
                item["content"].encode("utf-8"),
                pwd.getpwnam(item["owner"]).pw_uid,
                grp.getgrnam(item["group"]).gr_gid,
                int(item["mode"], 8),
            )
        except KeyError as error:
            raise Failure(
                f"{item['path']}: unknown user or group: {error}; install the package that creates it first",
                self.service,
                "owner",
            ) from error
        except ValueError as error:
            raise Failure(
                f'{item["path"]}: mode must be a quoted octal number such as "0640", not {item["mode"]}', self.service, "mode"
            ) from error

    def current(self, path: str) -> State | None:
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(status.st_mode):
            raise Failure(f"{path} exists but is not a file; remove it first", self.service, "kind")
        with open(path, "rb") as file:
            return State(file.read(), status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))

    def write(self, path: str, state: State, validate: str | None) -> None:
        before = self.current(path)
        if before is not None and before.content == state.content:
            os.chown(path, state.uid, state.gid)
            os.chmod(path, state.mode)
            return
        make_folders(os.path.dirname(path))
        accept = functools.partial(self.validate, path, validate) if validate else None
        replace_file(path, state.content, state.mode, (state.uid, state.gid), accept)

    def validate(self, path: str, command: str, name: str) -> None:
        if "%s" not in command:
            raise Failure(f"{path}: validate must contain %s in place of the file's name", self.service, "validate")
        code, out, err = self.module.run_command([word.replace("%s", name) for word in shlex.split(command)])
        if code != 0:
            raise Failure(f"{path} is unchanged, validation failed: {hide((err + out).strip())}", self.service, code)


def main() -> None:
    ConfigFiles.main()


if __name__ == "__main__":
    main()
