#!/usr/bin/python

# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_expiry_info
short_description: Which certificate files of a host expire soon
description:
  - Internal to the collection.
  - A file expires with the first of its certificates, intermediate ones included. Missing files are skipped.
version_added: 0.1.0
author:
  - The hep.distcloud authors (@hep-distcloud)
extends_documentation_fragment:
  - hep.distcloud.attributes
  - hep.distcloud.attributes.info
options:
  paths:
    description: The certificate files (PEM).
    type: list
    elements: path
    required: true
  days:
    description: A file that expires within so many days is reported.
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: Find certificates that expire soon
  hep.distcloud.certificate_expiry_info:
    paths: [/etc/ssl/distcloud/condor.pem]
  register: expiring
"""

RETURN = r"""
certificates:
  description:
    - The files that expire soon, first the soonest. C(ends) is in seconds since the epoch, or null if the file has no readable certificate.
  returned: success
  type: list
  elements: dict
  sample: [{path: /etc/ssl/distcloud/condor.pem, ends: 1772445600}]
"""

import os
import ssl
import subprocess
import time
import typing as t

from ..module_utils._core.module import InfoModule

BEGIN = "-----BEGIN CERTIFICATE-----"


def parse_end(text: str) -> int:
    """Seconds since the epoch, from the output of `openssl x509 -enddate`."""
    return int(ssl.cert_time_to_seconds(text.strip().partition("=")[2]))


def read_end(path: str) -> int | None:
    """When the first certificate of a file ends; None if one of them cannot be read."""
    argv = ["openssl", "x509", "-noout", "-enddate"]
    try:
        with open(path, encoding="utf-8", errors="replace") as source:
            blocks = source.read().split(BEGIN)[1:]
        ends = [subprocess.run(argv, input=BEGIN + block, capture_output=True, text=True, check=True).stdout for block in blocks]
        return min(parse_end(text) for text in ends)
    except (ValueError, OSError, subprocess.CalledProcessError):
        return None


def expiring(ends: dict[str, int | None], limit: float) -> list[dict[str, t.Any]]:
    """Files that cannot be read or end before the limit, soonest first."""
    found = sorted((end or 0, path, end) for path, end in ends.items() if end is None or end < limit)
    return [{"path": path, "ends": end} for _order, path, end in found]


class CertificateExpiryInfo(InfoModule):
    service = "openssl"
    result_key = "certificates"

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {"paths": {"type": "list", "elements": "path", "required": True}, "days": {"type": "int", "default": 30}}

    def read(self) -> list[dict[str, t.Any]]:
        ends = {path: read_end(path) for path in self.params["paths"] if os.path.exists(path)}
        return expiring(ends, time.time() + self.params["days"] * 86400)


def main() -> None:
    CertificateExpiryInfo.main()


if __name__ == "__main__":
    main()
