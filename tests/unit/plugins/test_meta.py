# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules for every module: it has tests, is in its action groups, and its examples are valid."""

from __future__ import annotations

import contextlib
import importlib
import re
import textwrap
import typing as t
from pathlib import Path
from unittest import mock

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from role_variables import unread

ROOT = Path(__file__).resolve().parents[3]
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py") if path.stem != "__init__")
PREFIX = "hep.distcloud."
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("**/*.md"), *(ROOT / "roles").glob("*/README.md")])
ROLE_PREFIXES = tuple(path.name + "_" for path in (ROOT / "roles").iterdir() if path.is_dir())
CONSTRAINTS = ("mutually_exclusive", "required_together", "required_one_of", "required_if", "required_by")
SAMPLES = {"int": 1, "float": 1.0, "bool": True, "list": [], "raw": "text"}


class Captured(Exception):
    """Carries the arguments of AnsibleModule."""


def module_named(name: str) -> t.Any:
    return importlib.import_module("ansible_collections.hep.distcloud.plugins.modules." + name)


def specification(name: str) -> dict[str, t.Any]:
    """The keyword arguments that the module gives to AnsibleModule."""

    def init(self: t.Any, argument_spec: t.Any = None, **options: t.Any) -> None:
        raise Captured(dict(options, argument_spec=argument_spec))

    with mock.patch.object(AnsibleModule, "__init__", init), pytest.raises(Captured) as caught:
        module_named(name).main()
    found: dict[str, t.Any] = caught.value.args[0]
    return found


def attributes_of(name: str) -> dict[str, t.Any]:
    """The attributes in the module's documentation, those from our fragments included."""
    doc = yaml.safe_load(module_named(name).DOCUMENTATION)
    found = dict(doc.get("attributes") or {})
    for fragment in doc.get("extends_documentation_fragment", []):
        if fragment.startswith(PREFIX):
            file, part = [*fragment[len(PREFIX) :].split("."), ""][:2]
            source = importlib.import_module("ansible_collections.hep.distcloud.plugins.doc_fragments." + file)
            text = getattr(source.ModuleDocFragment, (part or "documentation").upper())
            found = {**yaml.safe_load(text).get("attributes", {}), **found}
    return found


def sample(spec: dict[str, t.Any]) -> t.Any:
    """A value that fits an option whose example is a template."""
    if spec.get("choices"):
        return spec["choices"][0]
    kind = spec.get("type", "str")
    if kind == "dict":
        return {key: sample(inner) for key, inner in (spec.get("options") or {}).items() if inner.get("required")}
    return SAMPLES.get(kind, "text") if isinstance(kind, str) else "text"


def rendered(value: t.Any, spec: dict[str, t.Any]) -> t.Any:
    """The value with a sample in place of every template."""
    if isinstance(value, str) and ("{{" in value or "{%" in value):
        return sample(spec)
    inner = spec.get("options") or {}
    if isinstance(value, dict):
        return {key: rendered(item, inner.get(key, {})) for key, item in value.items()}
    if isinstance(value, list):
        return [rendered(item, dict(spec, type=spec.get("elements", "str"))) for item in value]
    return value


def wrong_with(name: str, arguments: t.Any) -> list[str]:
    """Ansible's validation errors for these arguments."""
    options = specification(name)
    spec = options["argument_spec"]
    filled = {key: rendered(value, spec.get(key, {})) for key, value in (arguments or {}).items()}
    rules = {key: options[key] for key in CONSTRAINTS if options.get(key)}
    return list(ArgumentSpecValidator(spec, **rules).validate(filled).error_messages)


def tasks_in(node: t.Any, defaults: dict[str, t.Any] | None = None) -> t.Iterator[tuple[str, t.Any]]:
    """Every use of a module of ours, in plays, blocks and lists of tasks, with the defaults that apply to it."""
    defaults = dict(defaults or {})
    if isinstance(node, list):
        for item in node:
            yield from tasks_in(item, defaults)
    if not isinstance(node, dict):
        return
    for scope, given in (node.get("module_defaults") or {}).items():
        if scope.startswith("group/" + PREFIX):
            for member in groups().get(scope[len("group/" + PREFIX) :], []):
                defaults[member] = dict(defaults.get(member, {}), **given)
        elif scope.startswith(PREFIX):
            defaults[scope[len(PREFIX) :]] = dict(defaults.get(scope[len(PREFIX) :], {}), **given)
    for key, value in node.items():
        name = str(key)[len(PREFIX) :] if str(key).startswith(PREFIX) else ""
        if name in MODULES:
            yield name, dict(defaults.get(name, {}), **(value or {}))
        elif name:
            yield name, None
        elif key != "module_defaults":
            yield from tasks_in(value, defaults)


