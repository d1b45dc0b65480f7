"""The web application that every service starts from: health, metrics, problems, OpenAPI, and who may call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response

from .. import __version__
from . import problems
from .apipage import render
from .auth import Authenticator, Caller
from .config import ServiceSettings
from .gate import Gate
from .metrics import ServiceMetrics
from .problems import Problem, ProblemBody

_bearer = HTTPBearer(auto_error=False, description="A token from the service's configuration")


@dataclass(frozen=True, slots=True)
class Health:
    """`problem` is empty when all is well, else says what is wrong."""

    problem: str = ""


def create_app(
    title: str,
    settings: ServiceSettings,
    *,
    health: Callable[[], Health],
    description: str = "",
    registry: CollectorRegistry | None = None,
) -> FastAPI:
    """A FastAPI application with everything services share; the service adds its routers.

    `health` is asked on each /healthz. Metrics of the service's other parts go into `registry`.
    """
    metrics = ServiceMetrics(registry)
    app = FastAPI(
        title=title,
        description=description,
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={"default": {"model": ProblemBody, "description": "What was refused, and why."}},
    )
    app.state.authenticator = Authenticator(settings.tokens)
    app.state.metrics = metrics
    app.add_exception_handler(Problem, problems.on_problem)
    app.add_exception_handler(HTTPException, problems.on_http_exception)
    app.add_exception_handler(RequestValidationError, problems.on_invalid_request)
    app.add_middleware(Gate, limits=settings.requests, metrics=metrics)

    @app.get("/healthz", tags=["service"], summary="Whether the service does its work")
    async def healthz() -> JSONResponse:
        state = health()
        if state.problem:
            return JSONResponse({"status": "failing", "problem": state.problem}, status_code=503)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", tags=["service"], summary="Prometheus metrics")
    async def show_metrics() -> Response:
        return Response(metrics.render(), media_type=metrics.content_type)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(render(app.openapi()))

    return app


async def authenticated(request: Request, _: Annotated[Any, Depends(_bearer)]) -> Caller:
    """The caller of a request; 401 when there is none. Use as `caller: CallerDep`."""
    authenticator: Authenticator = request.app.state.authenticator
    caller = authenticator(request)
    request.state.caller = caller.name
    return caller


CallerDep = Annotated[Caller, Depends(authenticated)]
