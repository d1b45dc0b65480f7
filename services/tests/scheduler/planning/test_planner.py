"""The planner's decisions one by one, on small inputs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from distcloud.scheduler.domain.model import Boot, Flavor, Limits, Policy, PoolCoverage, Reason, Resources, Usage, VmState
from distcloud.scheduler.planning.eligibility import value_for_cloud
from distcloud.scheduler.worker.offer import offered

from ..support.planning import boots, make_plan, reasons
from ..support.strategies import FLAVORS, IMAGE, NOW, SUBMIT, cloud, demand, group, slot, vm

S = VmState


class TestCloudSelection:
    @pytest.mark.parametrize(
        ("changes", "reason", "detail"),
        [
            ({"enabled": False}, Reason.CLOUD_DISABLED, "a is disabled"),
            ({"frozen": True}, Reason.CLOUD_FROZEN, "a is frozen"),
            ({"reachable": False, "unreachable_reason": "time-out"}, Reason.CLOUD_UNREACHABLE, "time-out"),
            ({"credential_expires_at": NOW + 3600}, Reason.CREDENTIAL_EXPIRING, "expires in 1 h"),
            ({"credential_expires_at": NOW - 1}, Reason.CREDENTIAL_EXPIRING, "has expired"),
            ({"images": frozenset()}, Reason.NO_IMAGE, "has no image worker"),
            ({"default_image": None}, Reason.NO_IMAGE, "neither the job nor the cloud"),
            ({"flavors": ()}, Reason.NO_FLAVOR, "offers no flavor"),
            ({"limits": Limits(vms=0)}, Reason.LIMIT_REACHED, "limit of the cloud is 0 VMs"),
            ({"quota": Limits(cores=4), "foreign": Usage(cores=4)}, Reason.LIMIT_REACHED, "quota of the project is 4 cores"),
            ({"soft_limits": Limits(ram_mib=2000), "foreign": Usage(ram_mib=1500)}, Reason.LIMIT_REACHED, "soft limit"),
            ({"failures": 3, "last_failure_at": NOW - 5}, Reason.CLOUD_FROZEN, "the last 3 servers failed"),
        ],
    )
    def test_ineligible_cloud_gets_a_reason(self, changes: dict[str, Any], reason: Reason, detail: str) -> None:
        answer = make_plan([demand()], clouds=[cloud(**changes)])
        assert answer.actions == ()
        assert reasons(answer) == {None: reason, "a": reason}
        assert all(detail in verdict.detail for verdict in answer.verdicts)

    def test_group_without_clouds_differs_from_unknown_group(self) -> None:
        assert reasons(make_plan([demand()], clouds=[cloud(group="belle")])) == {None: Reason.NO_CLOUD}
        assert reasons(make_plan([demand(group="nobody")])) == {None: Reason.GROUP_UNKNOWN}

    def test_frozen_cloud_is_probed_with_one_server(self) -> None:
        answer = make_plan([demand(9)], clouds=[cloud(failures=5, last_failure_at=NOW - 901)])
        assert len(boots(answer)) == 1

    def test_alias_selects_exactly_its_clouds(self) -> None:
        wanted = demand(9, alias="x", requirements='target_alias =?= "x"')
        both = [cloud("cloud1"), cloud("cloud10")]
        answer = make_plan([wanted], clouds=both, groups=[group(aliases={"x": ("cloud10",)})])
        assert {boot.cloud for boot in boots(answer)} == {"cloud10"}
        assert {boot.alias for boot in boots(answer)} == {"x"}
        assert reasons(answer)["cloud1"] is Reason.ALIAS_EXCLUDES

    def test_higher_priority_first_equal_clouds_share(self) -> None:
        answer = make_plan([demand(4)], clouds=[cloud("a"), cloud("b", priority=5)])
        assert {boot.cloud for boot in boots(answer)} == {"b"}
        answer = make_plan([demand(4)], clouds=[cloud("a"), cloud("b")])
        assert Counter(boot.cloud for boot in boots(answer)) == {"a": 2, "b": 2}

    def test_overflow_of_a_limit_goes_to_next_cloud(self) -> None:
        answer = make_plan([demand(5)], clouds=[cloud("a", priority=9, limits=Limits(cores=2)), cloud("b")])
        assert Counter(boot.cloud for boot in boots(answer)) == {"a": 2, "b": 3}

    def test_unpinned_jobs_beyond_limits_use_both_regions(self) -> None:
        answer = make_plan([demand(6), demand(6, owner="bob")], clouds=[cloud("a", limits=Limits(vms=3)), cloud("b", limits=Limits(vms=3))])
        assert Counter(boot.cloud for boot in boots(answer)) == {"a": 3, "b": 3}
        assert Counter(boot.detail.split(" of ")[1].split()[0] for boot in boots(answer)) == {"alice": 3, "bob": 3}

    def test_pin_by_requirements_is_respected(self) -> None:
        answer = make_plan([demand(3, requirements=f'{SUBMIT} && DistcloudRegion == "r-b"')], clouds=[cloud("a"), cloud("b")])
        assert {boot.cloud for boot in boots(answer)} == {"b"}
        assert reasons(answer)["a"] is Reason.REQUIREMENTS_MISMATCH


class TestMissingWorkers:
    """Workers that may never join, or never return, do not keep jobs from another cloud."""

    @pytest.mark.parametrize("shown", [False, True])
    def test_quiet_worker_has_no_capacity(self, shown: bool) -> None:
        quiet = vm(last_seen_in_pool=NOW - 301)
        ads = [slot(quiet, last_heard=NOW - 301)] if shown else []
        assert len(boots(make_plan([demand()], [quiet], ads))) == 1
        recent = vm(last_seen_in_pool=NOW - 299)
        assert not boots(make_plan([demand()], [recent], [slot(recent, last_heard=NOW - 299)] if shown else []))

    def test_silence_before_coverage_is_ignored(self) -> None:
        quiet = vm(last_seen_in_pool=NOW - 5000)
        assert not boots(make_plan([demand()], [quiet], coverage=PoolCoverage(since=NOW - 100)))
        assert boots(make_plan([demand()], [quiet], coverage=PoolCoverage(since=NOW - 301)))

    @pytest.mark.parametrize("state", [S.REQUESTED, S.STARTING, S.UNREGISTERED])
    def test_builds_of_unreachable_cloud_are_replaced_once(self, state: VmState) -> None:
        dead, healthy = cloud("a", reachable=False, unreachable_reason="time-out"), cloud("b")
        lost = vm(1, state, requested_at=NOW - 301, changed_at=NOW - 301)
        assert [boot.cloud for boot in boots(make_plan([demand()], [lost], clouds=[dead, healthy]))] == ["b"]
        replacement = vm(2, S.STARTING, cloud="b")
        assert not boots(make_plan([demand()], [lost, replacement], clouds=[dead, healthy]))
        soon = replace(lost, changed_at=NOW - 299)
        assert not boots(make_plan([demand()], [soon], clouds=[dead, healthy]))
        slow = replace(lost, requested_at=NOW - 1199, changed_at=NOW - 1199)
        assert not boots(make_plan([demand()], [slow], clouds=[replace(dead, reachable=True), healthy]))

    @pytest.mark.parametrize("state", [S.STARTING, S.UNREGISTERED])
    def test_late_server_is_replaced_on_another_cloud(self, state: VmState) -> None:
        late = vm(1, state, requested_at=NOW - 1300, changed_at=NOW - 1201)
        assert [boot.cloud for boot in boots(make_plan([demand()], [late], clouds=[cloud("a"), cloud("b")]))] == ["b"]
        soon = replace(late, changed_at=NOW - 1199)
        assert not boots(make_plan([demand()], [soon], clouds=[cloud("a"), cloud("b")]))


class TestFlavorSelection:
    def test_smallest_fitting_flavor_is_chosen(self) -> None:
        assert boots(make_plan([demand()]))[0].flavor == "small"
        assert boots(make_plan([demand(request=Resources(1, 2000, 1.0))]))[0].flavor == "medium"
        assert boots(make_plan([demand(request=Resources(4, 2000, 1.0))]))[0].flavor == "large"

    def test_offered_memory_decides_not_flavor_memory(self) -> None:
        assert boots(make_plan([demand(request=Resources(1, 1024, 1.0))]))[0].flavor == "medium"
        assert offered(FLAVORS[0].resources).ram_mib < 1024

    def test_job_flavor_then_default_then_smallest(self) -> None:
        clouds = [cloud(default_flavor="medium")]
        assert boots(make_plan([demand()], clouds=clouds))[0].flavor == "medium"
        assert boots(make_plan([demand(flavor="large")], clouds=clouds))[0].flavor == "large"
        assert boots(make_plan([demand(request=Resources(8, 100, 1.0))], clouds=clouds))[0].flavor == "large"
        assert boots(make_plan([demand()], groups=[group(default_flavor="large")]))[0].flavor == "large"

    def test_default_flavor_beyond_limit_is_skipped(self) -> None:
        assert boots(make_plan([demand()], clouds=[cloud(default_flavor="large", limits=Limits(cores=4))]))[0].flavor == "small"

    def test_flavor_must_match_requirements(self) -> None:
        assert boots(make_plan([demand(requirements="TARGET.Cpus >= 2")]))[0].flavor == "medium"

    def test_missing_flavor_is_named(self) -> None:
        answer = make_plan([demand(flavor="huge")])
        assert reasons(answer)["a"] is Reason.NO_FLAVOR
        assert "no flavor huge" in answer.verdicts[1].detail
        answer = make_plan([demand(request=Resources(64, 100, 1.0))])
        assert "the largest, large offers 8 cores, 15729 MiB" in answer.verdicts[1].detail

    def test_values_per_cloud(self) -> None:
        assert value_for_cloud("x", "a") == "x"
        assert value_for_cloud("a:x, b:y", "b") == "y"
        assert value_for_cloud("a:x, z", "b") == "z"
        assert value_for_cloud("a:x", "b") is None
        assert value_for_cloud("cloud1:x", "cloud10") is None
        assert value_for_cloud(None, "a") is None
        answer = make_plan(
            [demand(2, image="a:old, b:new")], clouds=[cloud("a", images=frozenset({"old"})), cloud("b", images=frozenset({"new"}))]
        )
        assert {(boot.cloud, boot.image) for boot in boots(answer)} == {("a", "old"), ("b", "new")}

    def test_malformed_requirements_give_a_verdict(self) -> None:
        answer = make_plan([demand(requirements="((")])
        assert reasons(answer)["a"] is Reason.REQUIREMENTS_MISMATCH
        assert "not a valid ClassAd expression" in answer.verdicts[0].detail


class TestWorkerCount:
    def test_booting_workers_count(self) -> None:
        for state in (S.REQUESTED, S.STARTING, S.UNREGISTERED):
            assert boots(make_plan([demand(1)], [vm(state=state, changed_at=NOW - 5)])) == []
            assert len(boots(make_plan([demand(2)], [vm(state=state, changed_at=NOW - 5)]))) == 1

    def test_single_free_cores_fit_no_four_core_job(self) -> None:
        vms = [vm(number) for number in range(4)]
        answer = make_plan([demand(1, request=Resources(4, 500, 1.0))], vms, [slot(each) for each in vms])
        assert [boot.flavor for boot in boots(answer)] == ["large"]

    def test_several_jobs_share_a_worker(self) -> None:
        answer = make_plan([demand(8, request=Resources(1, 500, 1.0), flavor="large")])
        assert len(boots(answer)) == 1
        assert "this worker takes 8" in boots(answer)[0].detail

    def test_rest_of_booted_worker_serves_next_demand(self) -> None:
        answer = make_plan([demand(1, request=Resources(6, 500, 1.0)), demand(2, owner="bob", request=Resources(1, 500, 1.0))])
        assert [boot.flavor for boot in boots(answer)] == ["large"]

    def test_draining_or_removed_worker_has_no_capacity(self) -> None:
        draining = vm(1)
        assert len(boots(make_plan([demand()], [draining], [slot(draining, draining=True)]))) == 1
        for state in (S.RETIRING, S.DELETING, S.ERROR):
            assert len(boots(make_plan([demand()], [vm(state=state, changed_at=NOW - 1)]))) == 1

    def test_other_groups_or_aliases_workers_have_no_capacity(self) -> None:
        other = vm(group="belle")
        clouds = [cloud(), cloud(group="belle")]
        assert len(boots(make_plan([demand()], [other], [slot(other)], clouds))) == 1
        plain = vm()
        pinned = demand(alias="x", requirements='target_alias =?= "x"')
        assert len(boots(make_plan([pinned], [plain], [slot(plain)], groups=[group(aliases={"x": ("a",)})]))) == 1
        aliased = vm(alias="x")
        assert boots(make_plan([pinned], [aliased], [slot(aliased)], groups=[group(aliases={"x": ("a",)})])) == []

    def test_claimed_job_still_queued_idle_needs_no_worker(self) -> None:
        busy = vm(state=S.RUNNING)
        shown = slot(busy, offered(busy.resources), ("alice@distcloud.lab",))
        assert boots(make_plan([demand(1, running=0)], [busy], [shown])) == []
        assert len(boots(make_plan([demand(1, running=1)], [busy], [shown]))) == 1
        assert len(boots(make_plan([demand(1, owner="bob")], [busy], [shown]))) == 1

    def test_claims_unknown_to_queue_are_starting_jobs(self) -> None:
        big = vm(state=S.RUNNING, flavor="large", resources=FLAVORS[2].resources)
        full = slot(big, offered(big.resources), ("alice@pool",) * 3)
        assert boots(make_plan([demand(3)], [big], [full])) == []
        mixed = replace(full, owners=("alice@pool", "bob@pool", "bob@pool"))
        assert len(boots(make_plan([demand(3, flavor="small")], [big], [mixed]))) == 2
        unreachable = make_plan([demand(3, flavor="small")], [big], [full], coverage=PoolCoverage(frozenset({"far"})))
        assert len(boots(unreachable)) == 3, "the claims may belong to jobs of the unreachable queue"

    def test_smaller_observed_offer_selects_larger_flavor(self) -> None:
        small = vm(1, S.IDLE, idle_since=NOW - 10)
        poor = replace(slot(small), total=Resources(1, 300, 5.0), free=Resources(1, 300, 5.0))
        answer = make_plan([demand(request=Resources(1, 500, 1.0))], [small], [poor])
        assert [boot.flavor for boot in boots(answer)] == ["medium"]

    def test_throttles(self) -> None:
        usual = Policy()
        assert len(boots(make_plan([demand(99)], policy=usual))) == usual.max_new_per_cloud_and_cycle
        starting = [vm(number, S.STARTING) for number in range(3)]
        answer = make_plan([demand(99)], starting, policy=usual)
        assert len(boots(answer)) == 2
        idle = [vm(number, S.IDLE, idle_since=NOW - 5) for number in range(6)]
        answer = make_plan([demand(99)], idle, [slot(each) for each in idle], policy=usual)
        assert answer.actions == ()
        assert reasons(answer) == {None: Reason.THROTTLED, "a": Reason.THROTTLED}

    def test_clouds_of_one_project_share_its_quota(self) -> None:
        shared: dict[str, Any] = {"region": "r", "project": "p", "quota": Limits(vms=3)}
        clouds = [cloud("a", **shared), cloud("a", "belle", **shared)]
        running = [vm(1, S.STARTING, group="belle"), vm(2, S.STARTING, group="belle")]
        assert len(boots(make_plan([demand(9)], running, clouds=clouds, groups=[group(), group("belle")]))) == 1

    def test_every_vm_but_gone_counts_against_limit(self) -> None:
        for state in VmState:
            answer = make_plan([demand(9)], [vm(state=state, manual=True, changed_at=NOW - 1)], clouds=[cloud(limits=Limits(vms=2))])
            assert len(boots(answer)) == (2 if state is S.GONE else 1)


class TestFairShare:
    def test_owners_take_turns_least_served_first(self) -> None:
        clouds = [cloud(limits=Limits(vms=4))]
        answer = make_plan([demand(50), demand(50, owner="bob")], clouds=clouds)
        assert Counter(_owner(boot) for boot in boots(answer)) == {"alice": 2, "bob": 2}
        answer = make_plan([demand(50, running=3), demand(50, owner="bob")], clouds=clouds)
        assert [_owner(boot) for boot in boots(answer)] == ["bob", "bob", "bob", "alice"]

    def test_equal_owners_longest_waiting_first(self) -> None:
        answer = make_plan([demand(1), demand(1, owner="bob", waiting_since=NOW - 5000)], clouds=[cloud(limits=Limits(vms=1))])
        assert _owner(boots(answer)[0]) == "bob"

    def test_groups_share_a_project_before_owners(self) -> None:
        shared: dict[str, Any] = {"region": "r", "project": "p", "quota": Limits(vms=4)}
        clouds = [cloud("a", **shared), cloud("b", "belle", **shared)]
        wanted = [demand(9, owner=name) for name in ("alice", "bob", "carol")] + [demand(9, owner="dora", group="belle")]
        answer = make_plan(wanted, clouds=clouds, groups=[group(), group("belle")])
        assert Counter(boot.group for boot in boots(answer)) == {"atlas": 2, "belle": 2}

    def test_job_priority_applies_within_owner_only(self) -> None:
        wanted = [demand(1, priority=1000, flavor="medium"), demand(1, flavor="small"), demand(1, owner="bob", waiting_since=NOW - 999)]
        answer = make_plan(wanted, clouds=[cloud(limits=Limits(vms=2))])
        assert [(_owner(boot), boot.flavor) for boot in boots(answer)] == [("bob", "small"), ("alice", "medium")]


def _owner(boot: Boot) -> str:
    return boot.detail.split(" of ")[1].split()[0]


def test_boots_carry_fields_of_the_ledger() -> None:
    wanted = demand(keep_alive=77, network="a:netA")
    (boot,) = boots(make_plan([wanted], clouds=[cloud(network="usual")]))
    assert (boot.group, boot.cloud, boot.image, boot.network, boot.keep_alive) == ("atlas", "a", IMAGE, "netA", 77)
    assert boot.resources == Flavor("small", Resources(1, 1024, 10.0)).resources
    assert boots(make_plan([demand()], clouds=[cloud(network="usual")]))[0].network == "usual"


@pytest.mark.parametrize("first", [1, 2])
def test_flexible_job_leaves_worker_for_pinned_job(first: int) -> None:
    """A worker is booting for each job; the big job is packed first and would fit on both."""
    big, pinned = demand(request=Resources(2, 100, 1.0)), Resources(1, 2000, 1.0)
    coming = {"flavor": "medium", "resources": FLAVORS[1].resources}
    west = demand(alias="west", requirements='target_alias =?= "west"', request=pinned)
    vms = [vm(first, VmState.REQUESTED, alias="west", **coming), vm(3 - first, VmState.REQUESTED, **coming)]
    assert not boots(make_plan([big, west], vms, groups=[group(aliases={"west": ("a",)})]))

    there = demand(requirements='DistcloudRegion == "r-a"', request=pinned)
    vms = [vm(first, VmState.REQUESTED, **coming), vm(3 - first, VmState.REQUESTED, cloud="b", **coming)]
    assert not boots(make_plan([big, there], vms, clouds=[cloud(), cloud("b")]))
