"""Merging patches into states: properties that hold for every patch, without a database."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from distcloud.common.http.problems import Problem
from distcloud.common.http.resources import merge_patch
from distcloud.scheduler.catalog.merge import CLOUD_DEFAULTS, GROUP_DEFAULTS, SECRETS, MergedCloud, changed_location, merge_cloud, redacted
from distcloud.scheduler.catalog.schemas import CloudRequest, GroupRequest

short = st.sampled_from(["a", "b", "c"])
auth = st.fixed_dictionaries(
    {},
    optional={
        "auth_url": st.sampled_from(["https://a/v3", "https://b/v3"]),
        "interface": st.none() | st.sampled_from(["public", "internal"]),
        **dict.fromkeys(("application_credential_id", "application_credential_secret"), st.none() | short),
        **dict.fromkeys(("username", "password", "project_name", "project_id", "user_domain_name"), st.none() | short),
    },
)
clouds = st.fixed_dictionaries(
    {},
    optional={
        "region": short,
        "auth": auth,
        "enabled": st.none() | st.booleans(),
        "frozen": st.none() | st.booleans(),
        "max_vms": st.none() | st.integers(0, 3),
        "attributes": st.none() | st.dictionaries(st.sampled_from(["A", "B"]), short, max_size=2),
        "security_groups": st.none() | st.lists(short, max_size=2),
    },
)
GOOD: dict[str, Any] = {
    "region": "a",
    "auth": {"auth_url": "https://a/v3", "application_credential_id": "a", "application_credential_secret": "a"},
}
histories = st.lists(clouds | st.just(GOOD), min_size=1, max_size=4).map(lambda patches: [GOOD, *patches]) | st.lists(clouds, max_size=3)
groups = st.fixed_dictionaries(
    {},
    optional={
        "keep_alive": st.none() | st.integers(0, 9),
        "default_flavor": st.none() | short,
        "aliases": st.none() | st.dictionaries(short, st.lists(short, max_size=2), max_size=2),
    },
)


def merged(before: MergedCloud | None, patch: dict[str, Any]) -> MergedCloud | None:
    """The state after a patch, or None if it is invalid; errors must name fields of the request."""
    body = CloudRequest.model_validate(patch).explicit_fields()
    try:
        return merge_cloud(before.state if before else None, before.secrets if before else {}, body)
    except Problem as problem:
        assert problem.status == 422
        assert problem.errors
        assert all(error.field.split(".")[0] in CloudRequest.model_fields for error in problem.errors)
        return None


@given(histories)
@settings(max_examples=200, deadline=None)
def test_applying_a_patch_twice_changes_nothing(patches: list[dict[str, Any]]) -> None:
    state: MergedCloud | None = None
    for patch in patches:
        after = merged(state, patch)
        if after is None:
            continue
        again = merged(after, patch)
        assert again is not None
        assert (again.state, again.secrets, again.changed_secrets) == (after.state, after.secrets, ())
        state = after


@given(histories)
@settings(max_examples=200, deadline=None)
def test_stored_account_is_complete_and_keeps_its_secret(patches: list[dict[str, Any]]) -> None:
    state: MergedCloud | None = None
    for patch in patches:
        after = merged(state, patch)
        if after is None:
            continue
        account = after.state["auth"]
        assert not set(account) & set(SECRETS)
        assert None not in account.values()
        assert len(after.secrets) == 1
        identity = ("auth_url", "username", "application_credential_id")
        if state is not None and any(account.get(key) != state.state["auth"].get(key) for key in identity):
            assert patch["auth"].keys() & set(SECRETS)
        if state is None:
            assert after.state["enabled"] is bool(patch.get("enabled"))
        elif patch.get("enabled") is None:
            assert after.state["enabled"] == state.state["enabled"]
        state = after


@given(clouds, clouds)
@settings(max_examples=200, deadline=None)
def test_omitted_fields_keep_their_values(first: dict[str, Any], second: dict[str, Any]) -> None:
    before = merged(None, {**first, **GOOD})
    assert before is not None
    after = merged(before, second)
    if after is None:
        return
    for key in {"region", *CLOUD_DEFAULTS} - set(second):
        assert after.state[key] == before.state[key]
    assert bool(changed_location(before.state, after.state)) <= bool({"region", "auth"} & set(second))
    assert "********" in str(redacted(after.state, after.secrets))


@given(groups, groups)
def test_omitted_group_fields_keep_their_values(first: dict[str, Any], second: dict[str, Any]) -> None:
    before = merge_patch(None, GroupRequest.model_validate(first).explicit_fields(), GROUP_DEFAULTS, ())
    after = merge_patch(before, GroupRequest.model_validate(second).explicit_fields(), GROUP_DEFAULTS, ())
    assert merge_patch(after, second, GROUP_DEFAULTS, ()) == after
    for key, default in GROUP_DEFAULTS.items():
        if key not in second:
            assert after[key] == before[key]
        elif second[key] is None:
            assert after[key] == default
