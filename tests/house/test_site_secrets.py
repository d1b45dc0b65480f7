"""The search for secrets in outputs finds them in each form in which a program writes them."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from site_secrets import shown

SECRET = 'pass/w"ord+of the ßite 42'
KEPT = {SECRET: "secrets/one"}


@pytest.mark.parametrize("around", ["", "u", "us", "user:"])
@pytest.mark.parametrize("after", ["", "x", "xy"])
def test_secret_within_base64_is_found(around: str, after: str) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert shown(encode(f"{around}{SECRET}{after}".encode()).decode(), KEPT) == ["secrets/one"]


@pytest.mark.parametrize("output", [SECRET, json.dumps({"a": SECRET}), f"https://user:{quote(SECRET, safe='')}@host/"])
def test_plain_and_quoted_secret_is_found(output: str) -> None:
    assert shown(f"changed: [central] => {output}", KEPT) == ["secrets/one"]


def test_other_text_is_not_found() -> None:
    assert shown("pass word of the site 42 " + base64.b64encode(b"pass of another site 42").decode(), KEPT) == []
