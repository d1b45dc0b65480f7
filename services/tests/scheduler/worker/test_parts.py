"""Hostile metadata parts: every template and every document is rendered or refused with a reason, within bounds."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distcloud.scheduler.worker.configuration import WorkerSettings
from distcloud.scheduler.worker.parts import MetadataPart, UserDataError, check_part, render_part, template_variables
from distcloud.scheduler.worker.render_child import CPU_SECONDS
from distcloud.scheduler.worker.templating import MAX_OUTPUT

WORKER = WorkerSettings(host="vm-sample", domain="d.example", condor_host="c.d.example", group="physics", alias="alias")
VALUES = template_variables(WORKER)


def nested(statement: str, levels: int) -> str:
    return f"{{% {statement} %}}" * levels + "a: 1" + "{% endif %}" * levels


def as_value(expression: str) -> str:
    return "a: {{ " + expression + " }}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (as_value("not " * 300 + "cs_user"), "in one tag"),
        (as_value("not " * 2000 + "cs_user"), "in one tag"),
        (as_value("(" * 300 + "cs_user" + ")" * 300), "in one tag"),
        (as_value("cs_user and " * 3000 + "cs_user"), "in one tag"),
        (as_value("1 if " * 300 + "1"), "in one tag"),
        (as_value("cs_user" + "|upper" * 300), "in one tag"),
        (nested("if cs_user", 101), "nested more than 16"),
        (nested("for x in cs_user", 101), "for is not allowed"),
        (nested("macro m()", 5000), "macro is not allowed"),
        ("{{ cs_user }}" * 4000, "more than 5000"),
        (as_value("cs_user|trim(1)"), "cannot be rendered: TypeError"),
        (as_value("cs_user < 1"), "cannot be rendered: TypeError"),
        (as_value("9" * 5000), "cannot be rendered: ValueError"),
        (as_value("'\\ud800'"), "cannot be rendered: UnicodeEncodeError"),
        (as_value("'" + "\\" * 50_000 + "'" + "|tojson" * 4), f"longer than {MAX_OUTPUT}"),
        (as_value("'a' * 10**9"), "not allowed"),
        ("{% for x in range(10**9) %}{% for y in range(10**9) %}a{% endfor %}{% endfor %}", "not allowed"),
        ("a: !!int ''", "is not valid YAML"),
        ("a: !!float ''", "is not valid YAML"),
        ("a: !!bool ''", "is not valid YAML"),
        ("a: !!timestamp ''", "is not valid YAML"),
        ("a: !!binary é", "is not valid YAML"),
        ("a: " + "9" * 5000, "is not valid YAML"),
        ("a: !!python/object:os.system x", "is not valid YAML"),
        ("a: 2001-99-99", "is not valid YAML"),
        ("a: " + "[" * 5000, "nested more than 64"),
        ("a: " + "[" * 70 + "]" * 70, "nested more than 64"),
        ("a: &a [" + "*a," * 2000 + "]", "aliases"),
        ("a: [" + "[]," * 30_000 + "]", "more than 50000 values"),
        ("? {? {a: 1} : 2} : 3\n", "is not valid YAML"),
        ("a: \x00", "is not valid YAML"),
    ],
)
def test_hostile_part_is_refused_with_reason(content: str, message: str) -> None:
    assert message in check_part(content, "cloud-config")


def test_ordinary_parts_are_within_bounds() -> None:
    lines = "".join(f"  - path: /etc/x{number}\n    content: {{{{ cs_group_name | upper }}}}\n" for number in range(1000))
    assert check_part("write_files:\n" + lines, "cloud-config") == ""
    assert check_part(nested("if cs_user == 'x' and cs_flavor != 'y'", 15), "cloud-boothook") == ""
    assert check_part("a: {b: [1, 2.5, 2001-01-01, !!binary aGk=, null]}\nc: &c {d: e}\nf: {<<: *c}\n", "cloud-config") == ""
    assert check_part("{% raw %}{% for x in y %}{% endraw %}\n", "cloud-boothook") == ""


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("{% if cs_group_name == 'physics' %}a: {{ cs_user < 1 }}{% endif %}", "TypeError"),
        ("{% if cs_group_name == 'physics' %}a: !!int 'hunter2'{% endif %}", "ValueError"),
        ("{% if cs_group_name == 'physics' %}a: {{ hunter2 }}{% endif %}", "UndefinedError"),
    ],
)
def test_part_that_fails_only_at_boot_quotes_nothing(content: str, kind: str) -> None:
    """Its error is shown to everyone who may read the VM; a part may hold credentials."""
    assert check_part(content, "cloud-config") == ""
    with pytest.raises(UserDataError, match=f"metadata p of the group: its .* fails for this worker \\({kind}\\)") as caught:
        render_part(MetadataPart("p", content), VALUES)
    assert "hunter2" not in str(caught.value) and caught.value.detail


_names = st.sampled_from(["cs_user", "cs_flavor", "unknown", "'text'", "'\\ud800'", "1", "1.5", "none", "true", "9" * 4400, "''"])
_filters = st.sampled_from(["upper", "trim", "trim(1)", "tojson", "default('a')", "default(1, 2, 3)", "center"])
_pieces = st.sampled_from(["a: ", "\n", "b: [", "]", "- ", "&x ", "*x", "{%", "#}", "{{"])
_expressions: Any = st.recursive(
    _names,
    lambda inner: st.one_of(
        st.builds("not {}".format, inner),
        st.builds("({})".format, inner),
        st.builds("{} and {}".format, inner, inner),
        st.builds("{} < {}".format, inner, inner),
        st.builds("{} if {} else {}".format, inner, inner, inner),
        st.builds("{}|{}".format, inner, _filters),
        st.builds("{} * {}".format, inner, inner),
        st.builds("{}.{}".format, inner, st.sampled_from(["__class__", "x"])),
        st.builds("{}({})".format, inner, inner),
        st.builds("[{}]".format, inner),
    ),
    max_leaves=25,
)
_templates: Any = st.recursive(
    st.one_of(st.builds("{{{{ {} }}}}".format, _expressions), _pieces),
    lambda inner: st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds("{{% if {} %}}{}{{% else %}}{}{{% endif %}}".format, _expressions, inner, inner),
        st.builds("{{% for x in {} %}}{}{{% endfor %}}".format, _expressions, inner),
        st.builds(lambda text, count: text * count, inner, st.sampled_from([2, 50])),
    ),
    max_leaves=20,
)
_documents = st.one_of(
    st.text(alphabet="ab01:-[]{}!&*<>?|'\"%@#,. \n\t\x00é", max_size=80),
    st.builds(
        "a: {}{} {}".format,
        st.sampled_from(["", "&x "]),
        st.sampled_from(
            [f"!!{tag}" for tag in ("int", "float", "bool", "null", "timestamp", "binary", "set", "omap", "pairs", "map", "seq", "str")]
        ),
        st.sampled_from(["''", "x", "[]", "{}", "[1]", "[[1]]", "{a: 1}", "*x", "1:99", "2001-13-01", "=", "<<", "9" * 5000]),
    ),
)


@given(st.one_of(_templates, _documents), st.sampled_from(["cloud-config", "cloud-boothook", "x-shellscript", "text/part-handler"]))
@settings(max_examples=300)
def test_any_part_is_accepted_or_refused_within_its_limit(content: str, mime_type: str) -> None:
    began = time.process_time()
    assert isinstance(check_part(content[:65_536], mime_type), str)
    assert time.process_time() - began < CPU_SECONDS, "the child would have been killed"
    try:
        render_part(MetadataPart("p", content[:65_536], mime_type), VALUES)
    except UserDataError as error:
        assert str(error).startswith("metadata p of the group")
