# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module certificate_expiry_info: which certificates expire soon."""

from __future__ import annotations

import time
from pathlib import Path

from ansible_collections.hep.distcloud.plugins.modules import certificate_expiry_info as certificates
from module_harness import run_module
from own_ca import key, signed


def test_output_of_openssl_is_parsed() -> None:
    assert certificates.parse_end("notAfter=Jan  5 09:34:43 2018 GMT\n") == 1515144883


def test_expiring_certificates_are_listed_soonest_first() -> None:
    ends = {"late": 300, "soon": 200, "sooner": 100, "broken": None}
    found = certificates.expiring(ends, 300)
    assert found == [{"path": path, "ends": ends[path]} for path in ("broken", "sooner", "soon")]


def test_file_expires_with_its_first_certificate(tmp_path: Path) -> None:
    now = time.time()
    leaf, intermediate = (signed("any", key(), "any", key(), days=days) for days in (90, 10))
    chain, broken = tmp_path / "chain.pem", tmp_path / "broken.pem"
    chain.write_bytes(b"of our CA, \xe9\n" + leaf + intermediate)
    assert abs(certificates.read_end(chain) - now - 10 * 86400) < 60
    for text in (b"", b"no certificate", leaf[:100], leaf + intermediate[:100]):
        broken.write_bytes(text)
        assert certificates.read_end(broken) is None


def test_module_skips_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "soon.pem"
    path.write_bytes(signed("any", key(), "any", key(), days=10))
    paths = [str(path), str(tmp_path / "missing.pem")]
    result = run_module(certificates.CertificateExpiryInfo, {"paths": paths}, check=True)
    assert [found["path"] for found in result.data["certificates"]] == [str(path)] and not result.changed
    assert run_module(certificates.CertificateExpiryInfo, {"paths": paths, "days": 5}).data["certificates"] == []
