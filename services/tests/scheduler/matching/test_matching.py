"""Matching by HTCondor's bindings: the synthetic slot ad against a recorded one, jobs against workers, explanations of failures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distcloud.scheduler.domain.model import Demand, Flavor, Resources
from distcloud.scheduler.matching.bindings import load
from distcloud.scheduler.matching.conjunction import split_conjunction
from distcloud.scheduler.matching.matcher import Matcher
from distcloud.scheduler.worker.configuration import SettingsError, WorkerSettings
from distcloud.scheduler.worker.synthetic import IMAGE_CONSTANTS, expand, parse, slot_ad

from ..support.strategies import SUBMIT, cloud

MATCHER = Matcher()
HOME = cloud("region-b", attributes={"Site": 'Vic "west" $(HOME) \\'})
W512 = Flavor("w512", Resources(1, 512, 2.0))
# Settings of the worker whose ad was recorded (HTCondor 23.9.6, Debian 13).
RECORDED = WorkerSettings(
    host="vm-core",
    domain="distcloud.lab",
    condor_host="central.distcloud.lab",
    group="atlas",
    cloud="region-a",
    region="region-a",
    flavor="w512",
    image="worker",
    alias="west",
    cores=2,
    memory_mib=448,
    attributes={"Site": 'a "q" $(X) \\'},
)


def job(requirements: str = SUBMIT, **changes: object) -> Demand:
    return replace(Demand("atlas", "alice", requirements, Resources(1, 100, 0.01), 1), **changes)  # type: ignore[arg-type]


def recorded_ad() -> dict[str, str]:
    lines = (Path(__file__).parent / "recorded_slot_ad.txt").read_text().splitlines()
    return dict(line.split(" = ", 1) for line in lines)


def test_synthetic_ad_equals_recorded_ad() -> None:
    real = {name.lower(): text for name, text in recorded_ad().items()}
    bindings = load()
    # Not part of the configuration: disk size, version date, memory of the host.
    ignored = {
        "disk",
        "totaldisk",
        "totalslotdisk",
        "condorversion",
        "detectedmemory",
        "detecteddisk",
        "condorplatform",
        "withinresourcelimits",
    }
    ignored |= {"keyboardidle", "consoleidle", "loadavg", "totalloadavg", "numdynamicslots"}
    for name, text in slot_ad(RECORDED, Resources(2, 448, 1.0)).items():
        if name.lower() in ignored:
            continue
        ours, theirs = bindings.ExprTree(text), bindings.ExprTree(real[name.lower()])
        assert str(ours) == str(theirs) or ours.eval() == theirs.eval(), name


def test_synthetic_and_recorded_ad_match_the_same_jobs() -> None:
    bindings = load()

    def parsed(ad: dict[str, str]) -> Any:
        found = bindings.ClassAd()
        for name, text in ad.items():
            found[name] = bindings.ExprTree(text)
        return found

    real = parsed(recorded_ad())
    place = cloud("region-a", region="region-a", attributes=RECORDED.attributes)
    two = Flavor("w512", Resources(2, 512, 2.0))
    wanted = [
        job(),
        job(group="belle"),
        job('target_alias =?= "west" && group_name =?= "atlas"'),
        job('target_alias =?= "east"'),
        job("TARGET.Memory >= 449"),
        job(image="worker"),
        job(image="other"),
        job(image="region-a:other, region-b:worker"),
        job(image="region-b:other"),
        job(flavor="w512"),
        job(flavor="region-a:w1024"),
        job(request=Resources(3, 100, 0.01)),
        job(attributes={"RequestGPUs": "1"}),
    ]
    worker = MATCHER.worker(place, two, "west", "worker", Resources(2, 448, 1.0))
    answers = [MATCHER.matches(MATCHER.job(each), worker) for each in wanted]
    assert answers == [bool(parsed(json.loads(MATCHER.job(each).ad)).symmetricMatch(real)) for each in wanted]
    assert answers == [True, False, True, False, False, True, False, False, True, True, False, False, False]


@pytest.mark.parametrize(
    ("requirements", "detail"),
    [
        ("TARGET.Memory >= 4096", "region-b/w512: TARGET.Memory >= 4096 is false: the worker has 448 MiB"),
        (f"{SUBMIT} && (TARGET.Cpus >= 2)", "region-b/w512: TARGET.Cpus >= 2 is false: the worker has 1 core"),
        ("TARGET.Disk > 5000000", "region-b/w512: TARGET.Disk > 5000000 is false: the worker has 1 GiB of disk"),
        ('group_name =?= "belle"', 'region-b/w512: group_name =?= "belle" is false: the worker has group_name = "atlas"'),
        ('target_alias =?= "x"', 'region-b/w512: target_alias =?= "x" is false: the worker does not define target_alias'),
        ("HasSpecial && Memory > 100", "region-b/w512: HasSpecial is undefined: the worker does not define HasSpecial"),
        ("Cpus/0 > 1", "region-b/w512: Cpus/0 > 1 is error: the worker has 1 core"),
        ("((", "the job's Requirements is not a valid ClassAd expression: (("),
        ("true false", "the job's Requirements is not a valid ClassAd expression: true false"),
    ],
)
def test_failing_clause_is_named_with_worker_value(requirements: str, detail: str) -> None:
    match = MATCHER.match(job(requirements), HOME, W512)
    assert not match.ok
    assert match.detail == detail


def test_job_value_of_failing_clause_is_shown() -> None:
    match = MATCHER.match(job("TARGET.Memory >= RequestMemory * 5"), HOME, W512)
    assert match.detail.endswith("the worker has 448 MiB, RequestMemory is 100")


@pytest.mark.parametrize(
    "requirements",
    [
        "",
        "true",
        "1",
        'stringListMember(cloud_name, "region-a,region-b")',
        "Memory > 400",
        'OpSysAndVer == "debian13"',
        "isUndefined(Nothing)",
    ],
)
def test_common_requirements_match_as_in_the_pool(requirements: str) -> None:
    assert MATCHER.match(job(requirements), HOME, W512).ok


def test_cloud_and_job_attributes_are_used() -> None:
    assert MATCHER.match(job('Site == "Vic \\"west\\" $(HOME) \\\\"'), HOME, W512).ok
    assert MATCHER.match(job("TARGET.Memory > MyNeed", attributes={"MyNeed": "400"}), HOME, W512).ok
    assert not MATCHER.match(job("TARGET.Memory > MyNeed", attributes={"MyNeed": "500"}), HOME, W512).ok


def test_malformed_attribute_is_reported() -> None:
    assert "MyNeed is not a valid ClassAd expression" in MATCHER.match(job(attributes={"MyNeed": "(("}), HOME, W512).detail
    bad = replace(HOME, attributes={"START": "true"})
    assert "cannot be configured" in MATCHER.match(job(), bad, W512).detail


def test_answers_are_cached_unless_time_dependent() -> None:
    matcher = Matcher()
    worker = matcher.worker(HOME, W512)
    for _ in range(5):
        assert matcher.matches(matcher.job(job(), 1.0), worker)
    assert matcher.evaluations == 1
    waiting = job("time() > 5")
    assert matcher.matches(matcher.job(waiting, 1.0), worker)
    assert matcher.matches(matcher.job(waiting, 1.0), worker)
    assert matcher.evaluations == 2
    assert matcher.matches(matcher.job(waiting, 2.0), worker)
    assert matcher.evaluations == 3
    matcher.forget()
    assert matcher.matches(matcher.job(job(), 3.0), matcher.worker(HOME, W512))
    assert matcher.evaluations == 4


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("a && (b || c) && (d && e)", ["a", "b || c", "d", "e"]),
        ("((a||b))", ["a||b"]),
        ("(a)&&(b)", ["a", "b"]),
        ('x == "&& (" && y', ['x == "&& ("', "y"]),
        ("a ? b : c && d", ["a ? b : c && d"]),
        ("(a && b) || c", ["(a && b) || c"]),
        ("f(a && b) && {1, 2}[0] == 1", ["f(a && b)", "{1, 2}[0] == 1"]),
        ("x =?= 'a&&b' && [y = 1 && 2].y", ["x =?= 'a&&b'", "[y = 1 && 2].y"]),
        ('  a  &&\n b == "two  spaces" ', ["a", 'b == "two  spaces"']),
        ("", [""]),
    ],
)
def test_conjunction_is_split_at_top_level_only(text: str, clauses: list[str]) -> None:
    assert split_conjunction(text) == clauses


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_requirements_text_gets_an_answer(text: str) -> None:
    match = MATCHER.match(job(text), HOME, W512)
    assert match.ok or match.detail


@pytest.mark.parametrize(
    ("requirements", "attributes"),
    [
        ("MyNeed > 0", {"MyNeed": "MyNeed + 1"}),
        ("MyNeed > 0", {"MyNeed": "Other", "Other": "MyNeed"}),
        ("MY.Requirements", {}),
        (" && ".join(["TARGET.Memory > 1"] * 800), {}),
        (" || ".join(["TARGET.Memory < 1"] * 800), {}),
        ("MyNeed", {"MyNeed": 'substr("é", 0, 1)'}),
    ],
    ids=["itself", "each other", "requirements", "and", "or", "half a character"],
)
def test_requirements_rejected_by_bindings_get_an_answer(requirements: str, attributes: dict[str, str]) -> None:
    """Any user may write such requirements, and HTCondor versions differ in which ones they reject."""
    match = MATCHER.match(job(requirements, attributes=attributes), HOME, W512)
    assert match.ok or match.detail


def test_configuration_is_parsed_like_htcondor() -> None:
    text = "A = 1\na = $(A) two \\\n  three\n# B = no\nuse role:Execute\n  C.x=$(A)$(NONE)$(DOLLAR)(A)\n"
    macros = parse(text)
    assert expand("$(A)", macros).split() == ["1", "two", "three"]
    assert expand("$(C.X)", macros).endswith("three$(A)")


def test_expansion_of_hostile_values_is_bounded() -> None:
    assert expand("$(DOLLAR)" * 5000 + "$(DOLLAR)(DOLLAR)", {}) == "$" * 5000 + "$(DOLLAR)"
    assert Matcher().match(job(), replace(HOME, attributes={"site": "$" * 1024}), W512).ok
    with pytest.raises(SettingsError, match="refer to each other"):
        expand("$(A)", {"a": "$(B)", "b": "$(A)$(A)"})


def test_image_constants_are_valid_expressions() -> None:
    for text in IMAGE_CONSTANTS.values():
        load().ExprTree(text)
