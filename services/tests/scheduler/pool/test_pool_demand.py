"""Conversion of the schedd's grouped rows to demand, and of slot ads to slots."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import classad2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from distcloud.scheduler.domain.model import Resources
from distcloud.scheduler.pool import child
from distcloud.scheduler.pool.demand import (
    DEFAULT_REQUEST,
    UNREADABLE,
    compared_string,
    demand_from_row,
    demand_from_rows,
    referenced_attributes,
)
from distcloud.scheduler.pool.htcondor import HtcondorPool, PoolAddress, slot_of

VM = "vm-aaaaaaaaaaaaaaaa"


@pytest.mark.parametrize(
    ("requirements", "group"),
    [
        ('group_name =?= "atlas"', "atlas"),
        ('(TARGET.Arch == "X86_64") && (group_name is "atlas") && (TARGET.Disk >= RequestDisk)', "atlas"),
        ('((TARGET.group_name == "at\\"las") && Cpus > 0)', 'at"las'),
        ('"atlas" =?= GROUP_NAME', "atlas"),
        ('(group_name=?="a")&&(target_alias=?="b")', "a"),
        ('group_name =?= "a" || true', None),
        ('!(group_name =?= "a")', None),
        ('group_name =!= "a"', None),
        ('my_group_name =?= "a"', None),
        ('Name == "group_name =?= \\"a\\""', None),
        ('x ? group_name =?= "a" : true', None),
        ("true", None),
        ("", None),
        ("((((", None),
    ],
)
def test_group_named_in_requirements(requirements: str, group: str | None) -> None:
    assert compared_string(requirements, "group_name") == group


@given(st.text(max_size=80))
def test_any_requirements_text_is_accepted(text: str) -> None:
    compared_string(text, "group_name")
    referenced_attributes([("alice", text)])


def test_referenced_attributes_are_found_and_limited() -> None:
    text = '(TARGET.Arch == "MY.x y") && (MY.Site == siteWanted) && regexp("a", Project) && ProcId > 3 && 1.5e3 < Foo && a.b'
    assert referenced_attributes([("alice", text)]) == ("Foo", "Project", "Site", "siteWanted")
    assert len(referenced_attributes(("alice", f"A{number}") for number in range(1000))) <= 48
    assert referenced_attributes([("alice", "A && " * 9999)]) == (), "too long: matches nothing anyway"


_JUNK = " && ".join(f"MY.aa{number:02}" for number in range(90))


def test_one_job_cannot_displace_attributes_of_others() -> None:
    needed = "MY.MinMem > 5 && MY.zone == siteName"
    found = referenced_attributes([("mallory", _JUNK), ("bob", needed)])
    assert {"MinMem", "zone", "siteName"} < set(found) and len(found) == 48
    assert {"MinMem", "zone"} < set(referenced_attributes([("pilot", _JUNK), ("pilot", needed)])), "the same between jobs of one owner"
    shared = referenced_attributes([("mallory", f"{_JUNK} && RequestGPUs > 0"), *((f"user{at}", f"X{at} && zone") for at in range(60))])
    assert {"RequestGPUs", "zone"} < set(shared), "HTCondor's own attributes come first, then the most frequent ones"


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.sampled_from([f"n{at}" for at in range(60)]), min_size=1))), st.integers(0, 200)
)
def test_many_texts_cannot_displace_other_owners(named: list[tuple[str, list[str]]], many: int) -> None:
    texts = [(owner, " && ".join(names)) for owner, names in named]
    found = set(referenced_attributes([*texts, *(("mallory", f"MY.a{at}") for at in range(many))]))
    assert len(found) <= 48
    assert all(len(found & {name for whose, names in named if whose == owner for name in names}) > 0 for owner, _ in named)


def row(**more: Any) -> dict[str, Any]:
    return {
        **{"DistcloudGroup": "atlas", "Owner": "alice", "Requirements": "true", "JobStatus": 1, "count": 3},
        **{"RequestCpus": 2, "RequestMemory": 1000, "RequestDisk": 1048576, "JobPrio": 0, "attributes": {}},
        **more,
    }


def test_rows_differing_only_in_status_are_merged() -> None:
    found = demand_from_rows([row(), row(JobStatus=2, count=4), row(JobStatus=6, count=1), row(JobStatus=5, count=9), row(JobStatus=4)])
    (demand,) = found
    assert (demand.group, demand.owner, demand.idle, demand.running) == ("atlas", "alice", 3, 5)
    assert demand.request == Resources(2, 1000, 1.0)


def test_jobs_without_group_skipped_schedd_group_wins() -> None:
    assert demand_from_rows([row(DistcloudGroup=None), row(DistcloudGroup="nogroup"), row(JobStatus=5)]) == []
    named = 'group_name =?= "belle" && target_alias =?= "near"'
    (demand,) = demand_from_rows([row(DistcloudGroup=None, Requirements=named)])
    assert (demand.group, demand.alias) == ("belle", "near")
    (demand,) = demand_from_rows([row(Requirements=named)])
    assert demand.group == "atlas", "requirements are not verified by the schedd"


def test_job_attributes_and_defaults() -> None:
    requested = demand_from_row(
        row(VMInstanceType="big", VMImage="img", VMNetwork="net", VMKeepAlive=60, JobPrio=-5, attributes={"Site": '"x"'})
    )
    assert requested is not None
    assert (requested.flavor, requested.image, requested.network, requested.keep_alive, requested.priority) == ("big", "img", "net", 60, -5)
    assert requested.attributes == {"Site": '"x"'}
    bare = demand_from_row({"DistcloudGroup": "atlas", "RequestCpus": True, "RequestMemory": None, "RequestDisk": -1})
    assert bare is not None and bare.request == DEFAULT_REQUEST and bare.requirements == "true" and bare.keep_alive is None


def test_unknown_schedd_is_not_replaced_by_local_one() -> None:
    client = child.Client.__new__(child.Client)
    client._schedd_name, client._schedd, client._collector = "far.pool.test", None, SimpleNamespace(locate=lambda kind, name: None)
    with pytest.raises(LookupError, match=r"no schedd named far\.pool\.test"):
        client._query("true", [], None)


class _Schedd:
    """Behaves like a grouping schedd: applies the constraint to each job, and again to the grouped ad."""

    def __init__(self, *jobs: str) -> None:
        self.jobs = [classad2.ClassAd(f'[DistcloudGroup = "atlas"; Owner = "alice"; JobStatus = 1; ClusterId = 1; {job}]') for job in jobs]

    def query(self, constraint: str, projection: list[str], opts: Any) -> list[Any]:
        groups: dict[tuple[str, ...], Any] = {}
        for job in filter(self._holds(constraint), self.jobs):
            kind = {name: job.lookup(name) for name in projection if name in job}
            ad = groups.setdefault(tuple(map(str, kind.items())), classad2.ClassAd())
            for name, value in kind.items():
                ad[name] = value
            ad["JobCount"] = ad.eval("JobCount") + 1 if "JobCount" in ad else 1
        return list(filter(self._holds(constraint), groups.values()))

    @staticmethod
    def _holds(constraint: str) -> Any:
        return lambda ad: classad2.ExprTree(constraint).eval(ad) is True


def _client(*jobs: str) -> child.Client:
    client = child.Client("central.pool.test", "near.pool.test")
    client._schedd = _Schedd(*jobs)
    return client


def test_jobs_run_by_submit_node_are_not_demand() -> None:
    universes = ("JobUniverse = 5", "", "JobUniverse = 7", "JobUniverse = 12", "JobUniverse = 9", "JobUniverse = 7; Requirements = MY.Junk")
    (demand,) = demand_from_rows(_client(*universes).demand())
    assert demand.idle == 2, "vanilla universe, or no universe"


def test_attributes_are_learned_from_our_jobs_only() -> None:
    client = _client(
        'Requirements = MY.MinMem > 5; MinMem = 9; DistcloudGroup = "atlas"', 'Requirements = MY.Junk; DistcloudGroup = "nogroup"'
    )
    (demand,) = demand_from_rows(client.demand())
    assert (demand.attributes, client._learned) == ({"MinMem": "9"}, ("MinMem",))


def test_hostile_job_values_are_clamped() -> None:
    nested = "(a && " * 2500 + "b" + ")" * 2500
    assert compared_string(nested + ' && group_name =?= "x"', "group_name") == "x"
    (demand,) = demand_from_rows(
        [row(RequestCpus=float("inf"), RequestMemory=float("nan"), VMKeepAlive=10**30, JobPrio=10**30, VMNetwork="a\0" * 999)]
    )
    assert demand.request.cores == 1 and demand.request.ram_mib == DEFAULT_REQUEST.ram_mib
    assert (demand.keep_alive, demand.priority) == (2_592_000, 2**31 - 1)
    assert demand.network is not None and len(demand.network) == 255 and demand.network.isprintable()
    (long,) = demand_from_rows([row(Requirements="x" * 20_000)])
    assert long.requirements == "error"


def test_unevaluable_job_does_not_hide_others() -> None:
    deep = "+".join(["1"] * 1000)
    client = _client(f'VMImage = substr("é", 0, 1); RequestMemory = {deep}; VMKeepAlive = VMKeepAlive', 'VMImage = "worker"')
    assert sorted(str(demand.image) for demand in demand_from_rows(client.demand())) == ["None", "worker"]


def test_waiting_since_is_that_of_oldest_idle_job() -> None:
    (demand,) = demand_from_rows([row(QDate=500), row(QDate=400, JobStatus=2), row(QDate=450)])
    assert (demand.idle, demand.running, demand.waiting_since) == (6, 3, 450.0)


def ad(**more: Any) -> dict[str, Any]:
    return {
        **{"Machine": f"{VM}.pool.test", "DistcloudVm": VM, "TotalSlotCpus": 4, "TotalSlotMemory": 8000, "TotalSlotDisk": 2097152},
        **{"Cpus": 1, "Memory": 2000, "Disk": 1048576, "NumDynamicSlots": 3, "LastHeardFrom": 123, "Draining": None},
        **{"ChildState": ["Claimed", "Claimed", "Unclaimed"], "ChildRemoteOwner": ["b@d", "a@d", None]},
        **more,
    }


def test_slot_ad_becomes_slot() -> None:
    slot = slot_of(ad(), "pool.test")
    assert slot is not None
    assert (slot.vm_id, slot.machine, slot.claimed_slots, slot.draining, slot.last_heard) == (VM, f"{VM}.pool.test", 2, False, 123.0)
    assert (slot.total, slot.free, slot.owners) == (Resources(4, 8000, 2.0), Resources(1, 2000, 1.0), ("a@d", "b@d"))
    alone = slot_of(ad(ChildRemoteOwner=["a@d", "a@d", None]), "pool.test")
    assert alone is not None and alone.owners == ("a@d", "a@d"), "one entry per claim: the planner counts them"
    draining = slot_of(ad(Draining=True, ChildState=None), "pool.test")
    assert draining is not None and draining.draining and draining.claimed_slots == 3
    odd = slot_of(ad(TotalSlotCpus=float("inf"), Cpus=float("nan"), Disk=float("-inf")), "pool.test")
    assert odd is not None and (odd.total.cores, odd.free.cores, odd.free.disk_gib) == (0, 0, 0), "ads are untrusted input"


@pytest.mark.parametrize(
    "more",
    [
        {"DistcloudVm": "vm-bbbbbbbbbbbbbbbb"},
        {"DistcloudVm": None},
        {"Machine": f"{VM}.elsewhere"},
        {"Machine": "login.pool.test", "DistcloudVm": "login"},
    ],
)
def test_machine_with_wrong_identity_has_no_vm_id(more: dict[str, Any]) -> None:
    slot = slot_of(ad(**more), "pool.test")
    assert slot is not None and slot.vm_id is None
    assert slot_of(ad(Machine=None), "pool.test") is None


@pytest.mark.parametrize(
    "more", [{"LastHeardFrom": "yesterday"}, {"LastHeardFrom": float("nan")}, {"Disk": 10**400, "TotalSlotCpus": 10**400}]
)
def test_absurd_number_of_an_ad_is_zero(more: dict[str, Any]) -> None:
    slot = slot_of(ad(**more), "pool.test")
    assert slot is not None and slot.last_heard >= 0 and slot.free.disk_gib >= 0


def test_slot_that_cannot_be_read_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = HtcondorPool(PoolAddress("c", ("s",), "pool.test", tmp_path))

    async def rows(*_: object) -> list[Any]:
        return ["no ad", ad(), {**ad(), "ChildRemoteOwner": [_Unprintable()]}]

    monkeypatch.setattr(pool, "_ask", rows)
    with capture_logs() as logs:
        for _ in range(3):
            assert len(asyncio.run(pool.slots())) == 1
    assert [entry["event"] for entry in logs] == ["slot_unreadable"] * 2, "each once"


def test_job_that_cannot_be_read_matches_nothing_and_hides_no_other() -> None:
    broken = {**row(), "attributes": 5, "Owner": "mallory"}
    found = {each.owner: each for each in demand_from_rows([broken, row()])}
    assert found["mallory"].requirements == UNREADABLE and found["mallory"].idle and len(found) == 2


class _Unprintable:
    def __str__(self) -> str:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
