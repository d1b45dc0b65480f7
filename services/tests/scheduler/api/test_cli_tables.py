"""The tables of the command line: unknown figures, and text of others."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from rich.console import Console

from distcloud.scheduler import cli_tables
from distcloud.scheduler.api.schemas import ExplanationResponse, RetireResponse, StatusResponse, TotalsResponse, VmListResponse
from distcloud.scheduler.domain.model import Cloud, Demand, Flavor, Group, PlanInputs, Resources
from distcloud.scheduler.engine.view import CloudStatus, ExplainInputs, PoolStatus

from ..support.api_world import client, vm

HOSTILE = "[red]a\x1b[2J\x07\rb\x9b\u202ec"
SMALL = Flavor("m1", Resources(1, 2000, 20.0))
JOB = Demand("atlas", "alice", "TARGET.HasGpu =?= true", Resources(1, 1000, 1.0), idle=1)
VICTORIA = Cloud("victoria", "atlas", "Victoria", enabled=True, flavors=(SMALL,), images=frozenset({"worker"}), default_image="worker")
CLOUD = CloudStatus("atlas", "victoria", "Victoria", True, False, True, "closed", None, "", 1.0, {"idle": 2}, 4, 9, None, None)


def printed(table: Any, found: BaseModel, is_terminal: bool = False) -> str:
    out = io.StringIO()
    table(found, Console(file=out, width=400, force_terminal=is_terminal, color_system=None))
    return out.getvalue()


def test_unknown_figures_are_question_marks(tmp_path: Path) -> None:
    with client(tmp_path) as call:
        for asked, figure, foreign, quota in ((1.0, 0, 4, 9), (None, "?", "?", "?")):
            call.engine.pool = PoolStatus(asked is not None, "", asked, 0, 0, 0)
            call.engine.clouds = (replace(CLOUD, observed_at=asked),)
            text = printed(cli_tables.status, StatusResponse.model_validate(call("GET", "/v1/status").json()))
            assert f"Pool: {figure} jobs idle, {figure} running, {figure} workers" in text and f"\t2 idle\t{foreign}\t" in text
            clouds = call("GET", "/v1/report").json()["tables"][0]
            row = dict(zip(clouds["columns"], clouds["rows"][0], strict=True))
            assert list(row.values())[4:7] == [2, foreign, quota]


def hostile(found: BaseModel) -> BaseModel:
    """The response with hostile text in every field that a table prints as it is."""
    for name in type(found).model_fields:
        value = getattr(found, name)
        if isinstance(value, BaseModel):
            hostile(value)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, BaseModel):
                    hostile(item)
        elif type(value) is str and not name.endswith("_at"):
            object.__setattr__(found, name, HOSTILE)
        elif isinstance(value, dict):
            object.__setattr__(found, name, {HOSTILE: HOSTILE if isinstance(next(iter(value.values()), 0), str) else 1})
    return found


@pytest.mark.parametrize("is_terminal", [False, True])
def test_tables_print_no_control_character(tmp_path: Path, is_terminal: bool) -> None:
    with client(tmp_path) as call:
        call.engine.rows = [vm(1)]
        call.engine.problem = "x"
        call.engine.pool = PoolStatus(False, "x", 1.0, 0, 0, 0, {"queue": "x"})
        call.engine.clouds = (replace(CLOUD, error="x"),)
        world = PlanInputs(demand=(JOB,), clouds=(VICTORIA,), groups=(Group("atlas"),), now=1000.0)
        call.engine.inputs = ExplainInputs("12.0", True, 1, JOB, world)
        responses: list[tuple[Any, BaseModel]] = [
            (cli_tables.status, StatusResponse.model_validate(call("GET", "/v1/status").json())),
            (cli_tables.vms, VmListResponse.model_validate(call("GET", "/v1/vms").json())),
            (cli_tables.totals, TotalsResponse.model_validate(call("GET", "/v1/totals").json())),
            (cli_tables.explanation, ExplanationResponse.model_validate(call("GET", "/v1/explain?job=12.0").json())),
            (cli_tables.retired, RetireResponse.model_validate(call("POST", f"/v1/vms/{vm(1).id}/retire").json())),
        ]
    for table, found in responses:
        text = printed(table, hostile(found), is_terminal)
        assert all(sign.isprintable() or sign in "\n\t" for sign in text), text
        assert table is cli_tables.retired or "[red]a?[2J" in text, "markup is shown as it is"
