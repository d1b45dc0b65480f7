#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: htcondor_token_info
short_description: Whether the token file of an HTCondor daemon is valid
description:
  - Internal to the collection.
  - A token is valid if it has the identity and exactly the authorizations, was signed after the signing key was created, has more than
    half of its lifetime left, and belongs to root alone. Its signature is not verified.
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.attributes
  - hep.distcloud.attributes.info
options:
  path:
    description: The file of the token.
    type: path
    required: true
  identity:
    description: Identity that the token must have.
    type: str
    required: true
  authorizations:
    description: Authorizations that the token must have, no more and no fewer.
    type: list
    elements: str
    required: true
  key_time:
    description: Seconds since the epoch at which the signing key was created; 0 if there is no key.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Check the worker's token
  hep.distcloud.htcondor_token_info:
    path: /etc/condor/tokens.d/worker
    identity: worker-a@example.org
    authorizations: [ADVERTISE_STARTD, ADVERTISE_MASTER]
    key_time: 1772445600
  register: token
"""

RETURN = r"""
problem:
  description: Why the token must be replaced; empty if it is valid.
  returned: success
  type: str
  sample: less than half of its lifetime is left
"""

import base64
import json
import os
import stat
import time
import typing as t

from ..module_utils._core.module import InfoModule


def read_claims(path: str) -> dict[str, t.Any]:
    """The claims of a token. Raises OSError, ValueError or IndexError."""
    with open(path, encoding="utf-8") as source:
        part = source.read().strip().split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    if not isinstance(claims, dict):
        raise ValueError("claims must be an object")
    return claims


def find_problem(path: str, identity: str, authorizations: t.Collection[str], key_time: int, now: float, owner: int = 0) -> str:
    """Why a token must be replaced, or an empty text."""
    try:
        status = os.stat(path)
    except OSError:
        return "it is missing"
    try:
        claims = read_claims(path)
        begin, end = int(claims["iat"]), int(claims["exp"])
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return "it cannot be read"
    if status.st_uid != owner or stat.S_IMODE(status.st_mode) != 0o600:
        return "it does not belong to root alone"
    if claims.get("sub") != identity:
        return "it has another identity"
    if set(str(claims.get("scope", "")).split()) != {"condor:/" + name for name in authorizations}:
        return "it has other authorizations"
    # The central manager made key and token, so both times are from its clock.
    if key_time == 0 or begin < key_time:
        return "its signing key is newer or missing"
    if end - now < (end - begin) / 2:
        return "less than half of its lifetime is left"
    return ""


class HtcondorTokenInfo(InfoModule):
    service = "htcondor"
    result_key = "problem"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {
            "path": {"type": "path", "required": True},
            "identity": {"type": "str", "required": True},
            "authorizations": {"type": "list", "elements": "str", "required": True},
            "key_time": {"type": "int", "required": True, "no_log": False},
        }

    def read(self) -> str:
        path, identity, authorizations, key_time = (self.params[name] for name in ("path", "identity", "authorizations", "key_time"))
        return find_problem(path, identity, authorizations, key_time, time.time())


def main() -> None:
    HtcondorTokenInfo.main()


if __name__ == "__main__":
    main()
