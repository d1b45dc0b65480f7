"""A cloud that makes up servers with our ownership tag, or claims servers of another one, costs and removes no more than its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from distcloud.scheduler.domain.ids import new_vm_id
from distcloud.scheduler.domain.model import Resources, Vm, VmState
from distcloud.scheduler.domain.states import ServerStatus
from distcloud.scheduler.drivers.base import META_CLOUD, META_GROUP, META_SCHEDULER, META_VM, Listing, Server
from distcloud.scheduler.engine.monitor import Timing
from distcloud.scheduler.engine.reconcile import postpone, reconcile_listing

from ..support.fakes import FakeJob, FakeWorld
from ..support.scripted import play
from ..support.stage import Stage
from ..support.strategies import NOW, vm

UUID = "the-scheduler"
HOME = ("atlas", "a")
KNOWN = frozenset({HOME, ("belle", "b")})


def tagged(number: int, *, uuid: str = UUID, vm_id: str = "", home: tuple[str, str] = HOME) -> Server:
    metadata = {META_SCHEDULER: uuid, META_VM: vm_id or new_vm_id(), META_GROUP: home[0], META_CLOUD: home[1]}
    return Server(f"made-up-{number}", "x", ServerStatus.ACTIVE, metadata, Resources(1, 1024, 1.0))


@st.composite
def listings(draw: st.DrawFn) -> tuple[Listing, list[Vm]]:
    rows = [vm(1, VmState.RUNNING), vm(2, VmState.REQUESTED, server_id=None), vm(3, VmState.RUNNING, group="belle", cloud="b")]
    kinds = {
        "orphan": lambda number: tagged(number),
        "copy": lambda number: tagged(number, vm_id=rows[0].id),
        "of unknown cloud": lambda number: tagged(number, home=("gone", "gone")),
        "ours": lambda number: replace(tagged(number, vm_id=rows[0].id), id="server-1"),
        "requested": lambda number: tagged(number, vm_id=rows[1].id),
        "neighbor": lambda number: tagged(number, home=("belle", "b")),
        "of another scheduler": lambda number: tagged(number, uuid="another"),
        "foreign": lambda number: Server(f"foreign-{number}", "x", ServerStatus.ACTIVE),
    }
    drawn = draw(st.lists(st.sampled_from(sorted(kinds)), max_size=12))
    return Listing(tuple(kinds[kind](number) for number, kind in enumerate(drawn)), draw(st.booleans())), rows


def reconciled(listing: Listing, rows: Sequence[Vm]):  # type: ignore[no-untyped-def]
    return reconcile_listing(HOME, listing, NOW, rows, scheduler_uuid=UUID, known_clouds=KNOWN, settled={row.id for row in rows})


@given(listings(), st.integers(0, 6))
def test_only_orphans_are_postponed(world: tuple[Listing, list[Vm]], most: int) -> None:
    listing, rows = world
    kept, postponed = postpone(HOME, listing, rows, scheduler_uuid=UUID, known_clouds=KNOWN, most=most)
    before, after = reconciled(listing, rows), reconciled(kept, rows)
    assert len(after.orphans) <= most and len(before.orphans) == len(after.orphans) + postponed
    assert (before.observations, before.foreign, before.neighbors) == (after.observations, after.foreign, after.neighbors)
    assert kept.complete == listing.complete and (postponed or kept == listing)


@given(st.permutations([vm(1, VmState.RUNNING, server_id="s"), vm(2, VmState.RUNNING, group="belle", cloud="b", server_id="s")]))
def test_server_claimed_by_another_cloud_keeps_its_row(rows: list[Vm]) -> None:
    """A cloud may answer a create with the id of any server."""
    mine = next(row for row in rows if row.cloud == "a")
    server = replace(tagged(0, vm_id=mine.id), id="s")
    found = reconciled(Listing((server,)), rows)
    assert {vm_id: seen.server for vm_id, seen in found.observations.items()} == {mine.id: ServerStatus.ACTIVE}


def test_made_up_servers_are_adopted_in_steps(tmp_path: Path) -> None:
    world = FakeWorld(jobs=[FakeJob(10)])
    east, west = world.cloud("east"), world.cloud("west")

    async def script(stage: Stage) -> None:
        uuid = stage.engine.status().scheduler_uuid
        east.foreign = [tagged(number, uuid=uuid, home=("atlas", "east")) for number in range(1500)]
        west.foreign = [replace(tagged(0, uuid=uuid, home=("atlas", "west")), id="real")]
        await stage.turn()  # starts the monitors
        seen = [0]
        for _ in range(6):
            await stage.turn()
            vms = await stage.vms()
            made_up = [each for each in vms if each.cloud == "east" and each.server_id and each.server_id.startswith("made-up")]
            assert len(made_up) - seen[-1] <= Timing().adoptions and len(made_up) <= Timing().removals
            seen.append(len(made_up))
            assert any(each.server_id == "real" for each in vms), "another cloud's are adopted at once"
            status = {cloud.cloud: cloud for cloud in stage.engine.status().clouds}
            assert status["east"].unadopted_servers == 1500 - len(made_up) and "ownership tag" in status["east"].error
            assert (status["west"].unadopted_servers, status["west"].error) == (0, "")
        assert seen[-1] == Timing().removals

    play(tmp_path, world, script, "east", "west")


def test_orphans_are_all_adopted_in_the_end(tmp_path: Path) -> None:
    world = FakeWorld()
    east = world.cloud("east")

    async def script(stage: Stage) -> None:
        uuid = stage.engine.status().scheduler_uuid
        east.foreign = [tagged(number, uuid=uuid, home=("atlas", "east")) for number in range(60)]
        for _ in range(12):
            await stage.turn(20.0)
            deleted = {each.server_id for each in await stage.vms() if each.state is VmState.DELETING}
            east.foreign = [server for server in east.foreign if server.id not in deleted]
        assert not east.foreign and len(await stage.vms()) == 60
        assert stage.engine.status().clouds[0].unadopted_servers == 0

    play(tmp_path, world, script, "east")
