"""The web application that every service starts from: health, metrics, problems, OpenAPI, and who may call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
class Part:
    """Something that the service stands on. `problem` is empty when it is well; without a `needed` one the service is not ready,
    without another it does its work in part."""

    name: str
    problem: str = ""
    needed: bool = True


class _Application(FastAPI):
    """Describes errors with the media type that they have: FastAPI knows only that of the routes."""

    def openapi(self) -> dict[str, Any]:
        made_before = self.openapi_schema is not None
        schema = super().openapi()
        if not made_before:
            for item in schema["paths"].values():
                for operation in item.values():
                    content = operation["responses"]["default"]["content"]
                    content[problems.MEDIA_TYPE] = content.pop("application/json")
        return schema


def create_app(
    title: str,
    settings: ServiceSettings,
    *,
    alive: Callable[[], str],
    parts: Callable[[], Sequence[Part]],
    description: str = "",
    registry: CollectorRegistry | None = None,
) -> FastAPI:
    """A FastAPI application with everything services share; the service adds its routers.

    `alive` says for /healthz why the process should be started anew (empty: it should not), `parts` for /readyz what the service
    stands on. Neither may wait: anybody may ask. Metrics of the service's other parts go into `registry`.
    """
    metrics = ServiceMetrics(registry)
    app = _Application(
        title=title,
        description=description,
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={"default": {"model": ProblemBody, "description": "What was refused, and why."}},
    )
    authenticator = Authenticator(settings.tokens)
    app.state.authenticator = authenticator
    app.state.metrics = metrics
    app.add_exception_handler(Problem, problems.on_problem)
    app.add_exception_handler(HTTPException, problems.on_http_exception)
    app.add_exception_handler(RequestValidationError, problems.on_invalid_request)
    app.add_middleware(Gate, limits=settings.requests, metrics=metrics, authenticate=authenticator.authenticate)

    @app.get(
        "/healthz",
        tags=["service"],
        summary="Whether the process lives and its loop turns, whatever the outside does",
        responses={503: {"description": "it should be started anew: `problem` says why"}},
    )
    async def healthz() -> JSONResponse:
        problem = alive()
        if problem:
            return JSONResponse({"status": "failing", "problem": problem}, status_code=503)
        return JSONResponse({"status": "ok"})

    @app.get(
        "/readyz",
        tags=["service"],
        summary="Whether the service can do its work, and what it lacks",
        responses={503: {"description": "it cannot: the parts of `parts` that are needed and not ok"}},
    )
    async def readyz() -> JSONResponse:
        found = parts()
        failing = any(part.problem and part.needed for part in found)
        status = "failing" if failing else "degraded" if any(part.problem for part in found) else "ready"
        told = [{"name": part.name, "ok": not part.problem, "needed": part.needed, "problem": part.problem} for part in found]
        return JSONResponse({"status": status, "parts": told}, status_code=503 if failing else 200)

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
    caller = authenticator.authenticate(request.headers)
    request.state.caller = caller.name
    return caller


CallerDep = Annotated[Caller, Depends(authenticated)]
