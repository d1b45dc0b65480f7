# Copyright (c) 2026, The hep.distcloud authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pure half of every module: its decisions, without Ansible or network."""

from __future__ import annotations

import json

import pytest
from ansible_collections.hep.distcloud.plugins.module_utils._core.reconcile import (
    CREATE,
    DELETE,
    HIDDEN,
    NONE,
    REPLACE,
    UPDATE,
    difference,
    given,
    merge,
    reconcile,
    scrub,
    shown_diff,
)

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
states = st.recursive(
    st.dictionaries(st.sampled_from("abcde"), scalars | st.lists(scalars, max_size=2), max_size=4),
    lambda inner: st.dictionaries(st.sampled_from("abcde"), scalars | inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("current", "desired", "action", "fields"),
    [
        (None, None, NONE, ()),
        (None, {"a": 1}, CREATE, ("a",)),
        ({"a": 1}, {"a": 1}, NONE, ()),
        ({"a": 1, "b": 2}, {"a": 1}, NONE, ()),
        ({"a": 1, "b": 2}, {"a": 3}, UPDATE, ("a",)),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": 3}}, UPDATE, ("a.x",)),
        ({"a": 1}, None, DELETE, ()),
    ],
)
def test_every_action(current, desired, action, fields):
    plan = reconcile(current, desired)
    assert (plan.action, plan.fields) == (action, fields)
    assert plan.changed is (action != NONE)


def test_unspecified_field_is_kept():
    assert reconcile({"a": 1, "b": 2}, {"a": 3}).after == {"a": 3, "b": 2}


def test_immutable_field_change_requires_replacement():
    assert reconcile({"a": {"x": 1}}, {"a": {"x": 2}}, immutable=("a",)).action == REPLACE
    assert reconcile({"a": 1, "ab": 1}, {"ab": 2}, immutable=("a",)).action == UPDATE


def test_whole_mapping_is_replaced():
    assert reconcile({"m": {"x": 1}}, {"m": {"y": 1}}, whole=("m",)).after == {"m": {"y": 1}}
    assert reconcile({"m": {"x": 1}}, {"m": {"y": 1}}).after == {"m": {"x": 1, "y": 1}}


def test_secret_is_neither_compared_nor_shown():
    current = {"auth": {"user": "u", "password": HIDDEN}}
    spec = {"auth": {"password": "hunter2"}}
    assert reconcile(current, spec, secrets=("auth.password",)).action == NONE
    plan = reconcile(current, spec, secrets=("auth.password",), changed_secrets=("auth.password",))
    assert plan.action == UPDATE
    assert plan.fields == ("auth.password",)
    shown = shown_diff(plan, "it")
    assert "hunter2" not in json.dumps(shown)
    assert shown["before"] != shown["after"]


def test_unset_options_are_dropped_at_every_depth():
    assert given({"a": None, "b": {"c": None}, "d": {}, "e": {"f": 0, "g": None}, "h": False}) == {"d": {}, "e": {"f": 0}, "h": False}


@hypothesis.given(states)
def test_current_state_as_spec_needs_no_change(state):
    assert reconcile(state, state).action == NONE


@hypothesis.given(states, states)
def test_applied_plan_leaves_nothing_to_do(current, spec):
    plan = reconcile(current, spec)
    assert reconcile(plan.after, spec).action == NONE
    assert plan.changed is bool(difference(plan.before, plan.after))


@hypothesis.given(states, states)
def test_inputs_are_not_touched(current, spec):
    before = json.dumps([current, spec])
    merge(current, spec)
    reconcile(current, spec, secrets=("a",))
    assert json.dumps([current, spec]) == before


@hypothesis.given(states)
def test_no_named_secret_survives_scrubbing(state):
    state["secret"] = "unmistakable"
    assert "unmistakable" not in json.dumps(scrub(state, ("secret",)))
