"""Tokens and scopes."""

from __future__ import annotations

import pytest

from distcloud.common.auth import Authenticator, Caller, digest_of
from distcloud.common.config import TokenSettings
from distcloud.common.problems import Problem

SETTINGS = [
    TokenSettings(name="root", scope="cloud_admin", sha256=digest_of("root-token")),
    TokenSettings(name="atlas", scope="group_admin", groups=("atlas",), sha256=digest_of("atlas-token")),
    TokenSettings(name="look", scope="viewer", sha256=digest_of("look-token")),
]


def test_a_token_is_known_by_its_digest_alone() -> None:
    who = Authenticator(SETTINGS)
    assert who.identify("atlas-token") == Caller("atlas", "group_admin", frozenset({"atlas"}))
    assert who.identify("look-token") == Caller("look", "viewer", None)
    for wrong in ("", "atlas-toke", "atlas-token ", digest_of("atlas-token"), "\udcff", "x" * 100_000):
        assert who.identify(wrong) is None


@pytest.mark.parametrize(
    ("scope", "groups", "group", "sees", "manages"),
    [
        ("viewer", None, "atlas", True, False),
        ("viewer", {"atlas"}, "belle2", False, False),
        ("group_admin", {"atlas"}, "atlas", True, True),
        ("group_admin", {"atlas"}, "belle2", False, False),
        ("group_admin", {"atlas"}, "ATLAS", False, False),
        ("cloud_admin", None, "any", True, True),
    ],
)
def test_scopes(scope: str, groups: set[str] | None, group: str, sees: bool, manages: bool) -> None:
    caller = Caller("name", scope, frozenset(groups) if groups else None)
    assert caller.sees(group) is sees
    for allowed, ask in ((sees, caller.must_see), (manages, caller.must_manage)):
        if allowed:
            ask(group)
        else:
            with pytest.raises(Problem) as caught:
                ask(group)
            assert caught.value.status == 403
            assert "name" in caught.value.detail


def test_only_a_cloud_admin_is_one() -> None:
    Caller("a", "cloud_admin").must_be_cloud_admin("this")
    with pytest.raises(Problem, match="this needs a token of scope cloud_admin; token b has scope group_admin"):
        Caller("b", "group_admin", frozenset({"g"})).must_be_cloud_admin("this")
