"""Templates of metadata parts: Jinja variables, conditions and a few filters, nothing else.

Metadata is untrusted: group admins write it. In addition to Jinja's sandbox, the language is restricted to what always terminates
quickly, with output proportional to the template: no loops, calls, attributes or arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from jinja2 import StrictUndefined, TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

_ALLOWED_NODES: Final = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.If,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Filter,
    nodes.Test,
)
_ALLOWED_FILTERS: Final = ("default", "lower", "upper", "trim", "tojson")
_ALLOWED_TESTS: Final = ("defined", "undefined")
_MAX_FILTERS: Final = 4  # in a row: each may lengthen its input


class InvalidTemplate(ValueError):
    """Invalid template; the message says where and why."""


def render_template(template: str, values: Mapping[str, str]) -> str:
    """Render a template. Raises InvalidTemplate for syntax errors, unknown names and everything outside the restricted language."""
    try:
        tree = _ENVIRONMENT.parse(template)
        _check(tree, 0)
        return _ENVIRONMENT.from_string(tree).render(values)
    except TemplateError as problem:
        number = getattr(problem, "lineno", None)
        line = f" (line {number})" if number else ""
        known = f"; known: {', '.join(sorted(values))}" if "is undefined" in str(problem) else ""
        raise InvalidTemplate(f"template: {problem}{line}{known}") from problem
    except RecursionError as problem:
        raise InvalidTemplate("template: nested too deeply") from problem


def _check(node: nodes.Node, filters: int) -> None:
    if not isinstance(node, _ALLOWED_NODES):
        raise InvalidTemplate(
            f"template: {type(node).__name__.lower()} is not allowed (line {node.lineno}); use variables, if, "
            f"and the filters {', '.join(_ALLOWED_FILTERS)}; put {{% raw %}} around text that only looks like a template"
        )
    if isinstance(node, nodes.Filter):
        filters += 1
        if node.name not in _ALLOWED_FILTERS or filters > _MAX_FILTERS:
            raise InvalidTemplate(
                f"template: filter {node.name} is not allowed here (line {node.lineno}); allowed: {', '.join(_ALLOWED_FILTERS)}"
            )
    for child in node.iter_child_nodes():
        _check(child, filters)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in _ALLOWED_FILTERS}
    environment.tests = {name: environment.tests[name] for name in _ALLOWED_TESTS}
    return environment


_ENVIRONMENT: Final = _environment()
