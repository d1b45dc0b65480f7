"""State machine of a worker VM: which state follows which event, and which events follow from an observation.

The table is total: every pair of state and event has a next state, most often the same one. There is no I/O here: the engine
passes in what the cloud's listing and the pool reported, and stores the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from .model import MAX_CLOCK_SKEW, Policy, Slot, Vm, VmState

S = VmState


class ServerStatus(StrEnum):
    """Status of one server, common to all drivers."""

    BUILD = "build"
    ACTIVE = "active"
    ERROR = "error"
    SHUTOFF = "shutoff"  # stopped, paused, suspended or shelved: no job can run there
    MISSING = "missing"  # not in a complete listing of the cloud
    UNKNOWN = "unknown"  # the cloud was unreachable, or reported a transient status

    @classmethod
    def of_nova(cls, status: str) -> ServerStatus:
        """Map a server status of the Compute API; transient ones (REBOOT, RESIZE ...) are UNKNOWN and change nothing."""
        return _NOVA.get(status.upper(), cls.UNKNOWN)


_NOVA: Final[Mapping[str, ServerStatus]] = MappingProxyType(
    {
        "BUILD": ServerStatus.BUILD,
        "REBUILD": ServerStatus.BUILD,
        "ACTIVE": ServerStatus.ACTIVE,
        "VERIFY_RESIZE": ServerStatus.ACTIVE,
        "ERROR": ServerStatus.ERROR,
        "SHUTOFF": ServerStatus.SHUTOFF,
        "PAUSED": ServerStatus.SHUTOFF,
        "SUSPENDED": ServerStatus.SHUTOFF,
        "SHELVED": ServerStatus.SHUTOFF,
        "SHELVED_OFFLOADED": ServerStatus.SHUTOFF,
        "RESCUE": ServerStatus.SHUTOFF,
        "DELETED": ServerStatus.MISSING,
        "SOFT_DELETED": ServerStatus.MISSING,
    }
)


class Event(StrEnum):
    """What can happen to a VM: our requests, the cloud's responses, reports of the pool."""

    CREATE_ANSWERED = "create_answered"  # the cloud returned a server id
    CREATE_REFUSED = "create_refused"  # the cloud refused: there is no server
    RETIRE_REQUESTED = "retire_requested"
    DELETE_REQUESTED = "delete_requested"
    SERVER_BUILDING = "server_building"
    SERVER_ACTIVE = "server_active"
    SERVER_FAILED = "server_failed"
    SERVER_STOPPED = "server_stopped"
    SERVER_MISSING = "server_missing"
    SLOT_IDLE = "slot_idle"  # in the pool without a claim
    SLOT_CLAIMED = "slot_claimed"
    SLOT_DRAINING = "slot_draining"  # the worker reports that it drains


@dataclass(frozen=True, slots=True)
class Observation:
    """What the cloud and the pool reported about one VM (`slot` None: not in the pool, or the pool was not queried).

    `listing_began_at` is when the listing that gave `server` was requested; a listing proves absence only for servers that
    existed before it began.
    """

    server: ServerStatus = ServerStatus.UNKNOWN
    server_id: str | None = None
    fault: str = ""
    listing_began_at: float | None = None
    slot: Slot | None = None


_ADOPTED = "orphan: the server appeared after the cloud had reported it missing"

