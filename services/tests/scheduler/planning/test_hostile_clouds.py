"""A cloud that lies about its project and quota removes no worker of another account."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from distcloud.scheduler.domain.model import Boot, Cloud, Delete, Limits, Plan, Reason, Retire, Usage, Vm, VmState

from ..support.planning import boots, make_plan
from ..support.strategies import cloud, demand, group, slot, vm

GROUPS = [group("atlas"), group("belle")]
PROJECT = {"region": "r", "project": "p"}
VICTIM = cloud("a", "atlas", keystone="https://keystone:5000", **PROJECT)
QUOTAS = st.builds(Limits, *[st.none() | st.integers(0, 4)] * 3)
USAGES = st.builds(Usage, *[st.integers(0, 100)] * 3)


def removed(answer: Plan, vms: list[Vm]) -> dict[str, Reason]:
    ids = {each.id for each in vms}
    return {action.vm_id: action.reason for action in answer.actions if not isinstance(action, Boot) and action.vm_id in ids}


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Cloud, list[Vm]]:
    """The victim with its own quota and workers."""
    home = replace(VICTIM, quota=draw(QUOTAS), limits=draw(QUOTAS), foreign=draw(USAGES), reachable=draw(st.booleans()))
    states = st.sampled_from((VmState.STARTING, VmState.IDLE, VmState.RUNNING))
    return home, [vm(number, draw(states)) for number in range(draw(st.integers(0, 4)))]


@st.composite
def liars(draw: st.DrawFn, keystones: st.SearchStrategy[str]) -> list[Cloud]:
    """Clouds of another group that claim the region and the project of the victim."""
    return [
        cloud(
            f"liar{number}",
            draw(st.sampled_from(("atlas", "belle"))),
            keystone=draw(keystones),
            quota=draw(QUOTAS),
            limits=draw(QUOTAS),
            soft_limits=draw(QUOTAS),
            foreign=draw(USAGES),
            reachable=draw(st.booleans()),
            **PROJECT,
        )
        for number in range(draw(st.integers(1, 2)))
    ]


@given(worlds(), liars(st.sampled_from(["https://evil:5000", "http://keystone:5000", ""])))
def test_cloud_of_another_keystone_changes_nothing(world: tuple[Cloud, list[Vm]], hostile: list[Cloud]) -> None:
    home, vms = world
    wanted, slots = [demand(9)], [slot(each) for each in vms if each.state is not VmState.STARTING]
    alone = make_plan(wanted, vms, slots, [home], GROUPS)
    beside = make_plan(wanted, vms, slots, [home, *hostile], GROUPS)
    assert removed(alone, vms) == removed(beside, vms)
    elsewhere = {each.name for each in hostile if each.group == "atlas"}
    if not elsewhere:
        assert boots(alone) == [boot for boot in boots(beside) if boot.group == "atlas"]


@given(worlds(), liars(st.just(VICTIM.keystone)))
def test_quota_of_another_account_removes_nothing(world: tuple[Cloud, list[Vm]], hostile: list[Cloud]) -> None:
    home, vms = world
    slots = [slot(each) for each in vms if each.state is not VmState.STARTING]
    alone, beside = (make_plan([], vms, slots, clouds, GROUPS) for clouds in ([home], [home, *hostile]))
    assert removed(alone, vms) == removed(beside, vms)


def test_quota_of_another_account_prevents_boots() -> None:
    full = cloud("b", "belle", keystone=VICTIM.keystone, quota=Limits(vms=0), **PROJECT)
    assert boots(make_plan([demand()], clouds=[VICTIM], groups=GROUPS))
    assert not boots(make_plan([demand()], clouds=[VICTIM, full], groups=GROUPS))
    elsewhere = replace(full, keystone="https://evil:5000")
    assert boots(make_plan([demand()], clouds=[VICTIM, elsewhere], groups=GROUPS))


def test_common_quota_removes_least_useful_of_all_accounts() -> None:
    quota = Limits(vms=1)
    clouds = [replace(VICTIM, quota=quota), cloud("b", "belle", keystone=VICTIM.keystone, quota=quota, **PROJECT)]
    busy, rest = vm(1, VmState.RUNNING), vm(2, VmState.IDLE, group="belle", cloud="b")
    answer = make_plan([demand(0, running=1)], [busy, rest], [slot(busy, owners=("alice",)), slot(rest)], clouds, GROUPS)
    assert removed(answer, [busy, rest]) == {rest.id: Reason.OVER_LIMIT}


@given(st.lists(st.tuples(st.booleans(), st.sampled_from((VmState.STARTING, VmState.IDLE, VmState.RUNNING))), max_size=6), QUOTAS, QUOTAS)
def test_removals_bring_usage_down_to_own_quota(workers: list[tuple[bool, VmState]], first: Limits, second: Limits) -> None:
    clouds = [replace(VICTIM, quota=first), cloud("b", "belle", keystone=VICTIM.keystone, quota=second, **PROJECT)]
    homes = (("atlas", "a"), ("belle", "b"))
    vms = [vm(number, state, group=homes[at][0], cloud=homes[at][1]) for number, (at, state) in enumerate(workers)]
    slots = [slot(each) for each in vms if each.state is not VmState.STARTING]
    answer = make_plan([], vms, slots, clouds, GROUPS)
    assert all(isinstance(action, Retire | Delete) for action in answer.actions)
    gone = removed(answer, vms)
    left = [each for each in vms if each.id not in gone]
    for (name, _), quota in zip(homes, (first, second), strict=True):
        mine = [each for each in left if each.group == name]
        if mine and quota.vms is not None:
            assert len(left) <= quota.vms
        if not any(each is not None and each < used for each, used in _against(quota, vms)):
            assert not any(each.group == name for each in vms if each.id in gone)


def _against(quota: Limits, vms: list[Vm]) -> list[tuple[int | None, int]]:
    cores, ram = sum(each.resources.cores for each in vms), sum(each.resources.ram_mib for each in vms)
    return [(quota.vms, len(vms)), (quota.cores, cores), (quota.ram_mib, ram)]
