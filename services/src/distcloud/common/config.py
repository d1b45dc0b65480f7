"""Configuration files: YAML, checked against a model when the service starts, with errors a person can act on.

An error names the file, the key and what was expected there. It never repeats the value, which may be a secret.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

Model = TypeVar("Model", bound=BaseModel)


class ConfigError(Exception):
    """A configuration file is invalid; the message has one line per error."""


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
    """One bearer token: its holder, its scope, its groups, and the SHA-256 digest of its text (never the text)."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    scope: str = Field(max_length=64)
    groups: tuple[str, ...] = ()
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class LogSettings(Settings):
    """Level and format of the log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class RequestLimits(Settings):
    """Limits on clients: bytes of a body, requests per second and burst size of one client."""

    body_bytes: int = Field(default=1_048_576, ge=1024, le=104_857_600)
    per_second: float = Field(default=50.0, gt=0)
    burst: int = Field(default=200, ge=1)


@dataclass(frozen=True, slots=True)
class Scope:
    """A token scope that an engine declares: whether tokens of it may be bound to groups (`forbidden`, `optional`, `required`)."""

    name: str
    groups: Literal["forbidden", "optional", "required"] = "forbidden"


class ServiceSettings(Settings):
    """The settings of every service. A service declares the scopes of its tokens in `SCOPES`."""

    SCOPES: ClassVar[tuple[Scope, ...]] = (Scope("viewer"),)

    listen: ListenSettings
    tokens: Annotated[tuple[TokenSettings, ...], Field(max_length=1000)] = ()
    log: LogSettings = LogSettings()
    requests: RequestLimits = RequestLimits()

    @field_validator("tokens", mode="wrap")
    @classmethod
    def _scopes_are_declared(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> tuple[TokenSettings, ...]:
        tokens: tuple[TokenSettings, ...] = handler(value)
        errors = [
            InitErrorDetails(type=PydanticCustomError("scope", "{problem}", {"problem": problem}), loc=(index, key), input=None)
            for index, token in enumerate(tokens)
            for key, problem in _scope_problems(token, cls.SCOPES)
        ]
        if errors:
            raise ValidationError.from_exception_data("tokens", errors)
        return tokens

    @model_validator(mode="after")
    def _tokens_are_distinct(self) -> ServiceSettings:
        for what in ("name", "sha256"):
            values = [getattr(token, what) for token in self.tokens]
            if len(set(values)) != len(values):
                raise ValueError(f"two tokens have the same {what}; every token needs its own")
        return self


class DatabaseSettings(Settings):
    """Where an engine keeps its data: sqlite:////absolute/path or postgresql://user:password@host/name."""

    url: str

    @field_validator("url")
    @classmethod
    def _known_backend(cls, url: str) -> str:
        if not url.startswith(("sqlite:///", "postgresql://")):
            raise ValueError("should begin with sqlite:/// (then an absolute path) or postgresql://")
        return url


class EngineSettings(ServiceSettings):
    """The settings of every engine; an engine sets `ENGINE` and its own `SCOPES`. Durations are in seconds."""

    ENGINE: ClassVar[str]

    database: DatabaseSettings
    state_directory: Path
    encryption_key_file: Path
    cycle_seconds: float = Field(default=5.0, ge=0.1, le=3600, description="time between two cycles of the engine's loop")

    @model_validator(mode="before")
    @classmethod
    def _default_paths(cls, data: Any) -> Any:
        """Defaults that are named after the engine."""
        if not isinstance(data, dict):
            return data
        state = data.get("state_directory", f"/var/lib/distcloud/{cls.ENGINE}")
        defaults = {
            "state_directory": state,
            "database": {"url": f"sqlite:///{state}/{cls.ENGINE}.db"},
            "encryption_key_file": f"/etc/distcloud/{cls.ENGINE}/encryption.key",
        }
        return {**defaults, **data}


def config_path(engine: str) -> Path:
    """The default path of an engine's configuration."""
    return Path(f"/etc/distcloud/{engine}/{engine}.yml")


def _scope_problems(token: TokenSettings, scopes: tuple[Scope, ...]) -> Iterator[tuple[str, str]]:
    """Field and problem of each token setting that the declared scopes do not allow."""
    scope = next((scope for scope in scopes if scope.name == token.scope), None)
    if scope is None:
        yield "scope", f"should be one of {', '.join(scope.name for scope in scopes)}"
    elif scope.groups == "required" and not token.groups:
        yield "groups", f"is required for a token of scope {scope.name}"
    elif scope.groups == "forbidden" and token.groups:
        yield "groups", f"a token of scope {scope.name} is not bound to groups; leave it out"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a socket bound to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class UniqueKeyConstructor(yaml.constructor.SafeConstructor):
    """YAML's safe constructor, except that a key given twice in one mapping is an error instead of a silent override."""

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


class UniqueKeyLoader(UniqueKeyConstructor, yaml.SafeLoader):
    """YAML's safe loader with unique keys."""


def load(path: Path | str, model: type[Model]) -> Model:
    """Read and check a configuration file. Raises ConfigError."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{file}: no such file; create it or name another with --config") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    try:
        data = yaml.load(text, Loader=UniqueKeyLoader)  # noqa: S506  a subclass of SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{file}: not valid YAML: {yaml_problem(error)}") from error
    except Exception as error:  # YAML's constructors raise whatever Python does for a text that a tag or a date does not fit
        raise ConfigError(f"{file}: not valid YAML: a value does not fit its type ({type(error).__name__}); quote text") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{file}: expected a mapping of keys at the top, found {_kind(data)}")
    return check(data, model, str(file))


def check(data: dict[Any, Any], model: type[Model], source: str) -> Model:
    """Validate data against a model; `source` is the prefix of every line of the error."""
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
    """Position and kind of a YAML error in one line, without quoting the text."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return f"{place}{error.problem or error.context or 'cannot be parsed'}"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    return next(iter(str(error).splitlines()), type(error).__name__)


def _kind(data: object) -> str:
    return "nothing" if data is None else "a list" if isinstance(data, list) else "a single value"
