"""Validation of user input: certificates, cloud-init parts, times. Pure; an error says what was expected."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import yaml
from cryptography import x509

from ...common.config import UniqueKeyLoader, yaml_problem
from ..worker.configuration import WorkerSettings
from ..worker.templating import render_template
from ..worker.user_data import MetadataPart, UserDataError, template_variables, validate_part

SHORT_TYPES = ("cloud-config", "cloud-boothook", "x-shellscript")
FURTHER_TYPES = (
    "text/cloud-config-archive",
    "text/part-handler",
    "text/x-include-once-url",
    "text/x-include-url",
)
MAX_PART_BYTES = 65_536
_ANY_WORKER = WorkerSettings(host="vm-sample", domain="example.org", condor_host="central.example.org", group="group", alias="alias")


def certificates(text: str) -> str:
    """Return PEM certificates in canonical form. Raises ValueError."""
    if "PRIVATE KEY" in text:
        raise ValueError("contains a private key; give certificates only")
    try:
        found = x509.load_pem_x509_certificates(text.encode("ascii"))
    except (ValueError, UnicodeEncodeError):
        raise ValueError("should be one or more PEM certificates (-----BEGIN CERTIFICATE-----)") from None
    if not found:
        raise ValueError("should be one or more PEM certificates (-----BEGIN CERTIFICATE-----)")
    return text.strip().replace("\r\n", "\n") + "\n"


def mime_type(text: str) -> str:
    """Normalize a MIME type of cloud-init; the three common types lose their `text/`. Raises ValueError."""
    short = text.removeprefix("text/")
    if short in SHORT_TYPES:
        return short
    if f"text/{short}" in FURTHER_TYPES:
        return f"text/{short}"
    if short.startswith("x-shellscript-per-"):
        raise ValueError(
            "should be x-shellscript: a worker boots once, and cloud-init there does not run scripts of the types x-shellscript-per-..."
        )
    raise ValueError(f"should be one of {', '.join((*SHORT_TYPES, *FURTHER_TYPES))}")


def part(content: str, mime: str) -> str | None:
    """What is wrong with a cloud-init part, or None. It must be usable on a worker, and cloud-config must not repeat a key."""
    size = len(content.encode("utf-8"))
    if size > MAX_PART_BYTES:
        return f"is {size} bytes long; the maximum is {MAX_PART_BYTES}"
    if "x-shellscript" in mime and not content.startswith("#!"):
        return "should begin with an interpreter line such as #!/bin/sh"
    try:
        validate_part(MetadataPart("part", content, mime))
        if mime == "cloud-config":
            yaml.load(render_template(content, template_variables(_ANY_WORKER)), Loader=UniqueKeyLoader)  # noqa: S506  a subclass of SafeLoader
    except UserDataError as error:
        return str(error).removeprefix("metadata part of the group").removeprefix(": ").strip()
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        return f"is not valid YAML after template expansion: {yaml_problem(error)}"
    return None


def moment(value: Any) -> float | None:
    """Seconds since the epoch from a number or ISO 8601 text (UTC if it has no zone, as Keystone writes it). Raises ValueError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("should be a time such as 2027-01-31T12:00:00Z")
    if isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError("should be a time such as 2027-01-31T12:00:00Z") from None
        value = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    if not 0 <= value < 253_402_300_800:  # also false for NaN and for integers too large for a float
        raise ValueError("should be a time between 1970 and 9999")
    return float(value)


def iso(at: float | None) -> str | None:
    """Format a time as ISO 8601 text in UTC, to the second."""
    if at is None:
        return None
    return datetime.fromtimestamp(math.floor(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
