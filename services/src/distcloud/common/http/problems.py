"""Errors as RFC 9457 problems: one schema for every rejection and failure of a service."""

from __future__ import annotations

import http
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from ..config import dotted, expectation

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field of a request; `field` is dotted (auth.password), or the name of a query parameter."""

    field: str
    message: str


class Problem(Exception):
    """An error response. `kind` is a stable identifier that programs may rely on."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


class FieldProblemBody(BaseModel):
    """One entry of `errors` in a problem."""

    field: str
    message: str


class ProblemBody(BaseModel):
    """The schema of every error, for the OpenAPI document."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblemBody] = []


def response(problem: Problem) -> JSONResponse:
    """The problem as an HTTP response."""
    body: dict[str, Any] = {
        "type": f"urn:distcloud:problem:{problem.kind}",
        "title": http.HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.errors:
        body["errors"] = [{"field": error.field, "message": error.message} for error in problem.errors]
    return JSONResponse(body, status_code=problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def internal(request_id: str) -> Problem:
    """An internal error: the response has only the request id under which the log has the details."""
    return Problem(500, "internal", f"internal error; the service's log has the details under request id {request_id}")


async def on_problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return response(error)


async def on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """What the router itself rejects: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            problem = Problem(404, "no-such-path", f"no such path: {request.url.path}; /openapi.json lists all paths")
        case 405:
            allowed = (error.headers or {}).get("Allow", "")
            if "GET" in allowed.split(", "):
                allowed += ", HEAD"  # which the gate serves as GET
            detail = f"{request.method} is not allowed on this path; allowed: {allowed}"
            problem = Problem(405, "method-not-allowed", detail, headers={"Allow": allowed})
        case status:
            problem = Problem(status, "http", str(error.detail), headers=error.headers)
    return response(problem)


async def on_invalid_request(_: Request, error: Exception) -> JSONResponse:
    """A path, query or body that does not match the schema."""
    assert isinstance(error, RequestValidationError)
    return response(invalid(list(error.errors())))


def invalid(items: list[Any]) -> Problem:
    """Pydantic's errors as a problem; the offending values are left out, they may be secrets."""
    errors = []
    for item in items:
        location = tuple(item["loc"])
        if location and location[0] in ("body", "query", "path", "header"):
            location = location[1:]
        errors.append(FieldError(dotted(location) if location else "(body)", expectation(item)))
    detail = "; ".join(f"{error.field}: {error.message}" for error in errors)
    return Problem(422, "invalid", detail[:2000], errors[:100])
