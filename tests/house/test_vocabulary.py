"""Private words and phrases stay out of code, messages and documentation; the list is vocabulary.yml."""

from __future__ import annotations

from pathlib import Path

import pytest
import vocabulary
import yaml


@pytest.mark.parametrize(
    ("text", "banned"),
    [
        ("class CloudWish:", True),
        ("read_wishes()", True),
        ("if value is None:", False),
        ("a cursor that is none", True),
        ("there is no worker", False),
        ("it is no longer used", False),
        ("the layout of a layer", False),
        ("this is the case", False),
    ],
)
def test_patterns_find_words_in_identifiers(text: str, banned: bool) -> None:
    rules = vocabulary.rules(yaml.safe_load(vocabulary.LIST.read_text("utf-8"))["phrases"])
    assert any(rule.pattern.search(vocabulary.words(text)) for rule in rules) is banned


def test_allowed_words_have_a_reason_and_a_file() -> None:
    for entry in yaml.safe_load(vocabulary.LIST.read_text("utf-8"))["allowed"]:
        assert entry["reason"]
        assert any(Path(vocabulary.ROOT).glob(entry["path"])), f"{entry['path']} is allowed but does not exist"


def test_texts_of_others_are_left_out() -> None:
    assert vocabulary.findings(["LICENSE", "docs/site_page.png", "requirements/control.txt"]) == []


def test_no_banned_word_is_used() -> None:
    found = vocabulary.findings()
    assert not found, f"{len(found)} banned words:\n" + "\n".join(map(str, found[:40]))
