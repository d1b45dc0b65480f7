"""The OpenAPI description as one readable page: no script, nothing fetched from elsewhere, light and dark."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ info.title }}</title>
<style>
:root { color-scheme: light dark; --line: #8884; --dim: #666; --get: #2563eb; --put: #b45309; --post: #15803d; --delete: #b91c1c; }
@media (prefers-color-scheme: dark) { :root { --dim: #a3a3a3; --get: #7fb0ff; --put: #f0b060; --post: #6fd3a0; --delete: #ff9a8f; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; text-transform: capitalize; }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .5rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; overflow-wrap: anywhere; }
code { font-family: ui-monospace, monospace; font-size: .92em; }
.method { display: inline-block; min-width: 4.2rem; font-weight: 700; }
.get { color: var(--get); } .put { color: var(--put); } .post { color: var(--post); } .delete { color: var(--delete); }
.dim { color: var(--dim); }
table { border-collapse: collapse; width: 100%; margin: .6rem 0; font-size: .93rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); }
.wide { overflow-x: auto; }
</style>
</head>
<body>
<h1>{{ info.title }} <small class="dim">{{ info.version }}</small></h1>
<p>{{ info.description or "" }}</p>
<p class="dim">Machine-readable: <a href="openapi.json">openapi.json</a>. Errors are problem+json (RFC 9457).</p>
{% for tag, operations in tags %}
<h2>{{ tag }}</h2>
{% for operation in operations %}
<details>
<summary><span class="method {{ operation.method }}">{{ operation.method | upper }}</span>
<code>{{ operation.path }}</code> <span class="dim">{{ operation.summary }}</span></summary>
{% if operation.description %}<p>{{ operation.description }}</p>{% endif %}
{% if operation.token %}<p class="dim">Needs a bearer token.</p>{% endif %}
{% for heading, rows in operation.tables if rows %}
<div class="wide"><table>
<thead><tr><th>{{ heading }}</th><th>Type</th><th>Meaning</th></tr></thead>
<tbody>
{% for row in rows %}<tr><td><code>{{ row.name }}</code>{{ " *" if row.required }}</td><td>{{ row.type }}</td><td>{{ row.text }}</td></tr>
{% endfor %}
</tbody>
</table></div>
{% endfor %}
</details>
{% endfor %}
{% endfor %}
</body>
</html>
"""

_template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_PAGE)


def render(schema: dict[str, Any]) -> str:
    """The page for an OpenAPI schema."""
    by_tag: dict[str, list[dict[str, Any]]] = {}
    for path, item in schema.get("paths", {}).items():
        for method, operation in item.items():
            by_tag.setdefault((operation.get("tags") or ["other"])[0], []).append(_operation(schema, path, method, operation))
    return _template.render(info=schema["info"], tags=list(by_tag.items()))


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
        "tables": [("Parameter", parameters), ("Field of the body", _fields(schema, body))],
    }


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
