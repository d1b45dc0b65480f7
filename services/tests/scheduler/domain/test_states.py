"""The VM state machine: every state with every event, and the effect of observations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distcloud.scheduler.domain.model import Policy, VmState
from distcloud.scheduler.domain.states import TRANSITIONS, Event, Observation, ServerStatus, advance, apply_event

from ..support.strategies import NOW, slot, vm

S, E = VmState, Event
POLICY = Policy()
LATER = NOW + 10

# Row: state; columns in the order of COLUMNS. Repeated here by hand, so that every change of the table is noticed.
COLUMNS = (
    E.CREATE_ANSWERED,
    E.CREATE_REFUSED,
    E.RETIRE_REQUESTED,
    E.DELETE_REQUESTED,
    E.SERVER_BUILDING,
    E.SERVER_ACTIVE,
    E.SERVER_FAILED,
    E.SERVER_STOPPED,
    E.SERVER_MISSING,
    E.SLOT_IDLE,
    E.SLOT_CLAIMED,
    E.SLOT_DRAINING,
)
Q, T, U, L, R, X, D, F, G = (S.REQUESTED, S.STARTING, S.UNREGISTERED, S.IDLE, S.RUNNING, S.RETIRING, S.DELETING, S.ERROR, S.GONE)
EXPECTED = {
    Q: (T, G, X, D, T, U, F, F, G, L, R, X),
    T: (T, T, X, D, T, U, F, F, G, L, R, X),
    U: (U, U, X, D, U, U, F, F, G, L, R, X),
    L: (L, L, X, D, L, L, F, F, G, L, R, X),
    R: (R, R, X, D, R, R, F, F, G, L, R, X),
    X: (X, G, X, D, X, X, F, F, G, X, X, X),
    D: (D, G, D, D, D, D, D, D, G, D, D, D),
    F: (F, F, F, D, F, U, F, F, G, F, F, F),
    G: (X, G, G, G, X, X, X, X, G, G, G, G),
}


def test_table_covers_every_state_and_event() -> None:
    assert set(TRANSITIONS) == {(state, event) for state in VmState for event in Event}
    assert set(COLUMNS) == set(Event)
    assert set(EXPECTED) == set(VmState)


@pytest.mark.parametrize("event", COLUMNS)
@pytest.mark.parametrize("state", list(VmState))
def test_every_state_with_every_event(state: VmState, event: Event) -> None:
    before = vm(state=state, reason="before")
    after = apply_event(before, event, LATER)
    expected = EXPECTED[state][COLUMNS.index(event)]
    assert after.state is expected
    assert TRANSITIONS[state, event] is expected
    if expected is state:
        assert after == before
    else:
        assert after.changed_at == LATER
        # The reason for the deletion is kept: people ask for it when a worker is gone.
        kept = (state, event) == (VmState.DELETING, Event.SERVER_MISSING)
        assert after.reason and (after.reason == "before") is kept


@pytest.mark.parametrize("state", list(VmState))
@pytest.mark.parametrize("status", list(ServerStatus))
@pytest.mark.parametrize("shown", ["absent", "idle", "claimed", "draining"])
def test_repeated_observation_changes_nothing(state: VmState, status: ServerStatus, shown: str) -> None:
    before = vm(state=state)
    seen = (
        None
        if shown == "absent"
        else slot(before, owners=("alice",) if shown == "claimed" else (), draining=shown == "draining", last_heard=NOW)
    )
    observation = Observation(status, before.server_id, "", NOW, seen)
    once = advance(before, observation, LATER, POLICY)
    twice = advance(once, replace(observation, listing_began_at=once.changed_at), LATER + 5, POLICY)
    if before.state is S.GONE or once.state is S.GONE:
        return  # adoption is tested separately
    assert twice == once


def test_listing_before_settle_time_proves_nothing() -> None:
    lost = vm(state=S.REQUESTED, server_id=None, requested_at=NOW, changed_at=NOW)
    missing = Observation(ServerStatus.MISSING, listing_began_at=NOW + POLICY.create_settle - 1)
    assert advance(lost, missing, NOW + 500, POLICY) == lost
    settled = replace(missing, listing_began_at=NOW + POLICY.create_settle)
    gone = advance(lost, settled, NOW + 500, POLICY)
    assert gone.state is S.GONE
    assert "lost" in gone.reason


@pytest.mark.parametrize("state", [S.UNREGISTERED, S.IDLE, S.RUNNING, S.RETIRING, S.DELETING, S.ERROR])
def test_only_listing_after_last_change_proves_absence(state: VmState) -> None:
    known = vm(state=state, changed_at=NOW)
    assert advance(known, Observation(ServerStatus.MISSING, listing_began_at=NOW), LATER, POLICY) == known
    assert advance(known, Observation(ServerStatus.MISSING, listing_began_at=None), LATER, POLICY) == known
    assert advance(known, Observation(ServerStatus.MISSING, listing_began_at=NOW + 1), LATER, POLICY).state is S.GONE


def test_deletion_before_create_response_waits_for_listing() -> None:
    overtaken = vm(state=S.DELETING, server_id=None, requested_at=NOW, changed_at=NOW + 1)
    assert advance(overtaken, Observation(ServerStatus.MISSING, listing_began_at=NOW + 5), LATER, POLICY) == overtaken


def test_lost_create_response_is_recovered_from_listing() -> None:
    lost = vm(state=S.REQUESTED, server_id=None)
    found = advance(lost, Observation(ServerStatus.BUILD, "server-x", listing_began_at=NOW), LATER, POLICY)
    assert (found.state, found.server_id) == (S.STARTING, "server-x")


def test_late_server_of_closed_row_is_drained() -> None:
    closed = vm(state=S.GONE, server_id=None, drain_requested_at=NOW - 999, delete_requested_at=NOW - 99)
    adopted = advance(closed, Observation(ServerStatus.ACTIVE, "server-late", listing_began_at=NOW), LATER, POLICY)
    assert (adopted.state, adopted.server_id) == (S.RETIRING, "server-late")
    assert adopted.drain_requested_at is None and adopted.delete_requested_at is None
    assert "orphan" in adopted.reason


def test_unrequested_shutoff_is_an_error_with_fault() -> None:
    stopped = advance(vm(state=S.RUNNING), Observation(ServerStatus.SHUTOFF, fault="host powered off"), LATER, POLICY)
    assert stopped.state is S.ERROR
    assert stopped.reason == "stopped without our request: host powered off"


def test_failed_server_recovers_when_active_again() -> None:
    failed = vm(state=S.ERROR, ever_used=True)
    assert advance(failed, Observation(ServerStatus.ACTIVE), LATER, POLICY).state is S.UNREGISTERED
    assert advance(failed, Observation(ServerStatus.ACTIVE, slot=slot(failed)), LATER, POLICY).state is S.IDLE
    draining = replace(failed, drain_requested_at=NOW - 50)
    assert advance(draining, Observation(ServerStatus.ACTIVE), LATER, POLICY).state is S.RETIRING


def test_pool_sets_registration_and_use() -> None:
    started = vm(state=S.STARTING)
    joined = advance(started, Observation(ServerStatus.ACTIVE, slot=slot(started, last_heard=LATER)), LATER, POLICY)
    assert (joined.state, joined.registered_at, joined.idle_since, joined.ever_used) == (S.IDLE, LATER, LATER, False)
    used = advance(joined, Observation(slot=slot(joined, owners=("alice",), last_heard=LATER + 5)), LATER + 5, POLICY)
    assert (used.state, used.idle_since, used.ever_used, used.last_seen_in_pool) == (S.RUNNING, None, True, LATER + 5)
    rest = advance(used, Observation(slot=slot(used, last_heard=LATER + 65)), LATER + 65, POLICY)
    assert (rest.state, rest.idle_since, rest.registered_at) == (S.IDLE, LATER + 65, LATER)


def test_repeated_sighting_keeps_idle_since() -> None:
    resting = vm(state=S.IDLE, idle_since=NOW - 100)
    seen = advance(resting, Observation(ServerStatus.ACTIVE, slot=slot(resting, last_heard=LATER)), LATER, POLICY)
    assert (seen.idle_since, seen.changed_at) == (NOW - 100, resting.changed_at)


def test_worker_draining_by_itself_becomes_retiring() -> None:
    running = vm(state=S.RUNNING)
    assert advance(running, Observation(slot=slot(running, owners=("alice",), draining=True)), LATER, POLICY).state is S.RETIRING


def test_unreachable_cloud_and_pool_change_nothing() -> None:
    for state in VmState:
        before = vm(state=state)
        assert advance(before, Observation(), LATER, POLICY) == before


def test_stale_ad_does_not_revive_gone_vm() -> None:
    gone = vm(state=S.GONE)
    assert advance(gone, Observation(ServerStatus.MISSING, listing_began_at=LATER, slot=slot(gone)), LATER, POLICY) == gone


STATUSES = {
    "active": "ACTIVE VERIFY_RESIZE",
    "build": "BUILD build REBUILD",
    "error": "ERROR",
    "shutoff": "SHUTOFF SHELVED_OFFLOADED PAUSED",
    "missing": "DELETED SOFT_DELETED",
    "unknown": "REBOOT MIGRATING UNKNOWN NEW_WORD",
}


@pytest.mark.parametrize(("nova", "status"), [(nova, status) for status, names in STATUSES.items() for nova in names.split()])
def test_server_statuses_of_the_compute_api(nova: str, status: str) -> None:
    assert ServerStatus.of_nova(nova) == status
