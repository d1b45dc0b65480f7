"""Configuration files: YAML, checked against a model when the service starts, with errors a person can act on.

An error names the file, the key and what was expected there. It never repeats the value, which may be a secret.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Model = TypeVar("Model", bound=BaseModel)


class ConfigError(Exception):
    """A configuration file cannot be used; the message has a line for each thing that is wrong."""


class Settings(BaseModel):
    """Base of all configuration models: unknown keys are errors, nothing changes after the start."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ListenSettings(Settings):
    """Where a service listens: TLS (1.2 or later) anywhere, plain HTTP on loopback alone."""

    host: str = "127.0.0.1"
    port: int = Field(ge=1, le=65535)
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    @model_validator(mode="after")
    def _tls_or_loopback(self) -> ListenSettings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("give tls_certificate and tls_key together, or neither")
        if self.tls_certificate is None and not is_loopback(self.host):
            raise ValueError("listening beyond loopback needs tls_certificate and tls_key (or host 127.0.0.1)")
        return self


class TokenSettings(Settings):
    """One bearer token: who holds it, what it may do, and the SHA-256 digest of its text (never the text)."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    scope: Literal["viewer", "group_admin", "cloud_admin"]
    groups: tuple[str, ...] = ()
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _groups_belong_to_group_admins(self) -> TokenSettings:
        if self.scope == "group_admin" and not self.groups:
            raise ValueError("a token of scope group_admin names its groups")
        if self.scope == "cloud_admin" and self.groups:
            raise ValueError("a token of scope cloud_admin is not bound to groups; leave groups out")
        return self


class LogSettings(Settings):
    """How much is logged and in which form."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class RequestLimits(Settings):
    """Bounds on what clients may send: bytes of a body, requests per second of one client (and how many in a burst)."""

    body_bytes: int = Field(default=1_048_576, ge=1024, le=104_857_600)
    per_second: float = Field(default=50.0, gt=0)
    burst: int = Field(default=200, ge=1)


class ServiceSettings(Settings):
    """What the configuration of every service has."""

    listen: ListenSettings
    tokens: Annotated[tuple[TokenSettings, ...], Field(max_length=1000)] = ()
    log: LogSettings = LogSettings()
    requests: RequestLimits = RequestLimits()

    @model_validator(mode="after")
    def _tokens_are_distinct(self) -> ServiceSettings:
        for what in ("name", "sha256"):
            values = [getattr(token, what) for token in self.tokens]
            if len(set(values)) != len(values):
                raise ValueError(f"two tokens have the same {what}; every token needs its own")
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a socket bound to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, except that a key given twice in one mapping is an error instead of a silent override."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
                seen.add(key)
        return super().construct_mapping(node, deep)


def load(path: Path | str, model: type[Model]) -> Model:
    """Read and check a configuration file. Raises ConfigError."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{file}: there is no such file; write one or name another with --config") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    try:
        data = yaml.load(text, Loader=UniqueKeyLoader)  # noqa: S506  a subclass of SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{file}: is not valid YAML: {yaml_problem(error)}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{file}: expected a mapping of keys at the top, found {_kind(data)}")
    return check(data, model, str(file))


def check(data: dict[Any, Any], model: type[Model], source: str) -> Model:
    """Check data against a model; `source` stands in front of every line of the error."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{source}: {field}: {message}" for field, message in problems(error))) from error


def problems(error: ValidationError) -> list[tuple[str, str]]:
    """Field and expectation of each thing pydantic found wrong, without the offending values."""
    return [(dotted(item["loc"]), expectation(item)) for item in error.errors(include_url=False, include_input=False)]


def dotted(location: tuple[str | int, ...]) -> str:
    """("tokens", 0, "name") as tokens[0].name; the whole document as (top)."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path or "(top)"


def expectation(item: Any) -> str:
    """What was expected, in words for the person who wrote the value."""
    match item["type"]:
        case "missing":
            return "is required and missing"
        case "extra_forbidden":
            return "is not a known key; check its spelling"
        case "value_error":
            return str(item["ctx"]["error"])
        case _:
            message = str(item["msg"])
            return message.replace("Input should", "should", 1) if message.startswith("Input should") else message


def yaml_problem(error: Exception) -> str:
    """Place and nature of a YAML error in one line, without quoting the text."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return f"{place}{error.problem or error.context or 'cannot be parsed'}"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    return str(error).splitlines()[0]


def _kind(data: object) -> str:
    return "nothing" if data is None else "a list" if isinstance(data, list) else "a single value"
