"""The OpenAPI document as one readable page."""

from __future__ import annotations

from typing import Any

from .pages import page_environment

_template = page_environment().get_template("api.html.j2")


def render(schema: dict[str, Any]) -> str:
    """The page for an OpenAPI document."""
    by_tag: dict[str, list[dict[str, Any]]] = {}
    for path, item in schema.get("paths", {}).items():
        for method, operation in item.items():
            by_tag.setdefault((operation.get("tags") or ["other"])[0], []).append(_operation(schema, path, method, operation))
    return _template.render(info={"description": "", **schema["info"]}, tags=list(by_tag.items()))


def _operation(schema: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    parameters = [
        {
            "name": parameter["name"],
            "required": parameter.get("required", False),
            "type": type_of(parameter["schema"]),
            "text": parameter.get("description", parameter["schema"].get("description", "")),
        }
        for parameter in operation.get("parameters", [])
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return {
        "path": path,
        "method": method,
        "summary": operation.get("summary", ""),
        "description": operation.get("description", ""),
        "token": bool(operation.get("security")),
        "tables": [
            ("Parameter", parameters),
            ("Field of the body", _fields(schema, body)),
            ("Field of the response", _fields(schema, _response(operation))),
        ],
    }


def _response(operation: dict[str, Any]) -> dict[str, Any]:
    """The schema of a successful response; of its items where it is a list."""
    content = operation.get("responses", {}).get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
    found: dict[str, Any] = content.get("items", content)
    return found


def _fields(schema: dict[str, Any], body: dict[str, Any], prefix: str = "") -> list[dict[str, Any]]:
    """The fields of an object schema, nested ones dotted."""
    if "$ref" in body:
        name = body["$ref"].rsplit("/", 1)[-1]
        body = schema.get("components", {}).get("schemas", {}).get(name, {})
    rows: list[dict[str, Any]] = []
    for name, field in body.get("properties", {}).items():
        nested = next((option for option in [field, *field.get("anyOf", [])] if "$ref" in option), None)
        rows.append(
            {
                "name": prefix + name,
                "required": name in body.get("required", []),
                "type": type_of(field),
                "text": field.get("description", ""),
            }
        )
        if nested is not None and not prefix:
            rows.extend(_fields(schema, nested, f"{name}."))
    return rows


def type_of(field: dict[str, Any]) -> str:
    """The type of a schema in a word or two."""
    if "anyOf" in field:
        return " or ".join(type_of(option) for option in field["anyOf"])
    if "$ref" in field:
        return str(field["$ref"].rsplit("/", 1)[-1])
    if "enum" in field:
        return " | ".join(str(option) for option in field["enum"])
    if field.get("type") == "array":
        return f"list of {type_of(field.get('items', {}))}"
    return str(field.get("type", "any"))
