"""Shared by the API tests: an engine with fixed answers, tokens of every scope, a real database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from distcloud.common.config import check
from distcloud.common.secretbox import SecretBox
from distcloud.common.storage.database import Database
from distcloud.scheduler.api.app import create_app
from distcloud.scheduler.catalog.catalog import Catalog
from distcloud.scheduler.domain.model import PlanInputs, Resources, Vm, VmState
from distcloud.scheduler.domain.records import VmDetail, VmPage, VmTotals
from distcloud.scheduler.engine.view import CloudStatus, EngineStatus, ExplainInputs, PlanRecord, PoolStatus, RetireResult
from distcloud.scheduler.settings import SchedulerSettings

from ...common.support.api_client import AppClient, token_settings

TOKENS = {
    "admin": ("cloud_admin", ()),
    "atlas": ("group_admin", ("atlas",)),
    "belle": ("group_admin", ("belle2",)),
    "viewer": ("viewer", ()),
    "atlas-viewer": ("viewer", ("atlas",)),
}


def settings(**changes: Any) -> SchedulerSettings:
    data: dict[str, Any] = {
        "listen": {"port": 8443},
        "pool": {"collector": "c", "schedds": ["s"], "domain": "distcloud.lab"},
        "condor_host": "central.distcloud.lab",
        "tokens": token_settings(TOKENS),
        "requests": {"per_second": 100000, "burst": 100000},
    }
    return check({**data, **changes}, SchedulerSettings, "test")


def vm(number: int, group: str = "atlas", state: VmState = VmState.RUNNING) -> Vm:
    return Vm(
        id="vm-" + f"{number:016d}".translate(str.maketrans("0189", "abcd")),
        group=group,
        cloud="victoria",
        flavor="m1",
        image="worker",
        resources=Resources(1, 2000, 20.0),
        state=state,
        requested_at=1000.0 + number,
        changed_at=1000.0 + number,
    )


@dataclass
class FakeEngine:
    """An EngineView over plain values; `woken` counts wake()."""

    rows: list[Vm] = field(default_factory=list)
    problem: str = ""
    stuck: str = ""
    database: str = ""
    pool: PoolStatus = field(default_factory=lambda: PoolStatus(True, "", 1.0, 0, 0, 0))
    clouds: tuple[CloudStatus, ...] = ()
    plan: PlanRecord | None = None
    inputs: ExplainInputs | None = None
    woken: int = 0

    def status(self) -> EngineStatus:
        problem = self.stuck or self.problem or self.database
        known = (not problem, problem, self.stuck, self.database, "", self.pool, self.clouds, {"running": len(self.rows)})
        return EngineStatus("uuid", 0.0, 1, 1.0, 0.1, 0.0, *known)

    def last_plan(self) -> PlanRecord | None:
        return self.plan

    async def vms(
        self,
        *,
        states: Sequence[VmState] | None = None,
        groups: Sequence[str] | None = None,
        cloud: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> VmPage:
        begin = int(cursor or 0)
        rows = [
            row
            for row in sorted(self.rows, key=lambda row: -row.requested_at)
            if (row.state in states if states is not None else row.state != VmState.GONE)
            and (groups is None or row.group in groups)
            and (cloud is None or row.cloud == cloud)
        ]
        found = rows[begin : begin + limit]
        more = str(begin + limit) if begin + limit < len(rows) else None
        return VmPage(tuple(VmDetail(row, "Victoria", None, None) for row in found), more)

    async def totals(self, groups: Sequence[str] | None = None) -> tuple[VmTotals, ...]:
        counts = Counter((row.group, row.cloud, row.state.value) for row in self.rows if groups is None or row.group in groups)
        return tuple(VmTotals(group, cloud, "Victoria", {state: count}) for (group, cloud, state), count in sorted(counts.items()))

    async def vm(self, vm_id: str) -> VmDetail | None:
        return next((VmDetail(row, "Victoria", None, None) for row in self.rows if row.id == vm_id), None)

    async def retire(self, vm_id: str, who: str) -> RetireResult:
        for number, row in enumerate(self.rows):
            if row.id == vm_id:
                self.rows[number] = replace(row, state=VmState.RETIRING)
                return RetireResult(row.state != VmState.RETIRING, row.state, VmState.RETIRING)
        raise KeyError(vm_id)

    async def explain_inputs(self, job: str) -> ExplainInputs:
        return self.inputs or ExplainInputs(job, False, None, None, PlanInputs())

    def wake(self) -> None:
        self.woken += 1


@dataclass
class Api:
    """An application running in this process, with its parts."""

    app: FastAPI
    engine: FakeEngine
    database: Database
    catalog: Catalog


async def make_api(folder: Path, url: str | None = None, **changes: Any) -> Api:
    key = folder / "key"
    if not key.exists():
        SecretBox.create_file(key)
    database = Database(url or f"sqlite:///{folder}/api.db", "scheduler")
    await database.migrate("distcloud.scheduler")
    engine = FakeEngine()
    catalog = Catalog(database, SecretBox.from_file(key), engine.wake)
    return Api(create_app(settings(**changes), engine, catalog), engine, database, catalog)


class Client(AppClient):
    """A client of the scheduler's application, with its parts."""

    def __init__(self, runner: asyncio.Runner, api: Api) -> None:
        super().__init__(runner, api.app)
        self.api = api
        self.engine = api.engine


@contextmanager
def client(folder: Path, url: str | None = None, **changes: Any) -> Iterator[Client]:
    """An application with its database, for the duration of a test."""
    with asyncio.Runner() as runner:
        api = runner.run(make_api(folder, url, **changes))
        try:
            yield Client(runner, api)
        finally:
            runner.run(api.database.close())
