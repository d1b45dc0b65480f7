"""The scheduler's REST API: wishes, the ledger, and why the scheduler does what it does."""

from __future__ import annotations

from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry
from starlette.responses import JSONResponse

from ...common import problems
from ...common.database import DatabaseError
from ...common.http import Health
from ...common.http import create_app as create_base
from ...common.logging import get_logger
from ...common.problems import Problem
from ..catalogue import Catalogue
from ..settings import SchedulerSettings
from ..view import EngineView
from .catalogue_routes import catalogue_router
from .engine_routes import engine_router

__all__ = ["create_app"]

DESCRIPTION = (
    "Boots workers in many clouds for jobs that wait in an HTCondor pool, and retires them when there is no more work. "
    "A PUT creates or updates: a field that is left out stays as it is, null returns it to its default, dry_run=true changes nothing."
)

log = get_logger("distcloud.api")


def create_app(
    settings: SchedulerSettings, view: EngineView, catalogue: Catalogue, *, registry: CollectorRegistry | None = None
) -> FastAPI:
    """The application; the engine's own metrics go into `registry`."""
    app = create_base("Cloud Scheduler", settings, health=lambda: Health(_problem_of(view)), description=DESCRIPTION, registry=registry)
    app.include_router(catalogue_router(catalogue))
    app.include_router(engine_router(view, domain=settings.pool.domain, condor_host=settings.condor_host))
    app.add_exception_handler(DatabaseError, _on_database_error)
    return app


def _problem_of(view: EngineView) -> str:
    status = view.status()
    return "" if status.healthy else status.problem or "the engine does not run"


async def _on_database_error(_: Request, error: Exception) -> JSONResponse:
    log.error("database_failed", error=str(error))
    detail = f"the database cannot be used at the moment, nothing was changed: {error}"
    return problems.response(Problem(503, "database", detail, headers={"Retry-After": "10"}))
