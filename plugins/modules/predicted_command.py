#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: predicted_command
short_description: Run a command that always changes something, and report it in check mode
description:
  - Internal to the collection.
  - Runs a command without a shell. Check mode does not run it but reports the change, which C(ansible.builtin.command) does not.
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.attributes
attributes:
  idempotent:
    support: none
    details:
      - Every run runs the command.
  diff_mode:
    support: none
options:
  argv:
    description: The command. No secret belongs here, since every user of the host can read it.
    type: list
    elements: str
    required: true
  chdir:
    description: Directory in which the command runs.
    type: path
"""

EXAMPLES = r"""
- name: Reconfigure HTCondor
  hep.distcloud.predicted_command:
    argv: [condor_reconfig]
"""

RETURN = r"""
stdout:
  description: Standard output of the command; empty in check mode.
  returned: always
  type: str
  sample: "12.0 - 12.1"
"""

import typing as t

from ..module_utils._core.module import BaseModule, Failure


class PredictedCommand(BaseModule):
    """Runs the command, or says that it would."""

    service = "command"
    result_key = "stdout"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {"argv": {"type": "list", "elements": "str", "required": True}, "chdir": {"type": "path"}}

    def run(self) -> None:
        argv = self.params["argv"]
        if self.module.check_mode:
            self.module.exit_json(changed=True, stdout="")
        if not argv:
            self.fail(Failure("argv: is empty; give a command", self.service, "argv"))
        code, out, err = self.module.run_command(argv, cwd=self.params["chdir"])
        if code != 0:
            message = f"{' '.join(argv)} failed with {code}: {(err or out).strip()}"
            self.fail(Failure(message, self.service, code), changed=True, stdout=out)
        self.module.exit_json(changed=True, stdout=out.rstrip("\n"))


def main() -> None:
    PredictedCommand.main()


if __name__ == "__main__":
    main()
