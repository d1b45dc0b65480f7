"""The router for an engine's routes: they get the body that was parsed before, and only query parameters that they know."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from .bodies import PARSED_BODY
from .problems import FieldError, Problem


class _ParsedRequest(Request):
    async def json(self) -> Any:
        return self.scope["state"][PARSED_BODY]


class _Route(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        known: dict[str, Mapping[str, bool]] = {}

        async def handle_strictly(request: Request) -> Response:
            if request.query_params:
                if request.method not in known:
                    known[request.method] = _query_parameters(request.app, self.path_format, request.method)
                _check_query(request, known[request.method])
            return await handle(_ParsedRequest(request.scope, request.receive))

        return handle_strictly


class Router(APIRouter):
    """As FastAPI's router, but a misspelled or repeated query parameter is refused: a misspelled dry run would write."""

    def __init__(self, *, prefix: str = "", tags: list[str] | None = None) -> None:
        super().__init__(prefix=prefix, tags=list(tags or []), route_class=_Route)


def _query_parameters(app: FastAPI, path: str, method: str) -> dict[str, bool]:
    """The query parameters of a route by the OpenAPI document: name -> whether it may be repeated."""
    operation = app.openapi()["paths"].get(path, {}).get(method.lower(), {})
    found = {}
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "query":
            schemas = [parameter["schema"], *parameter["schema"].get("anyOf", [])]
            found[parameter["name"]] = any(schema.get("type") == "array" for schema in schemas)
    return found


def _check_query(request: Request, known: Mapping[str, bool]) -> None:
    """Raises Problem 422."""
    errors = []
    for name in request.query_params:
        shown = name[:64]
        if name not in known:
            allowed = f"use {', '.join(sorted(known))}" if known else "this path has none"
            errors.append(FieldError(shown, f"is not a query parameter of this path; {allowed}"))
        elif not known[name] and len(request.query_params.getlist(name)) > 1:
            errors.append(FieldError(shown, "is given more than once"))
    if errors:
        raise Problem(422, "invalid", "; ".join(f"{error.field}: {error.message}" for error in errors[:10]), errors[:10])
