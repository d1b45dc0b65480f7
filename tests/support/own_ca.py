"""A CA as an admin has one: made at the test's run time on the control node, its root, an intermediate and certificates as files."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


class OwnCa:
    """A root and an intermediate that signs; what `files` answers is an item of `certificates_files`."""

    def __init__(self, folder: Path, *, days: int = 100, between: tuple[int, int] = (-400, 100)) -> None:
        """The root ends in so many days; the intermediate is valid from and to so many days from now."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.certificate = folder / "root.pem"
        root_key, self._key = key(), key()
        root = signed("root", root_key, "root", root_key, ca=True, days=days)
        self._chain = signed("intermediate", self._key, "root", root_key, ca=True, since=between[0], days=between[1])
        self.certificate.write_bytes(root)

    def files(self, name: str, *hosts: str, days: int = 100, since: int = -400) -> dict[str, str]:
        """A new key and its certificate with the chain behind it, for those host names; valid from `since` to `days` days from now."""
        own = key()
        certificate, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(signed(name, own, "intermediate", self._key, hosts=hosts, days=days, since=since) + self._chain)
        form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        private.write_bytes(own.private_bytes(serialization.Encoding.PEM, form, plain))
        private.chmod(0o600)
        return {"certificate_file": str(certificate), "key_file": str(private)}


def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def signed(
    name: str,
    own: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    ca: bool = False,
    hosts: tuple[str, ...] = (),
    days: int = 100,
    since: int = -400,
) -> bytes:
    """A certificate in PEM."""
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + since * DAY)
        .not_valid_after(now + days * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
