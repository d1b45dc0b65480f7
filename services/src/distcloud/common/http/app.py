"""The web application that every service starts from: health, metrics, report, problems, OpenAPI, and authentication."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse
from starlette.responses import Response as HttpResponse

from ... import __version__
from ..config import ServiceSettings
from ..logs import get_logger
from ..metrics import ServiceMetrics
from ..storage.database import DatabaseBusy, DatabaseError, DatabaseFull, DatabaseUnavailable
from . import problems
from .apipage import render
from .auth import Authenticator, Caller, kept_caller
from .gate import Gate
from .problems import Problem, ProblemBody
from .report import Report
from .schemas import Response

log = get_logger(__name__)

_bearer = HTTPBearer(auto_error=False, description="A token from the service's configuration")


@dataclass(frozen=True, slots=True)
class Dependency:
    """A dependency shown by /readyz; `problem` is empty when it is healthy.

    A failing *required* one makes the service not ready, a failing optional one degraded.
    """

    name: str
    problem: str = ""
    required: bool = True


def loop_dependencies(problem: str, database: str) -> list[Dependency]:
    """The dependencies that every engine has: its loop, with `problem`, and the database as the last cycle found it."""
    return [Dependency("engine", "" if problem == database else problem), Dependency("database", database)]


class Liveness(Response):
    """The response of /healthz."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    status: Literal["ok", "failing"]
    problem: str = Field("", exclude_if=lambda problem: not problem, description="why the service should be restarted")


class DependencyStatus(Response):
    """One dependency in the response of /readyz."""

    name: str
    ok: bool
    required: bool
    problem: str


class Readiness(Response):
    """The response of /readyz."""

    status: Literal["ready", "degraded", "failing"]
    dependencies: list[DependencyStatus]


ReportSource = Callable[[Caller], Awaitable[Report]]


class _Application(FastAPI):
    """Declares errors with their media type: FastAPI knows only that of the routes."""

    def openapi(self) -> dict[str, Any]:
        cached = self.openapi_schema is not None
        schema = super().openapi()
        if not cached:
            for item in schema["paths"].values():
                for operation in item.values():
                    default = operation["responses"]["default"]
                    default["content"] = {problems.MEDIA_TYPE: next(iter(default["content"].values()))}
        return schema


def create_app(
    title: str,
    settings: ServiceSettings,
    *,
    stuck: Callable[[], str],
    dependencies: Callable[[], Sequence[Dependency]],
    report: ReportSource,
    description: str = "",
    registry: CollectorRegistry | None = None,
) -> FastAPI:
    """A FastAPI application with everything services share; the service adds its routers.

    `stuck` returns why the process should be restarted (empty: it should not), `dependencies` the state of all dependencies. Neither
    may block: anybody may call /healthz and /readyz. Metrics of the service's other parts go into `registry`.
    """
    metrics = ServiceMetrics(registry)
    app = _Application(
        title=title,
        description=description,
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={"default": {"model": ProblemBody, "description": "The request was rejected or failed."}},
    )
    authenticator = Authenticator(settings.tokens)
    app.state.authenticator = authenticator
    app.state.metrics = metrics
    app.add_exception_handler(Problem, problems.on_problem)
    app.add_exception_handler(HTTPException, problems.on_http_exception)
    app.add_exception_handler(RequestValidationError, problems.on_invalid_request)
    app.add_exception_handler(DatabaseError, _on_database_error)
    app.add_middleware(Gate, limits=settings.requests, metrics=metrics, authenticate=authenticator.authenticate)
    _add_probes(app, stuck, dependencies)

    @app.get("/metrics", tags=["service"], summary="Prometheus metrics", response_class=_Metrics)
    async def show_metrics() -> _Metrics:
        return _Metrics(metrics.render())

    @app.get("/v1/report", tags=["service"], summary="The engine's section of the site report")
    async def get_report(caller: CallerDep) -> Report:
        return await report(caller)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(render(app.openapi()))

    return app


def _add_probes(app: FastAPI, stuck: Callable[[], str], dependencies: Callable[[], Sequence[Dependency]]) -> None:
    @app.get(
        "/healthz",
        tags=["service"],
        summary="Liveness probe",
        description="Fails when the service's loop is stuck and a restart is needed, never because of a dependency.",
        response_model=Liveness,
        responses={503: {"model": Liveness, "description": "The service should be restarted; `problem` has the reason."}},
    )
    async def healthz() -> HttpResponse:
        problem = stuck()
        return model_response(Liveness(status="failing" if problem else "ok", problem=problem), 503 if problem else 200)

    @app.get(
        "/readyz",
        tags=["service"],
        summary="Readiness probe",
        description="Lists the service's dependencies; without an optional one the service is degraded.",
        response_model=Readiness,
        responses={503: {"model": Readiness, "description": "Not ready: a required dependency fails."}},
    )
    async def readyz() -> HttpResponse:
        found = dependencies()
        failing = any(each.problem and each.required for each in found)
        body = Readiness(
            status="failing" if failing else "degraded" if any(each.problem for each in found) else "ready",
            dependencies=[
                DependencyStatus(name=each.name, ok=not each.problem, required=each.required, problem=each.problem) for each in found
            ],
        )
        return model_response(body, 503 if failing else 200)


class _Metrics(HttpResponse):
    media_type = ServiceMetrics.content_type


def model_response(model: BaseModel, status: int = 200) -> HttpResponse:
    """A response from a model that is valid already: FastAPI would validate and convert it once more.

    Use with `response_model` in the route, which then only describes the response in the OpenAPI document.
    """
    return HttpResponse(model.model_dump_json(by_alias=True), status, media_type="application/json")


async def _on_database_error(request: Request, error: Exception) -> HttpResponse:
    log.error("database_failed", error=str(error), exc_info=error)
    if isinstance(error, DatabaseBusy | DatabaseFull | DatabaseUnavailable):
        return problems.response(Problem(503, "database", str(error), headers={"Retry-After": "10"}))
    return problems.response(problems.internal(str(structlog.contextvars.get_contextvars().get("request_id", ""))))


async def authenticated(request: Request, _: Annotated[Any, Depends(_bearer)]) -> Caller:
    """The caller of a request; Problem 401 without a valid token. Use as `caller: CallerDep`."""
    caller = kept_caller(request.scope)
    if caller is None:
        authenticator: Authenticator = request.app.state.authenticator
        caller = authenticator.authenticate(request.headers)  # says what is wrong with the token
    request.state.caller = caller.name
    return caller


CallerDep = Annotated[Caller, Depends(authenticated)]
