"""Role certificates: a certificate is for a server only; one that is for clients too, from an earlier release, is renewed once."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from role_plays import play

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


def issue(state: Path, *arguments: str) -> int:
    """Run entry point `local` and return how many tasks changed something."""
    variables = {"distcloud_state_dir": str(state), "certificates_local": [{"name": "web", "sans": ["DNS:web.example"]}]}
    ended, output = play(state, "certificates", "local", variables, *arguments)
    assert ended == 0, output
    return int(output.rpartition("changed=")[2].split()[0])


def certificate(state: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((state / "certs/web.pem").read_bytes())


def usages(state: Path) -> list[x509.ObjectIdentifier]:
    return list(certificate(state).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def sign_for_both_usages(state: Path) -> None:
    """Replace the certificate by one with the same key, names and issuer, for server and client."""
    old, ca = certificate(state), x509.load_pem_x509_certificate((state / "ca/ca.pem").read_bytes())
    key = serialization.load_pem_private_key((state / "ca/ca.key").read_bytes(), None)
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(old.subject).issuer_name(ca.subject).public_key(old.public_key())
    builder = builder.serial_number(7).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=397))
    for extension in old.extensions:
        both = isinstance(extension.value, x509.ExtendedKeyUsage)
        builder = builder.add_extension(x509.ExtendedKeyUsage([SERVER, CLIENT]) if both else extension.value, extension.critical)
    signed = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
    (state / "certs/web.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))


@pytest.mark.security
def test_certificate_for_both_usages_is_renewed_once(tmp_path: Path) -> None:
    issue(tmp_path)
    assert usages(tmp_path) == [SERVER]
    key = (tmp_path / "certs/web.key").read_bytes()
    sign_for_both_usages(tmp_path)
    assert usages(tmp_path) == [SERVER, CLIENT]
    assert issue(tmp_path, "--check") == 1
    assert certificate(tmp_path).serial_number == 7
    assert issue(tmp_path) == 1
    assert usages(tmp_path) == [SERVER]
    assert (tmp_path / "certs/web.key").read_bytes() == key
    assert issue(tmp_path) == 0
