"""The scheduler's REST API: the catalog, the ledger, and the reasons of the scheduler's decisions."""

from __future__ import annotations

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from ...common.http.app import Dependency, loop_dependencies
from ...common.http.app import create_app as create_base
from ..catalog.catalog import Catalog
from ..engine.view import EngineStatus, EngineView
from ..matching.ad_matcher import AdMatcher
from ..matching.matcher import Matcher
from ..settings import SchedulerSettings
from .catalog_routes import catalog_router
from .engine_routes import engine_router
from .report import scheduler_report

DESCRIPTION = (
    "Boots workers in many clouds for jobs that wait in an HTCondor pool, and retires them when there is no more work. "
    "PUT creates or updates: a field that is left out keeps its value, null resets it to its default, dry_run=true changes nothing."
)


def create_app(
    settings: SchedulerSettings,
    view: EngineView,
    catalog: Catalog,
    *,
    registry: CollectorRegistry | None = None,
    ad_matcher: AdMatcher | None = None,
) -> FastAPI:
    """Create the application. `registry` holds the engine's metrics; `ad_matcher` decides whether a job matches (see `Matcher`)."""
    app = create_base(
        "Cloud Scheduler",
        settings,
        stuck=lambda: view.status().stuck,
        dependencies=lambda: dependencies_of(view.status()),
        report=lambda caller: scheduler_report(view, caller),
        description=DESCRIPTION,
        registry=registry,
    )
    app.include_router(catalog_router(catalog))
    app.include_router(engine_router(view, Matcher(settings.pool.domain, settings.condor_host, ad_matcher=ad_matcher)))
    return app


def dependencies_of(status: EngineStatus) -> list[Dependency]:
    """The dependencies shown by /readyz. A single cloud or queue is optional; that at least one enabled cloud can be used is required.

    /readyz needs no token, so the text of a cloud's error, which is for its group only, is not repeated here.
    """
    clouds = [cloud for cloud in status.clouds if cloud.enabled]
    broken = [cloud for cloud in clouds if not cloud.reachable]
    none = f"none of {len(clouds)} enabled clouds can be used" if clouds and len(broken) == len(clouds) else ""
    return [
        *loop_dependencies(status.problem, status.database),
        Dependency("pool", "" if status.pool.reachable else status.pool.error or "not asked yet"),
        *(Dependency(f"queue {name}", why, required=False) for name, why in sorted(status.pool.unreachable_queues.items())),
        Dependency("minter", status.minter),
        Dependency("clouds", none),
        *(
            Dependency(f"cloud {cloud.group}/{cloud.cloud}", "cannot be used; GET /v1/status shows the reason", required=False)
            for cloud in broken
        ),
    ]
