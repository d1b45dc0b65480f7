#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_command_info
short_description: Run several read-only commands of a host side by side
description:
  - Internal to the collection; role C(site_report) collects the state of a site with it.
  - A command that fails, is missing or does not end in time does not fail the module; its answer reports it.
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.attributes
  - hep.distcloud.attributes.info
options:
  queries:
    description: The commands.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the answer.
        type: str
        required: true
      argv:
        description: The command, which must change nothing.
        type: list
        elements: str
        required: true
      after:
        description: Name of an earlier query that must have ended before this one starts.
        type: str
  timeout:
    description: Seconds after which a command is ended.
    type: float
    default: 60
"""

EXAMPLES = r"""
- name: Read the queue
  hep.distcloud.host_command_info:
    queries:
      - name: queue
        argv: [condor_q, -allusers, -json]
  register: queue
"""

RETURN = r"""
answers:
  description:
    - One answer per query, in the order of the queries. C(rc) is 124 after a timeout and 127 for a missing command, as in a shell.
  returned: success
  type: list
  elements: dict
  sample: [{name: queue, rc: 0, stdout: "[]", stderr: ""}]
"""

import concurrent.futures
import subprocess
import typing as t

from ..module_utils._core.module import Failure, InfoModule


def run_query(argv: list[str], timeout: float) -> dict[str, t.Any]:
    """How a command ended."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return {"rc": 124, "stdout": "", "stderr": f"{argv[0]} did not end within {timeout:g} s"}
    except OSError as error:
        return {"rc": 127, "stdout": "", "stderr": f"{argv[0]}: {error.strerror}"}
    return {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def run_queries(queries: list[dict[str, t.Any]], timeout: float) -> list[dict[str, t.Any]]:
    """All queries side by side, except those that come after an earlier one."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, len(queries))) as pool:
        started: dict[str, concurrent.futures.Future[dict[str, t.Any]]] = {}

        def answer(query: dict[str, t.Any]) -> dict[str, t.Any]:
            if query.get("after"):
                concurrent.futures.wait([started[query["after"]]])
            return {"name": query["name"], **run_query(query["argv"], timeout)}

        for query in queries:
            started[query["name"]] = pool.submit(answer, query)
        return [started[query["name"]].result() for query in queries]


class HostCommandInfo(InfoModule):
    service = "host"
    result_key = "answers"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {
            "queries": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "argv": {"type": "list", "elements": "str", "required": True},
                    "after": {"type": "str"},
                },
            },
            "timeout": {"type": "float", "default": 60},
        }

    def read(self) -> list[dict[str, t.Any]]:
        known: set[str] = set()
        for query in self.params["queries"]:
            name, after = query["name"], query["after"]
            if name in known or (after and after not in known) or not query["argv"]:
                raise Failure(
                    f"queries: {name}: needs a unique name, a command, and in `after` the name of an earlier query", self.service, "queries"
                )
            known.add(name)
        return run_queries(self.params["queries"], self.params["timeout"])


def main() -> None:
    HostCommandInfo.main()


if __name__ == "__main__":
    main()
