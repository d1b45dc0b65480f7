"""Validators for texts in requests and configuration; each returns a canonical form or raises ValueError."""

from __future__ import annotations

from cryptography import x509


def certificates(text: str) -> str:
    """PEM certificates in one canonical form. Raises ValueError."""
    if "PRIVATE KEY" in text:
        raise ValueError("contains a private key; give certificates only")
    try:
        found = x509.load_pem_x509_certificates(text.encode("ascii"))
    except (ValueError, UnicodeEncodeError):
        found = []
    if not found:
        raise ValueError("should be one or more PEM certificates (-----BEGIN CERTIFICATE-----)")
    return text.strip().replace("\r\n", "\n") + "\n"


def plain_text(text: str) -> str:
    """Text without NUL, which PostgreSQL cannot store. Raises ValueError."""
    if "\x00" in text:
        raise ValueError("should not contain a NUL character")
    return text