def groups() -> dict[str, list[str]]:
    found: dict[str, list[str]] = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["action_groups"]
    return found


def yaml_in(text: str) -> t.Iterator[t.Any]:
    """The content of the text's YAML blocks: fenced ones, and indented ones that are valid YAML (others contain commands)."""
    for block in re.findall(r"^```ya?ml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from yaml.safe_load_all(block)
    for block in re.findall(r"(?:^ {4}.*\n)+", re.sub(r"(?ms)^```.*?^```", "", text), re.MULTILINE):
        with contextlib.suppress(yaml.YAMLError):
            yield from list(yaml.safe_load_all(textwrap.dedent(block)))


def variables_in(node: t.Any) -> t.Iterator[str]:
    """Every key that starts with a role's prefix: in plays, role entries, `vars:`, inventories and variable files."""
    if isinstance(node, list):
        for item in node:
            yield from variables_in(item)
    if isinstance(node, dict):
        for key, value in node.items():
            if str(key).startswith(ROLE_PREFIXES):
                yield key
            yield from variables_in(value)


def documents() -> list[t.Any]:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in DOCUMENTS if path.exists()]


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_tests(name):
    """Either a test file here, or a test on a real host that names the module."""
    here = ROOT / "tests/unit/plugins/modules" / (f"test_{name}.py")
    there = (ROOT / "tests/integration").rglob("test_*.py")
    assert here.is_file() or any(re.search(rf"\b{name}\b", path.read_text()) for path in there)


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_in_exactly_their_action_groups(name):
    attributes = attributes_of(name)
    named = attributes.get("action_group", {}).get("membership", [])
    assert {group for group, members in groups().items() if name in members} == {group[len(PREFIX) :] for group in named}
    assert {"check_mode", "diff_mode", "idempotent"} <= set(attributes)


def test_action_group_members_share_connection_options():
    for group, members in groups().items():
        assert set(members) <= set(MODULES), group
    for group, members in groups().items():
        connections = {name: set(specification(name)["argument_spec"]) for name in members}
        shared = set.intersection(*connections.values())
        assert ("cloud" if group == "region" else "api_url") in shared


@pytest.mark.parametrize("name", MODULES)
def test_check_mode_is_supported_everywhere(name):
    assert specification(name).get("supports_check_mode") is True


@pytest.mark.parametrize("name", MODULES)
def test_examples_fit_the_argument_spec(name):
    uses = list(tasks_in(yaml.safe_load(module_named(name).EXAMPLES)))
    assert name in [used for used, arguments in uses], "no example uses the module itself"
    for used, arguments in uses:
        if used in MODULES:
            assert wrong_with(used, arguments) == []


@pytest.mark.parametrize("document", documents())
def test_yaml_in_documents_fits_the_argument_specs(document):
    for loaded in yaml_in(document.read_text()):
        for name, arguments in tasks_in(loaded):
            if arguments is None:
                assert (ROOT / "roles" / name).is_dir() or (ROOT / "playbooks" / (name + ".yml")).exists(), name
            else:
                assert wrong_with(name, arguments) == []


@pytest.mark.parametrize("document", documents())
def test_yaml_examples_in_docs_set_existing_variables(document):
    assert unread(variables_in(list(yaml_in(document.read_text())))) == []


TEXT = """
A tenant makes its own:

    region_networks: [{name: own}]
    region_ruoters: []

    ansible-playbook hep.distcloud.site --extra-vars "{region_state: absent}"

```yaml
- hosts: central
  roles:
    - {role: hep.distcloud.htcondor, htcondor_domian: example.org}
  tasks:
    - block:
        - ansible.builtin.include_role:
            name: hep.distcloud.certificates
          vars:
            certificates_lits: []
```
"""


def test_variables_in_docs_are_found():
    names = ["region_networks", "region_ruoters", "htcondor_domian", "certificates_lits"]
    assert sorted(variables_in(list(yaml_in(TEXT)))) == sorted(names)
    assert unread(names) == sorted(names[1:])
