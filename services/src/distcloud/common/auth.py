"""Bearer tokens with scopes. A service knows digests only; a request is judged by who its token makes it.

Scopes, each including the one before: `viewer` reads, `group_admin` changes its groups' things, `cloud_admin` does everything.
A viewer may be bound to groups as well, and then sees these alone.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers

from .config import TokenSettings
from .problems import Problem


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever holds the token. `groups` None: not bound to any."""

    name: str
    scope: str
    groups: frozenset[str] | None = None

    def sees(self, group: str) -> bool:
        return self.groups is None or group in self.groups

    def must_see(self, group: str) -> None:
        """Raises 403 where the token is bound to other groups."""
        if not self.sees(group):
            raise Problem(403, "other-group", f"token {self.name} is bound to {self._bound_to()}; group {group} is not for it")

    def must_manage(self, group: str) -> None:
        """Raises 403 unless the token may change the things of this group."""
        if self.scope == "viewer":
            raise Problem(403, "scope", f"token {self.name} has scope viewer and only reads; use one of scope group_admin or cloud_admin")
        self.must_see(group)

    @property
    def is_cloud_admin(self) -> bool:
        return self.scope == "cloud_admin"

    def must_be_cloud_admin(self, what: str) -> None:
        if not self.is_cloud_admin:
            raise Problem(403, "scope", f"{what} needs a token of scope cloud_admin; token {self.name} has scope {self.scope}")

    def _bound_to(self) -> str:
        return "groups " + ", ".join(sorted(self.groups or ())) if self.groups else "no group"


class Authenticator:
    """Knows the digests of all tokens and tells who a request comes from."""

    def __init__(self, tokens: Iterable[TokenSettings]) -> None:
        self._known = [(bytes.fromhex(token.sha256), _caller(token)) for token in tokens]

    def authenticate(self, headers: Headers) -> Caller:
        """The caller of a request with these headers. Raises Problem 401 for a token that is missing, malformed or unknown."""
        header = headers.get("authorization")
        if header is None:
            raise _unauthorised("no token was sent; send the header 'Authorization: Bearer TOKEN'")
        kind, _, token = header.partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise _unauthorised("the Authorization header is not of the form 'Bearer TOKEN'")
        caller = self.identify(token.strip())
        if caller is None:
            raise _unauthorised("the token is not known here; it may have been replaced")
        return caller

    def identify(self, token: str) -> Caller | None:
        """The token's holder; takes the same time wherever, or whether, it is in the list."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, caller in self._known:
            if hmac.compare_digest(known, digest):
                found = caller
        return found


def digest_of(token: str) -> str:
    """What the configuration file holds for a token."""
    return hashlib.sha256(token.encode("utf-8")).hexdigest()


def _caller(token: TokenSettings) -> Caller:
    return Caller(token.name, token.scope, frozenset(token.groups) if token.groups else None)


def _unauthorised(detail: str) -> Problem:
    return Problem(401, "unauthorised", detail, headers={"WWW-Authenticate": "Bearer"})
