"""Tokens, scopes and groups."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from distcloud.common.config import TokenSettings
from distcloud.common.http.auth import Authenticator, Caller, digest_of
from distcloud.common.http.problems import Problem

SETTINGS = [
    TokenSettings(name="root", scope="admin", sha256=digest_of("root-token")),
    TokenSettings(name="atlas", scope="operator", groups=("atlas",), sha256=digest_of("atlas-token")),
    TokenSettings(name="look", scope="viewer", sha256=digest_of("look-token")),
]


def test_token_is_identified_by_its_digest() -> None:
    who = Authenticator(SETTINGS)
    assert who.identify("atlas-token") == Caller("atlas", "operator", frozenset({"atlas"}))
    assert who.identify("look-token") == Caller("look", "viewer", None)
    for wrong in ("", "atlas-toke", "atlas-token ", digest_of("atlas-token"), "\udcff", "x" * 100_000):
        assert who.identify(wrong) is None


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic eDp5", "Bearer wrong"])
def test_other_headers_are_unauthorized(header: str | None) -> None:
    with pytest.raises(Problem) as caught:
        Authenticator(SETTINGS).authenticate(Headers({} if header is None else {"Authorization": header}))
    assert (caught.value.status, caught.value.kind) == (401, "unauthorized")
    assert caught.value.headers == {"WWW-Authenticate": "Bearer"}
    assert Authenticator(SETTINGS).authenticate(Headers({"authorization": "bearer look-token"})).name == "look"


@pytest.mark.parametrize(
    ("groups", "group", "sees"),
    [(None, "atlas", True), ({"atlas"}, "atlas", True), ({"atlas"}, "belle2", False), ({"atlas"}, "ATLAS", False)],
)
def test_caller_sees_the_groups_of_its_token(groups: set[str] | None, group: str, sees: bool) -> None:
    caller = Caller("me", "operator", frozenset(groups) if groups else None)
    assert caller.sees(group) is sees
    if sees:
        caller.require_group(group)
    else:
        with pytest.raises(Problem, match=f"token me is bound to groups atlas; it has no access to group {group}") as caught:
            caller.require_group(group)
        assert caught.value.status == 403


def test_scope_has_to_be_one_of_those_required() -> None:
    Caller("a", "admin").require_scope("this", "operator", "admin")
    with pytest.raises(Problem, match="this requires a token of scope operator or admin; token b has scope viewer") as caught:
        Caller("b", "viewer").require_scope("this", "operator", "admin")
    assert caught.value.status == 403
