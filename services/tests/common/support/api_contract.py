"""Schemathesis on an engine's application: requests generated from its OpenAPI document get only responses that it declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from .api_client import AppClient, token

CHECKS = (status_code_conformance, content_type_conformance, response_headers_conformance, response_schema_conformance)


def operations(call: AppClient) -> list[Any]:
    schema = schemathesis.openapi.from_dict(call.app.openapi())
    return [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]


def send_all(call: AppClient, operation: Any, known: Mapping[str, str]) -> None:
    """Send requests of one operation as token `admin`; `known` has path parameters that exist, which reach the successful responses."""

    @given(case=operation.as_strategy(), valid=st.booleans())
    @settings(
        max_examples=15,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def send(case: Any, valid: bool) -> None:
        if valid:
            case.path_parameters = {key: known.get(key, value) for key, value in (case.path_parameters or {}).items()}
        case.headers = {"Authorization": f"Bearer {token('admin')}"}
        if case.method == "DELETE":
            case.query = {**(case.query or {}), "dry_run": "true"}
        options = case.as_transport_kwargs(base_url="http://test")
        keep = {key: options[key] for key in ("params", "json", "headers") if options.get(key) is not None}
        if options.get("data") is not None:
            keep["content"] = options["data"]
        response = call(options["method"], options["url"], who=None, **keep)
        assert response.status_code < 500, response.text
        case.validate_response(schemathesis.Response.from_httpx2(response, verify=True), checks=list(CHECKS))

    send()


def undeclared(call: AppClient) -> list[str]:
    """Operations whose successful response has no schema of its own; /metrics is text."""
    found = []
    for path, item in call.app.openapi()["paths"].items():
        for method, operation in item.items():
            (content,) = operation["responses"]["200"]["content"].values()
            schema = content["schema"]
            if path != "/metrics" and "$ref" not in schema and "$ref" not in schema.get("items", {}):
                found.append(f"{method} {path}")
    return found
