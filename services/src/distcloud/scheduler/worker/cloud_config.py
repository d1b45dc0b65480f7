"""Checks of cloud-config, which is YAML that others wrote: its structure is bounded before anything is built from it."""

from __future__ import annotations

from typing import Final

import yaml

from ...common.config import UniqueKeyConstructor, yaml_problem
from ...common.text import printable

_MAX_EVENTS: Final = 50_000  # of the parser: one for each value, two for each mapping and list
_MAX_DEPTH: Final = 64
_MAX_ALIASES: Final = 1000
_MAX_VALUES: Final = 100_000
_MAX_MESSAGE: Final = 300
_NOT_YAML: Final = "is not valid YAML after template expansion"


class InvalidCloudConfig(ValueError):
    """The text is not a valid cloud-config; the message completes a sentence that begins with its name."""


class _UniqueKeyLoader(UniqueKeyConstructor, yaml.CSafeLoader):
    """libyaml's parser, more than ten times as fast as the one in Python."""


def check_cloud_config(text: str, *, unique_keys: bool) -> None:
    """Raises only InvalidCloudConfig. YAML's constructors raise whatever Python raises for a value that is malformed."""
    try:
        _check_structure(text)
        content = _load(text, _UniqueKeyLoader if unique_keys else yaml.CSafeLoader)
    except InvalidCloudConfig:
        raise
    except Exception as problem:
        known = isinstance(problem, yaml.YAMLError | RecursionError)
        why = yaml_problem(problem) if known else f"{type(problem).__name__}: {problem}"
        raise InvalidCloudConfig(f"{_NOT_YAML}: {printable(why, _MAX_MESSAGE)}") from problem
    if content is not None and not isinstance(content, dict):
        raise InvalidCloudConfig(f"must be a mapping of cloud-config keys, but is a {type(content).__name__}")


def _check_structure(text: str) -> None:
    depth = aliases = 0
    for number, event in enumerate(yaml.parse(text, Loader=yaml.CSafeLoader)):
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if number > _MAX_EVENTS:
            raise InvalidCloudConfig(f"has more than {_MAX_EVENTS} values")
        if aliases > _MAX_ALIASES:
            raise InvalidCloudConfig(f"has more than {_MAX_ALIASES} aliases (*name)")
        if depth > _MAX_DEPTH:
            raise InvalidCloudConfig(f"{_NOT_YAML}: is nested more than {_MAX_DEPTH} levels deep")


def _load(text: str, kind: type[yaml.CSafeLoader]) -> object:
    loader = kind(text)
    try:
        root = loader.get_single_node()
        if _expanded_size(root, {}) > _MAX_VALUES:
            raise InvalidCloudConfig(f"holds more than {_MAX_VALUES} values once its aliases (*name) are expanded")
        content: object = None if root is None else loader.construct_document(root)
        return content
    finally:
        loader.dispose()


def _expanded_size(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Number of values in a document once its aliases are expanded: a few lines of nested aliases can make billions."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = 0  # in case the node contains itself
        inner = [item for entry in node.value for item in (entry if isinstance(entry, tuple) else (entry,))]
        known[id(node)] = 1 + sum(_expanded_size(item, known) for item in inner)
    return known[id(node)]
