"""The scheduler's REST API: wishes, the ledger, and why the scheduler does what it does."""

from __future__ import annotations

from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry
from starlette.responses import JSONResponse

from ...common import problems
from ...common.app import Part
from ...common.app import create_app as create_base
from ...common.database import DatabaseError
from ...common.logs import get_logger
from ...common.problems import Problem
from ..catalog.catalog import Catalogue
from ..engine.view import EngineStatus, EngineView
from ..matching.ad_matcher import AdMatcher
from ..matching.matcher import Matcher
from ..settings import SchedulerSettings
from .catalog_routes import catalogue_router
from .engine_routes import engine_router

__all__ = ["create_app"]

DESCRIPTION = (
    "Boots workers in many clouds for jobs that wait in an HTCondor pool, and retires them when there is no more work. "
    "A PUT creates or updates: a field that is left out stays as it is, null returns it to its default, dry_run=true changes nothing."
)

log = get_logger("distcloud.api")


def create_app(
    settings: SchedulerSettings,
    view: EngineView,
    catalogue: Catalogue,
    *,
    registry: CollectorRegistry | None = None,
    ad_matcher: AdMatcher | None = None,
) -> FastAPI:
    """The application; the engine's own metrics go into `registry`, `ad_matcher` answers whether a job matches (see `Matcher`)."""
    app = create_base(
        "Cloud Scheduler",
        settings,
        alive=lambda: view.status().stuck,
        parts=lambda: parts_of(view.status()),
        description=DESCRIPTION,
        registry=registry,
    )
    app.include_router(catalogue_router(catalogue))
    app.include_router(engine_router(view, Matcher(settings.pool.domain, settings.condor_host, ad_matcher=ad_matcher)))
    app.add_exception_handler(DatabaseError, _on_database_error)
    return app


def parts_of(status: EngineStatus) -> list[Part]:
    """What the scheduler stands on. One cloud or queue of several may fail and the others go on; that all clouds fail is another thing.

    Who asks is not known, so the words of a cloud's error, which are for its group, are not repeated here.
    """
    clouds = [cloud for cloud in status.clouds if cloud.enabled]
    broken = [cloud for cloud in clouds if not cloud.reachable]
    none = f"none of {len(clouds)} enabled clouds can be used" if clouds and len(broken) == len(clouds) else ""
    return [
        Part("engine", "" if status.problem == status.database else status.problem),
        Part("database", status.database),
        Part("pool", "" if status.pool.reachable else status.pool.error or "not asked yet"),
        *(Part(f"queue {name}", why, needed=False) for name, why in sorted(status.pool.unheard_queues.items())),
        Part("minter", status.minter),
        Part("clouds", none),
        *(Part(f"cloud {cloud.group}/{cloud.cloud}", "cannot be used; GET /v1/status says why", needed=False) for cloud in broken),
    ]


async def _on_database_error(_: Request, error: Exception) -> JSONResponse:
    log.error("database_failed", error=str(error))
    detail = f"the database cannot be used at the moment, nothing was changed: {error}"
    return problems.response(Problem(503, "database", detail, headers={"Retry-After": "10"}))
