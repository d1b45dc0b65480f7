"""Which workers removal, and why: failed, silent, aged, excess ones first; idle ones once it is known that no job needs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set

from ..domain.model import Cloud, Delete, Reason, Retire, Vm, VmState
from .limits import bounds
from .situation import BOOTING, IN_POOL, REMOVING, Situation, claim_owners, format_duration, project_of

Removal = Retire | Delete

# When a whole pool falls silent, the pool is doubted before the workers: this many times longer.
_WHOLE_POOL_FACTOR = 4
_DEFAULT_KEEP_ALIVE = 300


def compulsory(situation: Situation) -> dict[str, Removal]:
    """VM id to what must be done about it whatever the demand is. VMs under manual control are never in it."""
    removals: dict[str, Removal] = {}
    silent = _silent_vms(situation)
    unseen = _groups_with_unseen_jobs(situation)
    for vm in situation.vms:
        if vm.manual:
            continue
        removal = _decide(situation, vm, vm.id in silent, vm.group in unseen)
        if isinstance(removal, Delete) and not _is_reachable(situation.cloud_of(vm)):
            continue
        if removal is not None:
            removals[vm.id] = removal
    for removal in _excess(situation, removals):
        removals[removal.vm_id] = removal
    return removals


def idle(situation: Situation, removed_ids: Set[str], needed: Set[str]) -> Iterable[Removal]:
    """Idle workers past their keep-alive, unless waiting jobs were put there (`needed`: ids); even those not for ever.

    None while a queue is unreachable: nobody knows whether its jobs need them.
    """
    policy = situation.policy
    if situation.coverage.unreachable:
        return
    for vm in situation.vms:
        if vm.manual or vm.state is not VmState.IDLE or vm.id in removed_ids:
            continue
        slot = situation.slots.get(vm.id)
        if slot is None and _coverage_is_recent(situation):
            continue  # it may run a job by now, and has not said so yet
        if slot is not None and slot.claimed_slots > 0:
            continue
        since = vm.changed_at if vm.idle_since is None else vm.idle_since
        idle_for, keep = situation.now - since, _keep_alive(situation, vm)
        if vm.id not in needed:
            if idle_for > keep:
                yield Retire(vm.id, Reason.NO_DEMAND, f"idle for {format_duration(idle_for)}, keep-alive {format_duration(keep)}")
        elif idle_for > max(policy.first_use_timeout, keep):
            what = Reason.NO_DEMAND if vm.ever_used else Reason.NEVER_USED
            yield Retire(
                vm.id, what, f"idle for {format_duration(idle_for)} although waiting jobs should run there; another worker will be tried"
            )


def _keep_alive(situation: Situation, vm: Vm) -> int:
    group = situation.groups.get(vm.group)
    usual = _DEFAULT_KEEP_ALIVE if group is None else group.keep_alive
    return max(situation.policy.minimum_keep_alive, usual if vm.keep_alive is None else vm.keep_alive)


def _decide(situation: Situation, vm: Vm, silent: bool, unseen_jobs: bool) -> Removal | None:
    policy, now = situation.policy, situation.now
    if vm.state is VmState.DELETING:
        asked = max(vm.changed_at, vm.delete_requested_at or 0.0)
        if now - asked >= policy.delete_repeat:
            return Delete(
                vm.id,
                Reason.ORDERED,
                f"still there {format_duration(now - vm.changed_at)} after it was ordered to go: {vm.reason}",
                again=True,
            )
        return None
    if vm.state is VmState.ERROR:
        unseen = vm.registered_at is None and vm.last_seen_in_pool is None
        if now - vm.changed_at > (policy.build_error_timeout if unseen else policy.error_timeout):
            what = Reason.BUILD_FAILED if unseen else Reason.ERROR_TIMEOUT
            return Delete(vm.id, what, f"failed {format_duration(now - vm.changed_at)} ago: {vm.reason}")
        return None
    if silent:
        return Delete(vm.id, Reason.SILENT, f"not heard in the pool for {format_duration(now - situation.last_heard(vm))}")
    if vm.state is VmState.RETIRING:
        return _retiring(situation, vm, unseen_jobs)
    if vm.state is VmState.STARTING and now - vm.changed_at > policy.build_timeout:
        return Delete(vm.id, Reason.BUILD_FAILED, f"the cloud has been building it for {format_duration(now - vm.changed_at)}")
    if vm.state in BOOTING:
        since = vm.changed_at if vm.state is VmState.UNREGISTERED else vm.requested_at
        if now - since > policy.registration_timeout and vm.id not in situation.slots:
            return Delete(vm.id, Reason.NEVER_REGISTERED, f"{vm.state.value} for {format_duration(now - since)} and never seen in the pool")
        return None
    return _expiring(situation, vm) or _on_disabled_cloud(situation, vm)


def _retiring(situation: Situation, vm: Vm, unseen_jobs: bool) -> Removal | None:
    policy, now, slot = situation.policy, situation.now, situation.slots.get(vm.id)
    if slot is None:
        seen = vm.last_seen_in_pool
        if seen is not None and (_coverage_is_recent(situation) or (unseen_jobs and now - seen < policy.vanish_grace)):
            return None  # the pool may have forgotten the ad of a worker whose jobs still run
        return Delete(vm.id, Reason.DRAINED, f"never in the pool; {vm.reason}" if seen is None else vm.reason)
    if now - vm.changed_at > policy.drain_timeout:
        return Delete(
            vm.id,
            Reason.DRAIN_TIMEOUT,
            f"drains for {format_duration(now - vm.changed_at)}, {slot.claimed_slots} claims left; retired because: {vm.reason}",
        )
    if slot.draining:
        return None
    if vm.drain_requested_at is None or now - vm.drain_requested_at >= policy.drain_repeat:
        return Retire(vm.id, Reason.ORDERED, f"to be drained: {vm.reason}", again=True)
    return None


def _expiring(situation: Situation, vm: Vm) -> Removal | None:
    age = situation.now - vm.requested_at
    if age > situation.policy.max_vm_age:
        return Retire(
            vm.id, Reason.TOKEN_EXPIRING, f"{format_duration(age)} old; the maximum age is {format_duration(situation.policy.max_vm_age)}"
        )
    if vm.token_expires_at is not None:
        # Its jobs must be able to end while the token holds; of a short token never more than half is kept for that.
        margin = min(float(situation.policy.drain_timeout), (vm.token_expires_at - vm.requested_at) / 2)
        if situation.now >= vm.token_expires_at - margin:
            return Retire(
                vm.id, Reason.TOKEN_EXPIRING, f"its pool token ends in {format_duration(max(0.0, vm.token_expires_at - situation.now))}"
            )
    return None


def _on_disabled_cloud(situation: Situation, vm: Vm) -> Removal | None:
    cloud, slot = situation.cloud_of(vm), situation.slots.get(vm.id)
    if cloud is not None and not cloud.enabled and vm.state is VmState.IDLE and (slot is None or slot.claimed_slots == 0):
        return Retire(vm.id, Reason.CLOUD_DISABLED, f"idle, and cloud {cloud.name} is disabled")
    return None


def _is_reachable(cloud: Cloud | None) -> bool:
    return cloud is not None and cloud.reachable


def _coverage_is_recent(situation: Situation) -> bool:
    """Whether the pool may not yet have told of all its workers since it is listened to (again)."""
    since = situation.coverage.since
    return since is not None and situation.now - since < situation.policy.vanish_grace


def _silent_vms(situation: Situation) -> set[str]:
    """VMs of the pool that are not heard any more; none of them while all are silent, which speaks against the pool."""
    known = [vm for vm in situation.vms if vm.state in IN_POOL or (vm.state is VmState.RETIRING and vm.id in situation.slots)]
    patience = situation.policy.silent_timeout
    silent = {vm.id for vm in known if situation.now - situation.last_heard(vm) > patience}
    if len(known) > 1 and len(silent) == len(known):
        return {vm.id for vm in known if situation.now - situation.last_heard(vm) > _WHOLE_POOL_FACTOR * patience}
    return silent


def _groups_with_unseen_jobs(situation: Situation) -> set[str]:
    """Groups of which the queue says that more jobs of somebody run than the pool shows claims of the same owner.

    Claims on workers of other origin do not say for which of the owner's groups they are: they explain what is missing only when
    they are enough for all of those groups. All groups while a queue is unreachable.
    """
    if situation.coverage.unreachable:
        return set(situation.groups) | {vm.group for vm in situation.vms}
    running: Counter[tuple[str, str]] = Counter()
    for each in situation.demand:
        running[each.group, each.owner] += each.running
    shown = Counter((vm.group, owner) for vm in situation.vms for owner in claim_owners(situation.slots.get(vm.id)))
    missing = running - shown  # a claim without a running job is of a job that starts: it stands for no other one
    of_owner: Counter[str] = Counter()
    for (_, owner), count in missing.items():
        of_owner[owner] += count
    return {group for group, owner in missing if of_owner[owner] > situation.claims_elsewhere[owner]}


def _excess(situation: Situation, removals: Mapping[str, Removal]) -> Iterable[Removal]:
    """As many VMs as a bound is exceeded by, the least useful first: still to come, then idle, then with few jobs; young before old."""
    going = {vm.id for vm in situation.vms if vm.state in REMOVING} | set(removals)
    for (group, name), cloud in situation.clouds.items():
        for bound in bounds(situation, cloud, situation.used[group, name], situation.used_in_project[project_of(cloud)]):
            if bound.soft or bound.used <= bound.limit:
                continue
            around = [cloud] if bound.project is None else situation.members[bound.project]
            vms = sorted((vm for one in around for vm in situation.vms_on[one.group, one.name]), key=_removal_order(situation))
            over = bound.used - bound.limit - sum(_amount(vm, bound.dimension) for vm in vms if vm.id in going)
            for vm in vms:
                if over <= 0:
                    break
                unused = vm.state in BOOTING and vm.id not in situation.slots
                if vm.id in going or vm.manual or (unused and not _is_reachable(situation.cloud_of(vm))):
                    continue
                going.add(vm.id)
                over -= _amount(vm, bound.dimension)
                detail = f"{name}: the {bound.name} is {bound.stated} {bound.unit}, ours use {bound.used} and others {bound.others}"
                yield (Delete if unused else Retire)(vm.id, Reason.OVER_LIMIT, detail)


def _amount(vm: Vm, dimension: str) -> int:
    return {"vms": 1, "cores": vm.resources.cores, "ram_mib": vm.resources.ram_mib}[dimension]


_STATE_ORDER = {VmState.REQUESTED: 0, VmState.STARTING: 1, VmState.UNREGISTERED: 2, VmState.IDLE: 3, VmState.RUNNING: 4}


def _removal_order(situation: Situation) -> Callable[[Vm], tuple[int, int, int, float, str]]:
    def key(vm: Vm) -> tuple[int, int, int, float, str]:
        cloud, slot = situation.cloud_of(vm), situation.slots.get(vm.id)
        return (cloud.priority if cloud else 0, _STATE_ORDER.get(vm.state, 9), slot.claimed_slots if slot else 0, -vm.requested_at, vm.id)

    return key
