#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nftables_table
short_description: Load the nftables table of role host_firewall
description:
  - Internal to the collection; role C(host_firewall) writes the files that it loads.
  - Compares the rules of table C(inet distcloud) in the kernel with those that the configured files would load, and loads the files where
    they differ. Rules that were added, changed or flushed by hand are repaired, and an interrupted run is completed.
  - The configured rules are loaded in a temporary network namespace, so that both are compared as the kernel lists them.
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.attributes
options:
  file:
    description: The file of the base rules, which includes those of the services.
    type: path
    required: true
  base:
    description: Text of that file.
    type: str
    required: true
  services:
    description:
      - Texts of the rules of services, by name. Files of services that are not listed are read from C(/etc/nftables.d); an empty text means
        no file.
    type: dict
    default: {}
  predicted:
    description: The C(rules) that an earlier call of this run returned; in check mode they count as loaded.
    type: str
"""

EXAMPLES = r"""
- name: Load the packet filter
  hep.distcloud.nftables_table:
    file: /etc/nftables.conf
    base: "{{ lookup('ansible.builtin.template', 'nftables.conf.j2') }}"
"""

RETURN = r"""
rules:
  description: The configured rules as the kernel lists them; null in check mode on a host without nftables.
  returned: success
  type: str
  sample: "table inet distcloud { }"
"""

import os
import shutil
import tempfile
import typing as t

from ..module_utils._core.module import BaseModule, Failure

NFT = "/usr/sbin/nft"
SERVICES = "/etc/nftables.d"
TABLE = ("inet", "distcloud")
LIST = [NFT, "--stateless", "list", "table", *TABLE]
IN_NAMESPACE = ["unshare", "--net", "sh", "-ec", f'{NFT} --file "$1"; {" ".join(LIST)}', "sh"]


def write_rules(directory: str, base: str, services: dict[str, str], present: str = SERVICES) -> str:
    """Write the configured files into a scratch directory; the path of the base rules."""
    folder = os.path.join(directory, "services")
    if os.path.isdir(present):
        shutil.copytree(present, folder)
    os.makedirs(folder, exist_ok=True)
    files = {os.path.join(folder, name + ".nft"): text for name, text in services.items()}
    path = os.path.join(directory, "nftables.conf")
    files[path] = base.replace(present, folder)
    for name, text in files.items():
        with open(name, "w", encoding="utf-8") as out:
            out.write(text)
    return path


class NftablesTable(BaseModule):
    """Compares the loaded rules with the configured ones and loads these."""

    service = "nftables"
    result_key = "rules"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {
            "file": {"type": "path", "required": True},
            "base": {"type": "str", "required": True},
            "services": {"type": "dict", "default": {}},
            "predicted": {"type": "str"},
        }

    def run(self) -> None:
        try:
            loaded, configured = self.loaded(), self.configured()
            changed = loaded != configured
            if changed and not self.module.check_mode:
                self.nft([NFT, "--file", self.params["file"]], "cannot be loaded")
        except Failure as failure:
            self.fail(failure)
        diff = {"before": loaded, "after": configured or ""} if changed else {}
        self.module.exit_json(changed=changed, rules=configured, diff=diff)

    def configured(self) -> str | None:
        """The configured rules as the kernel lists them; None in check mode where nftables is not installed yet."""
        if self.module.check_mode and not os.path.exists(NFT):
            return None
        with tempfile.TemporaryDirectory(prefix="nftables-") as scratch:
            path = write_rules(scratch, self.params["base"], self.params["services"])
            return self.nft([*IN_NAMESPACE, path], "are invalid, nothing was changed")

    def loaded(self) -> str:
        """The rules in the kernel; no table is an empty text."""
        if self.module.check_mode and self.params["predicted"] is not None:
            return str(self.params["predicted"])
        if not os.path.exists(NFT):
            return ""
        code, out, _err = self.module.run_command(LIST)
        return out if code == 0 else ""

    def nft(self, command: list[str], problem: str) -> str:
        code, out, err = self.module.run_command(command)
        if code != 0:
            raise Failure(f"{self.params['file']}: the configured rules {problem}: {err.strip()}", self.service, code)
        return str(out)


def main() -> None:
    NftablesTable.main()


if __name__ == "__main__":
    main()
