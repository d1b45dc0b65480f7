"""Base classes and field types of API requests and responses."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from ..times import parse_timestamp
from ..validators import plain_text

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
MAX_NUMBER = 1_000_000_000

Text = Annotated[str, AfterValidator(plain_text)]
ShortText = Annotated[Text, StringConstraints(min_length=1, max_length=255)]
Name = Annotated[str, StringConstraints(pattern=NAME)]
Secret = Annotated[Text, StringConstraints(min_length=1, max_length=4096)]
Count = Annotated[int, Field(ge=0, le=MAX_NUMBER)]
Moment = Annotated[float | None, BeforeValidator(parse_timestamp, json_schema_input_type=str | float | None)]
"""A time in a request: ISO 8601 text or seconds since the epoch."""
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""A time in a response: ISO 8601 text in UTC (`times.timestamp`)."""


class Request(BaseModel):
    """Base of all request bodies: exact types, no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    def explicit_fields(self) -> dict[str, Any]:
        """Only the fields that were given; a null stays a null."""
        return self.model_dump(exclude_unset=True)


class Response(BaseModel):
    """Base of all responses. Every field is always present, so defaults are part of the schema's required fields."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)
