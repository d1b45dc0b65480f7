"""Which workers are removed, and why."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distcloud.scheduler.domain.model import Boot, Delete, Limits, Policy, PoolCoverage, Reason, Resources, Retire, VmState
from distcloud.scheduler.worker.configuration import WorkerSettings

from ..support.planning import make_plan, only
from ..support.strategies import FLAVORS, NOW, cloud, demand, group, slot, vm

S = VmState


def test_idle_past_keep_alive_is_retired() -> None:
    rest = vm(idle_since=NOW - 301)
    assert only(make_plan([], [rest], [slot(rest)])).reason is Reason.NO_DEMAND
    fresh = vm(idle_since=NOW - 299)
    assert make_plan([], [fresh], [slot(fresh)]).actions == ()


def test_keep_alive_of_group_and_vm_respects_minimum() -> None:
    rest = vm(idle_since=NOW - 130)
    assert isinstance(only(make_plan([], [rest], [slot(rest)], groups=[group(keep_alive=0)])), Retire)
    short = replace(rest, idle_since=NOW - 110)
    assert make_plan([], [short], [slot(short)], groups=[group(keep_alive=0)]).actions == ()
    long = replace(rest, keep_alive=9999)
    assert make_plan([], [long], [slot(long)], groups=[group(keep_alive=0)]).actions == ()


def test_idle_worker_matching_waiting_jobs_stays_longer() -> None:
    rest = vm(idle_since=NOW - 1000)
    assert make_plan([demand()], [rest], [slot(rest)]).actions == ()
    stuck = vm(idle_since=NOW - 1900, ever_used=False)
    assert only(make_plan([demand()], [stuck], [slot(stuck)])).reason is Reason.NEVER_USED


def test_busy_workers_are_packed_before_idle_ones() -> None:
    busy = vm(1, S.RUNNING, flavor="medium", resources=FLAVORS[1].resources)
    rest = vm(2, idle_since=NOW - 1000)
    used = slot(busy, Resources(1, 100, 1.0), ("alice",))
    assert only(make_plan([demand(1, running=1)], [busy, rest], [used, slot(rest)])).vm_id == rest.id


@pytest.mark.parametrize(
    ("changes", "shown", "expected"),
    [
        ({"state": S.ERROR, "changed_at": NOW - 61, "reason": "No valid host"}, False, (Delete, Reason.BUILD_FAILED)),
        ({"state": S.ERROR, "changed_at": NOW - 59, "reason": "No valid host"}, False, None),
        ({"state": S.ERROR, "changed_at": NOW - 301, "registered_at": NOW - 900}, True, (Delete, Reason.ERROR_TIMEOUT)),
        ({"state": S.ERROR, "changed_at": NOW - 299, "registered_at": NOW - 900}, False, None),
        ({"state": S.STARTING, "requested_at": NOW - 1810, "changed_at": NOW - 1801}, False, (Delete, Reason.BUILD_FAILED)),
        ({"state": S.STARTING, "requested_at": NOW - 1810, "changed_at": NOW - 1799}, False, None),
        ({"state": S.STARTING, "requested_at": NOW - 7201}, False, (Delete, Reason.NEVER_REGISTERED)),
        ({"state": S.UNREGISTERED, "changed_at": NOW - 7201, "requested_at": NOW - 7300}, False, (Delete, Reason.NEVER_REGISTERED)),
        ({"state": S.UNREGISTERED, "changed_at": NOW - 7100, "requested_at": NOW - 7300}, False, None),
        ({"state": S.RUNNING, "last_seen_in_pool": NOW - 901}, False, (Delete, Reason.SILENT)),
        ({"state": S.RUNNING, "last_seen_in_pool": NOW - 899}, False, None),
        ({"state": S.RUNNING, "requested_at": NOW - 604801}, True, (Retire, Reason.TOKEN_EXPIRING)),
        ({"state": S.RUNNING, "token_expires_at": NOW + 43000, "requested_at": NOW - 90000}, True, (Retire, Reason.TOKEN_EXPIRING)),
        ({"state": S.RUNNING, "token_expires_at": NOW + 44000, "requested_at": NOW - 90000}, True, None),
        ({"state": S.RUNNING, "token_expires_at": NOW + 5000, "requested_at": NOW - 1000}, True, None),
        ({"state": S.RETIRING, "changed_at": NOW - 5}, False, (Delete, Reason.DRAINED)),
        ({"state": S.RETIRING, "changed_at": NOW - 43201}, True, (Delete, Reason.DRAIN_TIMEOUT)),
        ({"state": S.RETIRING, "drain_requested_at": None}, True, (Retire, Reason.ORDERED)),
        ({"state": S.RETIRING, "drain_requested_at": NOW - 301}, True, (Retire, Reason.ORDERED)),
        ({"state": S.RETIRING, "drain_requested_at": NOW - 299}, True, None),
        ({"state": S.DELETING, "changed_at": NOW - 61}, False, (Delete, Reason.ORDERED)),
        ({"state": S.DELETING, "changed_at": NOW - 59}, False, None),
        ({"state": S.DELETING, "changed_at": NOW - 600, "delete_requested_at": NOW - 5}, False, None),
    ],
)
def test_removal_reasons(changes: dict[str, object], shown: bool, expected: tuple[type, Reason] | None) -> None:
    worker = vm(**changes)  # type: ignore[arg-type]
    answer = make_plan([], [worker], [slot(worker, Resources(1, 100, 1.0), ("alice",))] if shown else [])
    if expected is None:
        assert answer.actions == ()
    else:
        action = only(answer)
        assert (type(action), action.reason) == expected
        assert action.detail
        manual = replace(worker, manual=True)
        assert make_plan([], [manual], [slot(manual)] if shown else []).actions == ()


def test_drain_request_is_not_repeated_while_draining() -> None:
    worker = vm(state=S.RETIRING, drain_requested_at=NOW - 9999, changed_at=NOW - 9999)
    assert make_plan([], [worker], [slot(worker, owners=("alice",), draining=True)]).actions == ()


def test_silence_of_all_workers_gets_more_time() -> None:
    vms = [vm(number, S.RUNNING, last_seen_in_pool=NOW - 1000) for number in range(3)]
    assert make_plan([], vms).actions == ()
    recent = replace(vms[0], last_seen_in_pool=NOW - 5)
    assert {action.vm_id for action in make_plan([], [recent, *vms[1:]]).actions if isinstance(action, Delete)} == {vms[1].id, vms[2].id}
    dead = [replace(each, last_seen_in_pool=NOW - 3601) for each in vms]
    assert len(make_plan([], dead).actions) == 3


def test_vanished_ad_with_running_jobs_gets_grace() -> None:
    worker = vm(state=S.RETIRING, last_seen_in_pool=NOW - 20, drain_requested_at=NOW - 20)
    assert make_plan([demand(0, running=1)], [worker]).actions == ()
    assert only(make_plan([demand(0, running=0)], [worker])).reason is Reason.DRAINED
    assert only(make_plan([demand(0, running=1)], [replace(worker, last_seen_in_pool=NOW - 181)])).reason is Reason.DRAINED
    elsewhere = replace(slot(vm(9), owners=("alice",)), vm_id=None)  # the job runs on a worker of other origin
    assert only(make_plan([demand(0, running=1)], [worker], [elsewhere])).reason is Reason.DRAINED


def test_other_owners_claims_do_not_explain_missing_claims() -> None:
    worker = vm(state=S.RETIRING, last_seen_in_pool=NOW - 5, drain_requested_at=NOW - 20)
    static = replace(slot(vm(9), owners=("bob@pool.test",)), vm_id=None)
    both = [demand(0, running=1), demand(0, running=1, group="belle", owner="bob")]
    assert make_plan(both, [worker], [static]).actions == ()
    busy = vm(2, S.RUNNING)
    full = slot(busy, owners=("bob@pool.test", "bob@pool.test"))
    assert make_plan([demand(0, running=1), demand(0, running=1, owner="bob")], [worker, busy], [full]).actions == ()
    unowned = replace(static, owners=(), claimed_slots=1)
    assert make_plan([demand(0, running=1)], [worker], [unowned]).actions == ()


_PLACES = ("seen", "static", "vanished")
_JOBS = st.lists(st.tuples(st.sampled_from(("atlas", "belle")), st.sampled_from(("alice", "bob")), st.sampled_from(_PLACES)))


@given(_JOBS)
def test_drained_worker_is_deleted_once_claims_are_seen(jobs: list[tuple[str, str, str]]) -> None:
    names = ("atlas", "belle")
    vanished = {name: vm(at, S.RETIRING, group=name, last_seen_in_pool=NOW - 5) for at, name in enumerate(names)}
    seen = {name: vm(10 + at, S.RUNNING, group=name) for at, name in enumerate(names)}

    def claims(at: str, *groups: str) -> tuple[str, ...]:
        return tuple(f"{owner}@pool.test" for group, owner, place in jobs if place == at and group in groups)

    slots = [slot(seen[name], owners=claims("seen", name)) for name in names]
    slots.append(replace(slot(vm(99), owners=claims("static", *names)), vm_id=None))
    wanted = [demand(0, running=1, group=group, owner=owner) for group, owner, _ in jobs]
    clouds, groups = [cloud(group=name) for name in names], [group(name) for name in names]
    answer = make_plan(wanted, [*vanished.values(), *seen.values()], slots, clouds, groups)
    gone = {action.vm_id for action in answer.actions if isinstance(action, Delete)}
    assert not gone & {vanished[group].id for group, _, place in jobs if place == "vanished"}
    if not claims("vanished", *names):
        assert gone == {worker.id for worker in vanished.values()}


def test_update_lost_in_collector_restart_keeps_worker() -> None:
    (interval,) = (each.default for each in fields(WorkerSettings) if each.name == "update_interval")
    assert isinstance(interval, int) and Policy().vanish_grace >= 3 * interval
    worker = vm(state=S.RETIRING, last_seen_in_pool=NOW - 3 * interval + 1, drain_requested_at=NOW - 200)
    assert make_plan([demand(0, running=1)], [worker], coverage=PoolCoverage(since=NOW - 9000)).actions == ()


def test_excess_over_limit_removes_least_useful_first() -> None:
    vms = [
        vm(1, S.RUNNING, requested_at=NOW - 9000),
        vm(2, S.RUNNING, requested_at=NOW - 8000),
        vm(3, S.IDLE, idle_since=NOW - 5),
        vm(4, S.STARTING),
    ]
    slots = [slot(vms[0], owners=("alice",)), slot(vms[1], owners=("alice",)), slot(vms[2])]
    answer = make_plan([demand(5, running=2)], vms, slots, [cloud(limits=Limits(vms=1))])
    assert [(type(action), action.vm_id) for action in answer.actions if not isinstance(action, Boot)] == [
        (Delete, vms[3].id),
        (Retire, vms[1].id),
        (Retire, vms[2].id),
    ]
    assert {action.reason for action in answer.actions} == {Reason.OVER_LIMIT}


def test_retiring_workers_count_against_excess() -> None:
    vms = [vm(1, S.RUNNING), vm(2, S.RETIRING, drain_requested_at=NOW - 5)]
    answer = make_plan([demand(0, running=2)], vms, [slot(each, owners=("alice",)) for each in vms], [cloud(limits=Limits(vms=1))])
    assert answer.actions == ()


def test_soft_limit_removes_nothing() -> None:
    busy = vm(1, S.RUNNING)
    assert make_plan([], [busy], [slot(busy, owners=("alice",))], [cloud(soft_limits=Limits(vms=0))]).actions == ()


def test_disabled_cloud_retires_idle_workers() -> None:
    busy, rest = vm(1, S.RUNNING), vm(2, S.IDLE, idle_since=NOW - 1)
    answer = make_plan([demand(3, running=1)], [busy, rest], [slot(busy, owners=("alice",)), slot(rest)], [cloud(enabled=False)])
    assert [(type(action), action.reason) for action in answer.actions] == [(Retire, Reason.CLOUD_DISABLED)]


def test_unreachable_cloud_gets_no_delete() -> None:
    failed = vm(state=S.ERROR, changed_at=NOW - 9999)
    assert make_plan([], [failed], clouds=[cloud(reachable=False)]).actions == ()


def test_worker_of_removed_flavor_or_cloud_is_retired() -> None:
    old = vm(flavor="retired", resources=Resources(4, 8000, 40.0), idle_since=NOW - 9999)
    assert isinstance(only(make_plan([], [old], [slot(old)])), Retire)
    lost = vm(cloud="removed", idle_since=NOW - 9999)
    assert isinstance(only(make_plan([], [lost], [slot(lost)])), Retire)


def test_unreachable_queue_prevents_retirement() -> None:
    rest, stuck = vm(1, idle_since=NOW - 9000), vm(2, idle_since=NOW - 9000, ever_used=False)
    leaving = vm(3, S.RETIRING, last_seen_in_pool=NOW - 5)
    unreachable = PoolCoverage(frozenset({"far.pool.test"}))
    world = ([demand()], [rest, stuck, leaving], [slot(rest), slot(stuck)])
    assert {removal.vm_id for removal in make_plan(*world).actions if not isinstance(removal, Boot)} >= {leaving.id}
    assert make_plan(*world, coverage=unreachable).actions == ()
    failed = vm(4, S.ERROR, changed_at=NOW - 9000)
    assert only(make_plan([], [rest, failed], [slot(rest)], coverage=unreachable)).vm_id == failed.id, "removals unrelated to jobs continue"


def test_silence_during_pool_outage_removes_no_worker() -> None:
    """After an outage of hours the collector starts empty, and workers send updates within a minute."""
    hours = NOW - 10_000
    ago: dict[str, object] = {"requested_at": hours - 900, "changed_at": hours, "last_seen_in_pool": hours, "registered_at": hours}
    busy, rest = vm(1, S.RUNNING, **ago), vm(2, S.IDLE, **(ago | {"idle_since": hours}))
    leaving, lone = vm(3, S.RETIRING, **ago), vm(4, S.RUNNING, **ago)
    everybody = [busy, rest, leaving, lone]
    assert make_plan([], everybody, [], coverage=PoolCoverage(since=NOW - 5)).actions == ()
    later = {
        removal.vm_id: removal.reason
        for removal in make_plan([], everybody, [], coverage=PoolCoverage(since=NOW - 190)).actions
        if isinstance(removal, Retire | Delete)
    }
    assert later == {rest.id: Reason.NO_DEMAND, leaving.id: Reason.DRAINED}
    last = make_plan([], everybody, [slot(busy)], coverage=PoolCoverage(since=NOW - 901)).actions
    assert {(removal.vm_id, removal.reason) for removal in last if isinstance(removal, Delete)} >= {(lone.id, Reason.SILENT)}
