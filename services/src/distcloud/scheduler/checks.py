"""Whether texts that people hand in can be used: certificates, cloud-init parts, times. Pure; an error says what was expected."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import yaml
from cryptography import x509
from jinja2 import TemplateSyntaxError
from jinja2.sandbox import SandboxedEnvironment

from ..common.config import UniqueKeyLoader, yaml_problem

MIME_TYPES = (
    "cloud-config",
    "cloud-config-archive",
    "cloud-boothook",
    "x-shellscript",
    "x-shellscript-per-boot",
    "x-shellscript-per-instance",
    "x-shellscript-per-once",
    "x-include-url",
    "x-include-once-url",
    "part-handler",
)
SHEBANG = ("x-shellscript", "x-shellscript-per-boot", "x-shellscript-per-instance", "x-shellscript-per-once")
MAX_PART_BYTES = 65_536


_templates = SandboxedEnvironment()


def certificates(text: str) -> str:
    """PEM certificates in one canonical form. Raises ValueError."""
    if "PRIVATE KEY" in text:
        raise ValueError("holds a private key; give certificates only")
    try:
        found = x509.load_pem_x509_certificates(text.encode("ascii"))
    except (ValueError, UnicodeEncodeError):
        raise ValueError("should be one or more PEM certificates (-----BEGIN CERTIFICATE-----)") from None
    if not found:
        raise ValueError("should be one or more PEM certificates (-----BEGIN CERTIFICATE-----)")
    return text.strip().replace("\r\n", "\n") + "\n"


def mime_type(text: str) -> str:
    """One of cloud-init's types, without `text/`. Raises ValueError."""
    short = text.removeprefix("text/")
    if short not in MIME_TYPES:
        raise ValueError(f"should be one of {', '.join(MIME_TYPES)}")
    return short


def part(content: str, mime: str) -> str | None:
    """What is wrong with a cloud-init part, or None. It is a Jinja template; cloud-config has to be a YAML mapping.

    Nothing is rendered: a hostile template could run for ever. One with statements ({% if %}) is therefore checked for syntax alone.
    """
    size = len(content.encode("utf-8"))
    if size > MAX_PART_BYTES:
        return f"is {size} bytes long; a part holds at most {MAX_PART_BYTES}"
    try:
        _templates.parse(content)
        text = _without_expressions(content)
    except TemplateSyntaxError as error:
        return f"is not a valid Jinja template: line {error.lineno}: {error.message}"
    except RecursionError:
        return "is not a usable Jinja template: nested too deeply"
    if mime in SHEBANG and not content.startswith("#!"):
        return "should begin with an interpreter line such as #!/bin/sh"
    if mime == "cloud-config" and text is not None:
        return _cloud_config(text)
    return None


def _without_expressions(content: str) -> str | None:
    """The template with a word in place of every {{ expression }}; None where statements decide what the text is."""
    text: list[str] = []
    for _, kind, value in _templates.lex(content):
        match kind:
            case "block_begin" | "raw_begin":
                return None
            case "data":
                text.append(value)
            case "variable_begin":
                text.append("placeholder")
            case _:
                pass
    return "".join(text)


def _cloud_config(rendered: str) -> str | None:
    try:
        data = yaml.load(rendered, Loader=UniqueKeyLoader)  # noqa: S506  a subclass of SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        return f"is not valid YAML: {yaml_problem(error)}"
    if not isinstance(data, dict):
        return "should be a YAML mapping, as cloud-config is"
    return None


def moment(value: Any) -> float | None:
    """Seconds since the epoch from ISO 8601 text (UTC where it names no zone, as Keystone writes it) or a number. Raises ValueError."""
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
    if not 0 <= value < 253_402_300_800:  # false for NaN and for integers beyond all floats as well
        raise ValueError("should be a time between 1970 and 9999")
    return float(value)


def iso(at: float | None) -> str | None:
    """A time as ISO 8601 text in UTC, to the second."""
    if at is None:
        return None
    return datetime.fromtimestamp(math.floor(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
