"""Which workers to remove, and why: failed, silent, aged and excess ones first; idle ones once it is known that no job needs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set

from ...common.times import duration
from ..domain.model import Cloud, CloudKey, Delete, Reason, Retire, Vm, VmState
from .limits import Bound, bounds
from .situation import BOOTING, IN_POOL, REMOVING, ProjectKey, Situation, claim_owners, project_of

Removal = Retire | Delete

# If all workers are silent, the pool is more likely at fault: wait this many times longer.
_WHOLE_POOL_FACTOR = 4
_DEFAULT_KEEP_ALIVE = 300


def compulsory(situation: Situation) -> dict[str, Removal]:
    """Removals that do not depend on demand, by VM id. VMs under manual control are never included."""
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
    """Removals of idle workers past their keep-alive.

    Workers with waiting jobs assigned to them (`needed`: ids) stay longer, but not forever.

    No removals while a queue is unreachable: its jobs may need the workers.
    """
    policy = situation.policy
    if situation.coverage.unreachable:
        return
    for vm in situation.vms:
        if vm.manual or vm.state is not VmState.IDLE or vm.id in removed_ids:
            continue
        slot = situation.slots.get(vm.id)
        if slot is None and _coverage_is_recent(situation):
            continue  # it may already run a job and not have sent an update yet
        if slot is not None and slot.claimed_slots > 0:
            continue
        since = vm.changed_at if vm.idle_since is None else vm.idle_since
        idle_for, keep = situation.now - since, _keep_alive(situation, vm)
        if vm.id not in needed:
            if idle_for > keep:
                yield Retire(vm.id, Reason.NO_DEMAND, f"idle for {duration(idle_for)}, keep-alive {duration(keep)}")
        elif idle_for > max(policy.first_use_timeout, keep):
            what = Reason.NO_DEMAND if vm.ever_used else Reason.NEVER_USED
            yield Retire(vm.id, what, f"idle for {duration(idle_for)} although waiting jobs match it; another worker will be tried")


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
                f"still there {duration(now - vm.changed_at)} after its deletion was requested: {vm.reason}",
                again=True,
            )
        return None
    if vm.state is VmState.ERROR:
        unseen = vm.registered_at is None and vm.last_seen_in_pool is None
        if now - vm.changed_at > (policy.build_error_timeout if unseen else policy.error_timeout):
            what = Reason.BUILD_FAILED if unseen else Reason.ERROR_TIMEOUT
            return Delete(vm.id, what, f"failed {duration(now - vm.changed_at)} ago: {vm.reason}")
        return None
    if silent:
        return Delete(vm.id, Reason.SILENT, f"no update in the pool for {duration(now - situation.last_heard(vm))}")
    if vm.state is VmState.RETIRING:
        return _retiring(situation, vm, unseen_jobs)
    if vm.state is VmState.STARTING and now - vm.changed_at > policy.build_timeout:
        return Delete(vm.id, Reason.BUILD_FAILED, f"still building after {duration(now - vm.changed_at)}")
    if vm.state in BOOTING:
        since = vm.changed_at if vm.state is VmState.UNREGISTERED else vm.requested_at
        if now - since > policy.registration_timeout and vm.id not in situation.slots:
            return Delete(vm.id, Reason.NEVER_REGISTERED, f"{vm.state.value} for {duration(now - since)} without joining the pool")
        return None
    return _expiring(situation, vm) or _on_disabled_cloud(situation, vm)


def _retiring(situation: Situation, vm: Vm, unseen_jobs: bool) -> Removal | None:
    policy, now, slot = situation.policy, situation.now, situation.slots.get(vm.id)
    if slot is None:
        seen = vm.last_seen_in_pool
        if seen is not None and (_coverage_is_recent(situation) or (unseen_jobs and now - seen < policy.vanish_grace)):
            return None  # the pool may have lost the ad of a worker whose jobs still run
        return Delete(vm.id, Reason.DRAINED, f"never joined the pool; {vm.reason}" if seen is None else vm.reason)
    if now - vm.changed_at > policy.drain_timeout:
        return Delete(
            vm.id,
            Reason.DRAIN_TIMEOUT,
            f"draining for {duration(now - vm.changed_at)}, {slot.claimed_slots} claims left; retired because: {vm.reason}",
        )
    if slot.draining:
        return None
    if vm.drain_requested_at is None or now - vm.drain_requested_at >= policy.drain_repeat:
        return Retire(vm.id, Reason.ORDERED, f"not draining yet: {vm.reason}", again=True)
    return None


def _expiring(situation: Situation, vm: Vm) -> Removal | None:
    age = situation.now - vm.requested_at
    if age > situation.policy.max_vm_age:
        return Retire(vm.id, Reason.TOKEN_EXPIRING, f"{duration(age)} old; the maximum age is {duration(situation.policy.max_vm_age)}")
    if vm.token_expires_at is not None:
        # Its jobs must be able to finish while the token is valid; at most half of the token's lifetime is reserved for that.
        margin = min(float(situation.policy.drain_timeout), (vm.token_expires_at - vm.requested_at) / 2)
        if situation.now >= vm.token_expires_at - margin:
            return Retire(
                vm.id, Reason.TOKEN_EXPIRING, f"its pool token expires in {duration(max(0.0, vm.token_expires_at - situation.now))}"
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
    """Whether the pool has been observed for so short a time that some workers may not have sent an update yet."""
    since = situation.coverage.since
    return since is not None and situation.now - since < situation.policy.vanish_grace


def _silent_vms(situation: Situation) -> set[str]:
    """VMs in the pool that send no updates any more; if all of them are silent, the pool is given more time first."""
    known = [vm for vm in situation.vms if vm.state in IN_POOL or (vm.state is VmState.RETIRING and vm.id in situation.slots)]
    timeout = situation.policy.silent_timeout
    silent = {vm.id for vm in known if situation.now - situation.last_heard(vm) > timeout}
    if len(known) > 1 and len(silent) == len(known):
        return {vm.id for vm in known if situation.now - situation.last_heard(vm) > _WHOLE_POOL_FACTOR * timeout}
    return silent


def _groups_with_unseen_jobs(situation: Situation) -> set[str]:
    """Groups with running jobs that have no visible claim: the queue reports more running jobs of an owner than the pool shows claims.

    Claims on workers of other origin do not tell which of the owner's groups they serve: they explain the missing ones only if there
    are enough for all of those groups. All groups while a queue is unreachable.
    """
    if situation.coverage.unreachable:
        return set(situation.groups) | {vm.group for vm in situation.vms}
    running: Counter[tuple[str, str]] = Counter()
    for each in situation.demand:
        running[each.group, each.owner] += each.running
    shown = Counter((vm.group, owner) for vm in situation.vms for owner in claim_owners(situation.slots.get(vm.id)))
    missing = running - shown  # a claim without a running job belongs to a job that is starting, not to another one
    of_owner: Counter[str] = Counter()
    for (_, owner), count in missing.items():
        of_owner[owner] += count
    return {group for group, owner in missing if of_owner[owner] > situation.claims_elsewhere[owner]}


def _excess(situation: Situation, removals: Mapping[str, Removal]) -> Iterable[Removal]:
    """As many VMs as a limit is exceeded by, the least useful first: booting, then idle, then with few jobs; young before old."""
    going = {vm.id for vm in situation.vms if vm.state in REMOVING} | set(removals)
    done: set[tuple[ProjectKey, str]] = set()
    for key, cloud in situation.clouds.items():
        for bound in _hard_bounds(situation, cloud):
            if bound.used <= bound.limit:
                continue
            if not bound.of_project:
                yield from _down_to(situation, {key: bound}, situation.vms_on[key], going)
            elif (project_of(cloud), bound.dimension) not in done:
                done.add((project_of(cloud), bound.dimension))
                members = situation.members[project_of(cloud)]
                own = {
                    (member.group, member.name): reported
                    for member in members
                    for reported in _hard_bounds(situation, member)
                    if reported.of_project and reported.dimension == bound.dimension
                }
                vms = [vm for member in members for vm in situation.vms_on[member.group, member.name]]
                yield from _down_to(situation, own, vms, going)


def _hard_bounds(situation: Situation, cloud: Cloud) -> Iterator[Bound]:
    used, in_project = situation.used[cloud.group, cloud.name], situation.used_in_project[project_of(cloud)]
    return (bound for bound in bounds(situation, cloud, used, in_project) if not bound.soft)


def _down_to(situation: Situation, own: Mapping[CloudKey, Bound], vms: Iterable[Vm], going: set[str]) -> Iterator[Removal]:
    """Remove VMs while more than the bound of their own cloud is used; adds them to `going`. All bounds have the same `used`."""
    ordered = sorted(vms, key=_removal_order(situation))
    dimension = next(iter(own.values())).dimension
    gone = sum(_amount(vm, dimension) for vm in ordered if vm.id in going)
    for vm in ordered:
        bound = own.get((vm.group, vm.cloud))
        unused = vm.state in BOOTING and vm.id not in situation.slots
        if bound is None or bound.used - gone <= bound.limit or vm.id in going or vm.manual:
            continue
        if unused and not _is_reachable(situation.cloud_of(vm)):
            continue
        going.add(vm.id)
        gone += _amount(vm, dimension)
        detail = f"{vm.cloud}: the {bound.name} is {bound.stated} {bound.unit}, our VMs use {bound.used}, others {bound.others}"
        yield (Delete if unused else Retire)(vm.id, Reason.OVER_LIMIT, detail)


def _amount(vm: Vm, dimension: str) -> int:
    return {"vms": 1, "cores": vm.resources.cores, "ram_mib": vm.resources.ram_mib}[dimension]


_STATE_ORDER = {VmState.REQUESTED: 0, VmState.STARTING: 1, VmState.UNREGISTERED: 2, VmState.IDLE: 3, VmState.RUNNING: 4}


def _removal_order(situation: Situation) -> Callable[[Vm], tuple[int, int, int, float, str]]:
    def key(vm: Vm) -> tuple[int, int, int, float, str]:
        cloud, slot = situation.cloud_of(vm), situation.slots.get(vm.id)
        return (cloud.priority if cloud else 0, _STATE_ORDER.get(vm.state, 9), slot.claimed_slots if slot else 0, -vm.requested_at, vm.id)

    return key
