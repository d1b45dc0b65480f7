"""Role site_report: which certificates end soon."""

from __future__ import annotations

import importlib.util
from pathlib import Path

FILE = Path(__file__).resolve().parents[3] / "roles" / "site_report" / "files" / "certificates.py"
SPEC = importlib.util.spec_from_file_location("ending_certificates", FILE)
assert SPEC and SPEC.loader
certificates = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(certificates)


def test_what_openssl_prints_is_read() -> None:
    assert certificates.end("notAfter=Jan  5 09:34:43 2018 GMT\n") == 1515144883


def test_only_what_ends_before_the_limit_is_told_soonest_first() -> None:
    ends = {"late": 300, "soon": 200, "sooner": 100}
    told = certificates.ending("central", ends, 300)
    assert told == [{"host": "central", "path": "sooner", "ends": 100}, {"host": "central", "path": "soon", "ends": 200}]
