"""Properties of every listing: each of our servers has exactly one owner, and every server is counted once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from distcloud.scheduler.domain.model import CloudKey, Resources, Vm, VmState
from distcloud.scheduler.domain.states import ServerStatus
from distcloud.scheduler.drivers.base import META_CLOUD, META_GROUP, META_SCHEDULER, META_VM, Listing, Server
from distcloud.scheduler.engine.reconcile import ReconciledListing, reconcile_listing

from ..support.strategies import NOW, vm

UUID = "the-scheduler"
KEYS: tuple[CloudKey, ...] = (("atlas", "a"), ("atlas", "b"), ("belle", "a"))
LIVE = tuple(state for state in VmState if state is not VmState.GONE)


@dataclass(frozen=True)
class Project:
    """One project that all clouds of the catalog share, with one server; `rows` are passed as the monitors pass them."""

    known: frozenset[CloudKey]
    server: Server
    rows: tuple[Vm, ...]
    settled: frozenset[str]
    complete: bool

    @property
    def ours(self) -> bool:
        return self.server.metadata[META_SCHEDULER] == UUID

    def read(self, key: CloudKey) -> ReconciledListing:
        listing = Listing((self.server,), self.complete)
        return reconcile_listing(key, listing, NOW, self.rows, scheduler_uuid=UUID, known_clouds=self.known, settled=self.settled)

    def readings(self) -> dict[CloudKey, ReconciledListing]:
        return {key: self.read(key) for key in sorted(self.known)}


@st.composite
def projects(draw: st.DrawFn) -> Project:
    """A cloud with live rows cannot be deleted from the catalog; one with only closed rows can."""
    known = draw(st.frozensets(st.sampled_from(KEYS), min_size=1))
    live: list[Vm] = []
    for number in range(draw(st.integers(0, 3))):
        group, cloud = draw(st.sampled_from(sorted(known)))
        taken = {row.server_id for row in live} - {None}
        server_id = draw(st.sampled_from(sorted({"s", f"other-{number}"} - taken)) | st.none())
        live.append(vm(number, draw(st.sampled_from(LIVE)), group=group, cloud=cloud, server_id=server_id))
    closed = vm(9, VmState.GONE, server_id=draw(st.sampled_from(("s", "other-9", None))))
    group, cloud = draw(st.sampled_from(KEYS))
    closed = replace(closed, group=group, cloud=cloud)
    named = draw(st.sampled_from((*(row.id for row in live), closed.id, closed.id, "vm-of-no-row", "")))
    home = draw(st.sampled_from(KEYS))
    metadata = {
        META_SCHEDULER: draw(st.sampled_from((UUID, UUID, UUID, "another"))),
        META_VM: named,
        META_GROUP: home[0],
        META_CLOUD: home[1],
    }
    server = Server("s", named, draw(st.sampled_from(tuple(ServerStatus))), metadata, Resources(1, 1024, 10.0))
    rows = (*live, closed) if named == closed.id else tuple(live)
    settled = draw(st.frozensets(st.sampled_from([row.id for row in live]))) if live else frozenset()
    return Project(known, server, rows, settled, draw(st.booleans()))


def observed(reading: ReconciledListing) -> list[str]:
    return [vm_id for vm_id, seen in reading.observations.items() if seen.server_id == "s"]


@given(projects())
def test_every_cloud_counts_each_listed_server_once(project: Project) -> None:
    for reading in project.readings().values():
        as_what = [bool(observed(reading)), bool(reading.orphans), bool(reading.foreign.vms), bool(reading.neighbors)]
        assert as_what.count(True) == 1, reading


@given(projects())
def test_our_server_has_an_owning_cloud(project: Project) -> None:
    kept = [key for key, reading in project.readings().items() if observed(reading) or reading.orphans]
    assert kept or not project.ours


@given(projects())
def test_only_its_cloud_observes_a_live_server(project: Project) -> None:
    keeper = next((row for row in project.rows if row.server_id == "s" and row.state is not VmState.GONE), None)
    if keeper is None:
        return
    for key, reading in project.readings().items():
        assert not reading.orphans
        assert observed(reading) == ([keeper.id] if key == (keeper.group, keeper.cloud) else [])


@given(projects())
def test_adopted_orphan_is_not_orphan_again(project: Project) -> None:
    key = next((key for key, reading in project.readings().items() if reading.orphans), None)
    if key is None:
        return
    adopted = vm(7, VmState.RETIRING, group=key[0], cloud=key[1], server_id="s")
    again = replace(project, rows=(adopted, *project.rows))
    assert not any(reading.orphans for reading in again.readings().values())
    assert observed(again.read(key)) == [adopted.id]


@given(projects())
def test_every_live_row_is_observed(project: Project) -> None:
    for key, reading in project.readings().items():
        mine = {row.id: row for row in project.rows if (row.group, row.cloud) == key}
        live = {row.id for row in mine.values() if row.state is not VmState.GONE}
        assert live <= reading.observations.keys() <= mine.keys()
        for vm_id in live.difference(observed(reading)):
            proven = project.complete and vm_id in project.settled
            assert reading.observations[vm_id].server is (ServerStatus.MISSING if proven else ServerStatus.UNKNOWN)
