"""Errors as RFC 9457 problems: one shape for everything that a service refuses or fails at."""

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

from .config import dotted, expectation

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field of a request; `field` is dotted (auth.password), or the name of a query parameter."""

    field: str
    message: str


class Problem(Exception):
    """A refusal that the client is told about. `kind` is a stable word that programs may rely on."""

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
    """The shape of every error, for the OpenAPI page."""

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
    """Something broke on our side: nothing of it is shown but the id under which the log has it."""
    return Problem(500, "internal", f"the service failed on this request; its log has the reason under request id {request_id}")


async def on_problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return response(error)


async def on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """What the router itself refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            problem = Problem(404, "no-such-path", f"there is nothing at {request.url.path}; /openapi.json lists what there is")
        case 405:
            allowed = (error.headers or {}).get("Allow", "")
            detail = f"{request.method} is not possible here; allowed: {allowed}"
            problem = Problem(405, "method-not-allowed", detail, headers=error.headers)
        case status:
            problem = Problem(status, "http", str(error.detail), headers=error.headers)
    return response(problem)


async def on_invalid_request(_: Request, error: Exception) -> JSONResponse:
    """A path, query or body that does not fit the schema."""
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
