"""Role site_report: which certificates end soon."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

from own_ca import key, signed

FILE = Path(__file__).resolve().parents[3] / "roles" / "site_report" / "files" / "certificates.py"
SPEC = importlib.util.spec_from_file_location("ending_certificates", FILE)
assert SPEC and SPEC.loader
certificates = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(certificates)


def test_what_openssl_prints_is_read() -> None:
    assert certificates.end("notAfter=Jan  5 09:34:43 2018 GMT\n") == 1515144883


def test_only_what_ends_before_the_limit_is_told_soonest_first() -> None:
    ends = {"late": 300, "soon": 200, "sooner": 100, "broken": None}
    told = certificates.ending("central", ends, 300)
    assert told == [{"host": "central", "path": path, "ends": ends[path]} for path in ("broken", "sooner", "soon")]


def test_a_file_ends_with_the_first_of_its_certificates(tmp_path: Path) -> None:
    now = time.time()
    leaf, intermediate = (signed("any", key(), "any", key(), days=days) for days in (90, 10))
    chain, broken = tmp_path / "chain.pem", tmp_path / "broken.pem"
    chain.write_bytes(b"of our CA, \xe9\n" + leaf + intermediate)
    assert abs(certificates.read(chain) - now - 10 * 86400) < 60
    for text in (b"", b"no certificate", leaf[:100], leaf + intermediate[:100]):
        broken.write_bytes(text)
        assert certificates.read(broken) is None