# (state, event) -> (next state, reason). Missing pairs keep the state; an empty reason keeps the reason.
_MOVES: Final[Mapping[tuple[VmState, Event], tuple[VmState, str]]] = MappingProxyType(
    {
        (S.REQUESTED, Event.CREATE_ANSWERED): (S.STARTING, "the cloud accepted it"),
        (S.REQUESTED, Event.CREATE_REFUSED): (S.GONE, "the cloud refused it"),
        (S.REQUESTED, Event.SERVER_BUILDING): (S.STARTING, "found in the cloud, building"),
        (S.REQUESTED, Event.SERVER_ACTIVE): (S.UNREGISTERED, "found in the cloud, running"),
        (S.REQUESTED, Event.SERVER_MISSING): (S.GONE, "the request was lost: the cloud does not have the server"),
        (S.STARTING, Event.SERVER_ACTIVE): (S.UNREGISTERED, "the server runs"),
        # A failed server recovers when the cloud reports it active again.
        (S.ERROR, Event.SERVER_ACTIVE): (S.UNREGISTERED, "recovered: the server runs again"),
        (S.RETIRING, Event.DELETE_REQUESTED): (S.DELETING, "drained"),
        # The pool is authoritative: if it shows the worker, the worker runs, whatever the cloud reported.
        (S.REQUESTED, Event.SLOT_IDLE): (S.IDLE, "seen in the pool"),
        (S.STARTING, Event.SLOT_IDLE): (S.IDLE, "seen in the pool"),
        (S.UNREGISTERED, Event.SLOT_IDLE): (S.IDLE, "joined the pool"),
        (S.RUNNING, Event.SLOT_IDLE): (S.IDLE, "its last job ended"),
        (S.REQUESTED, Event.SLOT_CLAIMED): (S.RUNNING, "seen in the pool with a job"),
        (S.STARTING, Event.SLOT_CLAIMED): (S.RUNNING, "seen in the pool with a job"),
        (S.UNREGISTERED, Event.SLOT_CLAIMED): (S.RUNNING, "joined the pool with a job"),
        (S.IDLE, Event.SLOT_CLAIMED): (S.RUNNING, "a job started"),
        **{(s, Event.RETIRE_REQUESTED): (S.RETIRING, "ordered") for s in (S.REQUESTED, S.STARTING, S.UNREGISTERED, S.IDLE, S.RUNNING)},
        **{
            (s, Event.DELETE_REQUESTED): (S.DELETING, "ordered")
            for s in (S.REQUESTED, S.STARTING, S.UNREGISTERED, S.IDLE, S.RUNNING, S.ERROR)
        },
        **{
            (s, Event.SERVER_FAILED): (S.ERROR, "the cloud reports an error")
            for s in (S.REQUESTED, S.STARTING, S.UNREGISTERED, S.IDLE, S.RUNNING, S.RETIRING)
        },
        **{
            (s, Event.SERVER_STOPPED): (S.ERROR, "stopped without our request")
            for s in (S.REQUESTED, S.STARTING, S.UNREGISTERED, S.IDLE, S.RUNNING, S.RETIRING)
        },
        **{
            (s, Event.SERVER_MISSING): (S.GONE, "vanished: the cloud no longer has the server")
            for s in (S.STARTING, S.UNREGISTERED, S.IDLE, S.RUNNING, S.RETIRING, S.ERROR)
        },
        # Keep the reason for the deletion: that is what people want to know about a worker that is gone.
        (S.DELETING, Event.SERVER_MISSING): (S.GONE, ""),
        (S.RETIRING, Event.CREATE_REFUSED): (S.GONE, "the cloud refused it"),
        (S.DELETING, Event.CREATE_REFUSED): (S.GONE, "the cloud refused it"),
        **{
            (s, Event.SLOT_DRAINING): (S.RETIRING, "it drains without our request")
            for s in (S.REQUESTED, S.STARTING, S.UNREGISTERED, S.IDLE, S.RUNNING)
        },
        # The create response arrived after the row was closed: adopt and drain the server, so that it does not leak.
        **{
            (S.GONE, e): (S.RETIRING, _ADOPTED)
            for e in (Event.CREATE_ANSWERED, Event.SERVER_BUILDING, Event.SERVER_ACTIVE, Event.SERVER_FAILED, Event.SERVER_STOPPED)
        },
    }
)

TRANSITIONS: Final[Mapping[tuple[VmState, Event], VmState]] = MappingProxyType(
    {(s, e): _MOVES[s, e][0] if (s, e) in _MOVES else s for s in VmState for e in Event}
)

_SERVER_EVENTS: Final[Mapping[ServerStatus, Event]] = MappingProxyType(
    {
        ServerStatus.BUILD: Event.SERVER_BUILDING,
        ServerStatus.ACTIVE: Event.SERVER_ACTIVE,
        ServerStatus.ERROR: Event.SERVER_FAILED,
        ServerStatus.SHUTOFF: Event.SERVER_STOPPED,
        ServerStatus.MISSING: Event.SERVER_MISSING,
    }
)


