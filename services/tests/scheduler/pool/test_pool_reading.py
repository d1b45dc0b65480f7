"""Hostile ads, read with HTCondor's own bindings: endless evaluations and crashes of the library."""

from __future__ import annotations

import faulthandler
import os
import signal
from typing import Any

import pytest

from distcloud.scheduler.matching.bindings import load
from distcloud.scheduler.pool import demand as grouping
from distcloud.scheduler.pool.reading import Reader, Row, evaluate_attribute, read_literal

NAMES = ("Owner", "RequestCpus", "JobStatus")


def ad(**expressions: str) -> Any:
    found = load().ClassAd()
    for name, expression in expressions.items():
        found[name] = load().ExprTree(expression)
    return found


def honest(owner: str = "alice", cpus: str = "1 + 1") -> Any:
    return ad(Owner=f'"{owner}"', RequestCpus=cpus, JobStatus="1")


def endless(owner: str = "mallory") -> Any:
    chain = {f"A{n}": f"A{n - 1} + A{n - 1}" for n in range(1, 60)}
    return ad(Owner=f'"{owner}"', RequestCpus="A59", A0="1", JobStatus="1", **chain)


def crash(found: Any) -> Row:
    """Simulates a crash of the library: which expressions crash it differs between versions."""
    if read_literal(found, "Owner") == "mallory":
        faulthandler.disable()
        os.kill(os.getpid(), signal.SIGSEGV)
    return values(found)


def values(found: Any) -> Row:
    return {name: evaluate_attribute(found, name) for name in NAMES}


def texts(found: Any) -> Row:
    return {name: read_literal(found, name) for name in NAMES}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 1", 2),
        ('strcat("a", "b")', "ab"),
        ("Other", None),
        ("1 / 0", None),
        ("X", None),
        ('{1, Other, "b", {2}}', [1, None, "b", None]),
    ],
)
def test_undefined_and_error_become_none(expression: str, value: object) -> None:
    assert evaluate_attribute(ad(X=expression), "X") == value and evaluate_attribute(ad(X=expression), "Y") is None


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ('"a \\"b\\" c\\\\d"', 'a "b" c\\d'),
        ('"two\\nlines"', "two\nlines"),
        ("17", 17),
        ("-17", -17),
        ("2.5", 2.5),
        ("true", True),
        ("FALSE", False),
        ("1 + 1", None),
        ("undefined", None),
        ("{1, 2}", None),
        ('"a" + "b"', None),
        ("Other", None),
    ],
)
def test_literals_are_read_without_evaluation(expression: str, value: object) -> None:
    found = read_literal(ad(X=expression), "X")
    assert found == value and type(found) is type(value)
    assert read_literal(ad(X=expression), "Y") is None


def test_endless_ad_affects_only_itself() -> None:
    reader = Reader()
    ads = [honest(), endless(), honest("bob"), honest("carol", "MemoryUsage + 1")]
    assert reader.read(ads, values, texts, "Owner") == [
        {"Owner": "alice", "RequestCpus": 2, "JobStatus": 1},
        {"Owner": "mallory", "RequestCpus": None, "JobStatus": 1},
        {"Owner": "bob", "RequestCpus": 2, "JobStatus": 1},
        {"Owner": "carol", "RequestCpus": None, "JobStatus": 1},
    ]
    assert reader.read([], values, texts, "Owner") == []


def test_owner_of_fatal_ads_is_read_without_evaluation() -> None:
    now = [1000.0]
    reader = Reader(monotonic=lambda: now[0], jitter_sample=lambda: 0.5)
    ads = [ad(Owner='"mallory"', RequestCpus="2", JobStatus="1") for _ in range(50)] + [honest()]
    forks = [0]
    fork = os.fork

    def counted() -> int:
        forks[0] += 1
        return fork()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fork", counted)
        rows = reader.read(ads, crash, texts, "Owner")
        assert rows == [{"Owner": "mallory", "RequestCpus": 2, "JobStatus": 1}] * 50 + [
            {"Owner": "alice", "RequestCpus": 2, "JobStatus": 1}
        ]
        assert forks[0] == 4, "three that died, and one for the other ads"
        reader.read(ads, crash, texts, "Owner")
        assert forks[0] == 5
        now[0] += 61
        reader.read(ads, crash, texts, "Owner")
        assert forks[0] == 7, "retried once, without success"
        now[0] += 61
        reader.read(ads, crash, texts, "Owner")
        assert forks[0] == 8, "backs off for twice as long"
        now[0] += 61
        assert reader.read(ads, values, texts, "Owner")[0]["RequestCpus"] == 2
        reader.read(ads, crash, texts, "Owner")
        assert forks[0] == 9 + 4, "after a success three attempts again"


def test_rows_are_limited_per_owner() -> None:
    def row(owner: str, number: int, length: int) -> Row:
        return {"Owner": owner, "Requirements": "x" * length, "attributes": {"A": "y" * 10}, "QDate": number, "JobStatus": 1}

    many = [row("mallory", number, 10) for number in reversed(range(6000))]
    long = [row("eve", number, 16000) for number in range(400)]
    kept = grouping.limit_per_owner([*many, *long, row("alice", 5, 100)])
    of = {owner: [each for each in kept if each["Owner"] == owner] for owner in ("mallory", "eve", "alice")}
    assert [each["QDate"] for each in of["mallory"]] == list(range(5000)), "the oldest"
    whole = [each for each in of["eve"] if each["Requirements"] != grouping.UNREADABLE]
    assert len(of["eve"]) == 400 and whole == of["eve"][: len(whole)] and 200 < len(whole) < 300
    assert of["eve"][-1]["attributes"] == {}
    assert of["alice"] == [row("alice", 5, 100)]
    assert grouping.limit_length("x" * 16384) == "x" * 16384 and grouping.limit_length("x" * 16385) == grouping.UNREADABLE


@pytest.mark.parametrize("text", ["9" * 5000, UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")])
def test_unreadable_literal_is_missing(text: str | Exception) -> None:
    class Ad(dict[str, Any]):
        def lookup(self, name: str) -> str:
            if isinstance(text, Exception):
                raise text
            return text

    assert read_literal(Ad(RequestCpus=None), "RequestCpus") is None
