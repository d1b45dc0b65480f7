#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: apt_sources_info
short_description: Read the package sources of a Debian host
description:
  - Reads the host's own apt configuration, in both of its formats, and returns the lines of a C(sources.list) that name a release, its
    updates and its security fixes.
  - Sources that other machines could not reach (C(file:), C(cdrom:)) are left out; of a mirror list in a file, the first entry is used.
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.attributes
  - hep.distcloud.attributes.info
options:
  release:
    description: Code name of the release.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Where the host takes Debian 13 from
  hep.distcloud.apt_sources_info:
    release: trixie
  register: found
"""

RETURN = r"""
sources:
  description: Lines of a C(sources.list), each once, in the order of the host's configuration. Never empty.
  returned: success
  type: list
  elements: str
  sample: [deb http://mirror.example.org/debian trixie main]
"""

import typing as t

from ..module_utils._core.apt_sources import lines_for, local_sources
from ..module_utils._core.module import Failure, InfoModule


class AptSourcesInfo(InfoModule):
    service = "apt"
    result_key = "sources"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {"release": {"type": "str", "required": True}}

    def read(self) -> list[str]:
        lines = lines_for(local_sources(), self.params["release"])
        if not any(f" {self.params['release']} " in line for line in lines):
            raise Failure(f"release: /etc/apt on this host has no http source of Debian {self.params['release']}", self.service, "missing")
        return lines


def main() -> None:
    AptSourcesInfo.main()


if __name__ == "__main__":
    main()