def apply_event(vm: Vm, event: Event, now: float, *, reason: str = "", detail: str = "", server_id: str | None = None) -> Vm:
    """Apply one event at `now`; `reason` replaces the table's reason, `detail` is appended, `server_id` comes with CREATE_ANSWERED.

    Returns the same object if nothing changes. `drain_requested_at` and `delete_requested_at` are not set here but by the caller,
    once the request has been sent.
    """
    if server_id is not None and vm.server_id is None:
        vm = replace(vm, server_id=server_id)
    move = _MOVES.get((vm.state, event))
    if move is None:
        return vm
    state, why = move
    why = reason or why or vm.reason
    if vm.state is S.GONE:  # adopted: earlier drain and delete requests no longer apply
        vm = replace(vm, drain_requested_at=None, delete_requested_at=None)
    return replace(
        vm,
        state=state,
        changed_at=now,
        reason=f"{why}: {detail}" if detail else why,
        idle_since=(vm.idle_since or now) if state in (S.IDLE, S.RETIRING) else None,
    )


def advance(vm: Vm, observation: Observation, now: float, policy: Policy) -> Vm:
    """Apply an observation: first the cloud's part, then the pool's. Returns the same object if nothing changed."""
    vm = clamp_future_stamps(vm, now)
    event = _server_event(vm, observation, policy)
    if event is not None:
        was = vm.state
        vm = apply_event(vm, event, now, detail=observation.fault, server_id=observation.server_id)
        if was is S.ERROR and vm.state is S.UNREGISTERED and vm.drain_requested_at is not None:
            vm = apply_event(vm, Event.RETIRE_REQUESTED, now, reason="recovered: its drain continues")
    return vm if observation.slot is None else _follow_pool(vm, observation.slot, now)


def clamp_future_stamps(vm: Vm, now: float) -> Vm:
    """Replace timestamps in the future by `now`: the clock was set back, and every timeout would last that much longer.

    Conclusions drawn from elapsed time (that a cloud does not have a server) come later, never sooner.
    """

    ahead: dict[str, Any] = {name: now for name in _STAMPS if (getattr(vm, name) or 0.0) > now + MAX_CLOCK_SKEW}
    return replace(vm, **ahead) if ahead else vm


_STAMPS: Final = (
    *("requested_at", "changed_at", "registered_at", "idle_since", "last_seen_in_pool", "drain_requested_at", "delete_requested_at"),
)


def _server_event(vm: Vm, observation: Observation, policy: Policy) -> Event | None:
    event = _SERVER_EVENTS.get(observation.server)
    if event is Event.SERVER_MISSING and not _proves_absence(vm, observation.listing_began_at, policy):
        return None
    return event


def _proves_absence(vm: Vm, listing_began_at: float | None, policy: Policy) -> bool:
    if listing_began_at is None:
        return False
    young = vm.state in (S.REQUESTED, S.STARTING) or vm.server_id is None
    if young:  # the create may still be in progress, or not yet visible in listings
        return listing_began_at >= vm.requested_at + policy.create_settle
    return listing_began_at > vm.changed_at


def _follow_pool(vm: Vm, slot: Slot, now: float) -> Vm:
    if vm.state is S.GONE:
        return vm  # an ad that outlived its server
    claimed = slot.claimed_slots > 0
    vm = apply_event(vm, Event.SLOT_CLAIMED if claimed else Event.SLOT_IDLE, now)
    if slot.draining:
        vm = apply_event(vm, Event.SLOT_DRAINING, now)
    idle_since = vm.idle_since
    if claimed:
        idle_since = None
    elif idle_since is None:
        idle_since = now
    # An ad from before the clock was set back has no usable time.
    seen = slot.last_heard if slot.last_heard <= now + MAX_CLOCK_SKEW else vm.last_seen_in_pool or now
    return replace(
        vm,
        registered_at=now if vm.registered_at is None else vm.registered_at,
        last_seen_in_pool=seen if vm.last_seen_in_pool is None else max(vm.last_seen_in_pool, seen),
        ever_used=vm.ever_used or claimed,
        idle_since=idle_since,
    )
