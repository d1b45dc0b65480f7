"""The schema of collected facts, as far as `summary.build` relies on it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class CollectedError(ValueError):
    """The collected facts are malformed; the message names the field."""


class _Facts(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Image(_Facts):
    name: str
    sha512: Any
    size: Annotated[int | None, Field(strict=False)] = None


class _Region(_Facts):
    name: str
    auth_url: str | None = None
    error: str | None = None
    images: list[_Image] | None = None


class _Answer(_Facts):
    name: str
    rc: int | None = None
    host: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    msg: str | None = None


class _EngineAnswer(_Answer):
    engine: str
    url: str | None = None


class _Collected(_Facts):
    site: str
    made_at: Annotated[float, Field(allow_inf_nan=False)]
    regions: list[_Region] | None = None
    answers: list[_Answer] | None = None
    engines: list[_EngineAnswer] | None = None
    pool: dict[str, Any] | None = None
    addresses: list[dict[str, Any]] | None = None


def check(raw: object) -> None:
    """Raises CollectedError."""
    try:
        _Collected.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "(top)"
        what = "required and missing" if first["type"] == "missing" else first["msg"]
        raise CollectedError(f"collected facts: field {where}: {what}") from error
