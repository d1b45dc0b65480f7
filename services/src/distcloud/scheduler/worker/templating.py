"""Templates of metadata parts: Jinja variables, conditions and a few filters, nothing else.

Metadata is untrusted: group admins write it. In addition to Jinja's sandbox, the language is restricted to what always terminates
quickly, with output proportional to the template: no loops, calls, attributes or arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from jinja2 import StrictUndefined, TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ...common.text import printable

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
_STATEMENTS: Final = {"if": 1, "elif": 0, "else": 0, "endif": -1}  # by how much each changes the nesting
_OUTSIDE_TAGS: Final = frozenset(("data", "variable_end", "block_end", "comment_begin", "comment", "comment_end"))


# Checked on the tokens, before anything recursive sees the template: Jinja's parser and compiler, and Python's, follow the nesting.
_MAX_TOKENS: Final = 5000
_MAX_TOKENS_IN_TAG: Final = 50
_MAX_IF_DEPTH: Final = 16
MAX_OUTPUT: Final = 262_144  # characters
_MAX_MESSAGE: Final = 300


class InvalidTemplate(ValueError):
    """Invalid template; the message says where and why."""


def render_template(template: str, values: Mapping[str, str]) -> str:
    """Render a template.

    Raises only InvalidTemplate: for syntax errors, unknown names, everything outside the restricted language, values that a filter or
    comparison cannot process, and whatever else Jinja raises, which is not enumerable.
    """
    try:
        _check_tokens(template)
        tree = _ENVIRONMENT.parse(template)
        _check(tree, 0)
        return _joined(_ENVIRONMENT.from_string(tree).generate(values))
    except InvalidTemplate:
        raise
    except TemplateError as problem:
        number = getattr(problem, "lineno", None)
        line = f" (line {number})" if number else ""
        known = f"; known: {', '.join(sorted(values))}" if "is undefined" in str(problem) else ""
        raise InvalidTemplate(f"template: {printable(str(problem), _MAX_MESSAGE)}{line}{known}") from problem
    except RecursionError as problem:
        raise InvalidTemplate("template: nested too deeply") from problem
    except Exception as problem:
        why = printable(f"{type(problem).__name__}: {problem}", _MAX_MESSAGE)
        raise InvalidTemplate(f"template: cannot be rendered: {why}") from problem


def _check_tokens(template: str) -> None:
    """Bound the number of tokens, in all and in one tag, and the nesting of `if`; refuse other statements."""
    total = in_tag = depth = 0
    statement = False  # whether the next token names the statement
    for line, kind, text in _ENVIRONMENT.lex(template):
        if kind == "whitespace":
            continue
        if kind in _OUTSIDE_TAGS:
            in_tag = 0
            continue
        total, in_tag = total + 1, in_tag + 1
        if in_tag > _MAX_TOKENS_IN_TAG:
            raise InvalidTemplate(f"template: more than {_MAX_TOKENS_IN_TAG} names, values and operators in one tag (line {line})")
        if total > _MAX_TOKENS:
            raise InvalidTemplate(f"template: more than {_MAX_TOKENS} names, values and operators (line {line})")
        if kind == "block_begin":
            statement = True
        elif statement:
            statement = False
            if kind == "name" and text not in _STATEMENTS:
                raise InvalidTemplate(_not_allowed(text, line))
            depth += _STATEMENTS.get(text, 0)
            if depth > _MAX_IF_DEPTH:
                raise InvalidTemplate(f"template: if is nested more than {_MAX_IF_DEPTH} levels deep (line {line})")


def _joined(pieces: Iterable[str]) -> str:
    """The output. It must fit into user data, and be text that can be encoded: a template may contain unpaired surrogates."""
    found: list[str] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_OUTPUT:
            raise InvalidTemplate(f"template: the output is longer than {MAX_OUTPUT} characters")
        found.append(piece)
    text = "".join(found)
    text.encode("utf-8")
    return text


def _not_allowed(what: str, line: int) -> str:
    return (
        f"template: {printable(what, 40)} is not allowed (line {line}); use variables, if, and the filters {', '.join(_ALLOWED_FILTERS)}; "
        f"put {{% raw %}} around text that only looks like a template"
    )


def _check(node: nodes.Node, filters: int) -> None:
    if not isinstance(node, _ALLOWED_NODES):
        raise InvalidTemplate(_not_allowed(type(node).__name__.lower(), node.lineno))
    if isinstance(node, nodes.Filter):
        filters += 1
        if node.name not in _ALLOWED_FILTERS or filters > _MAX_FILTERS:
            raise InvalidTemplate(
                f"template: filter {node.name} is not allowed here (line {node.lineno}); allowed: {', '.join(_ALLOWED_FILTERS)}"
            )
    for child in node.iter_child_nodes():
        _check(child, filters)


def _environment() -> ImmutableSandboxedEnvironment:
    # Without the optimizer, which evaluates every level of a nested expression again and again.
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, optimized=False)
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in _ALLOWED_FILTERS}
    environment.tests = {name: environment.tests[name] for name in _ALLOWED_TESTS}
    return environment


_ENVIRONMENT: Final = _environment()
