"""Field types of requests, and validators."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from distcloud.common.http.schemas import Count, Moment, Name, Request, Response, Secret, ShortText, Timestamp
from distcloud.common.validators import certificates


class Demo(Request):
    name: Name | None = None
    note: ShortText | None = None
    secret: Secret | None = None
    count: Count | None = None
    until: Moment = None


class Shown(Response):
    name: str = ""
    at: Timestamp | None = None


def test_explicit_fields_keep_null() -> None:
    assert Demo.model_validate({"note": None, "count": 3}).explicit_fields() == {"note": None, "count": 3}
    assert Demo.model_validate({"until": "1970-01-01T00:00:07Z"}).explicit_fields() == {"until": 7.0}


@pytest.mark.parametrize(
    "body",
    [{"nam": "x"}, {"name": "-x"}, {"note": ""}, {"note": "a\x00"}, {"count": "3"}, {"count": -1}, {"count": 10**10}, {"until": True}],
)
def test_malformed_fields_are_rejected(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Demo.model_validate(body)


def test_validation_error_hides_the_secret() -> None:
    with pytest.raises(ValidationError) as caught:
        Demo.model_validate({"secret": "unmistakable" * 1000})
    assert "unmistakable" not in str(caught.value)


def test_all_response_fields_are_required_in_the_schema() -> None:
    assert Shown.model_json_schema(mode="serialization")["required"] == ["name", "at"]


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n", "\u00e9"])
def test_texts_without_certificates_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"PEM certificates|private key"):
        certificates(text)
