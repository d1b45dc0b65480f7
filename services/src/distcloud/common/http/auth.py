"""Bearer tokens with scopes. A service knows only digests; a request is authorized by the scope and groups of its token.

Each engine declares its scopes (`Scope` in `config`); routes name the scopes that they accept.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

from ..config import TokenSettings
from .problems import Problem

HEADER_CHARACTERS = 4096  # a longer header is refused unread
_CALLER = "authenticated_caller"  # key in the state of a request's scope


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of a token. `groups` is None for a token that is not bound to groups."""

    name: str
    scope: str
    groups: frozenset[str] | None = None

    def sees(self, group: str) -> bool:
        return self.groups is None or group in self.groups

    def require_group(self, group: str) -> None:
        """Raises Problem 403 if the token is bound to other groups."""
        if not self.sees(group):
            bound_to = "groups " + ", ".join(sorted(self.groups or ())) if self.groups else "no group"
            raise Problem(403, "other-group", f"token {self.name} is bound to {bound_to}; it has no access to group {group}")

    def require_scope(self, action: str, *scopes: str) -> None:
        """Raises Problem 403 unless the token has one of the scopes; `action` is the subject of the message."""
        if self.scope not in scopes:
            needed = " or ".join(scopes)
            raise Problem(403, "scope", f"{action} requires a token of scope {needed}; token {self.name} has scope {self.scope}")


class Authenticator:
    """Identifies the caller of a request by the digests of all tokens."""

    def __init__(self, tokens: Iterable[TokenSettings]) -> None:
        self._known = [(bytes.fromhex(token.sha256), _caller(token)) for token in tokens]

    def authenticate(self, headers: Headers) -> Caller:
        """The caller of a request with these headers. Raises Problem 401 for a token that is missing, malformed or unknown."""
        header = headers.get("authorization")
        if header is None:
            raise _unauthorized("no token was sent; send the header 'Authorization: Bearer TOKEN'")
        if len(header) > HEADER_CHARACTERS:
            raise _unauthorized("the Authorization header is too long to hold a token of this service")
        kind, _, token = header.partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise _unauthorized("the Authorization header is malformed; it should be 'Bearer TOKEN'")
        caller = self.identify(token.strip())
        if caller is None:
            raise _unauthorized("unknown token; it may have been replaced")
        return caller

    def identify(self, token: str) -> Caller | None:
        """The token's holder; takes the same time wherever, or whether, it is in the list."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, caller in self._known:
            if hmac.compare_digest(known, digest):
                found = caller
        return found


def keep_caller(scope: Scope, caller: Caller) -> None:
    """Leave the caller that was identified before the request reached its route."""
    scope.setdefault("state", {})[_CALLER] = caller


def kept_caller(scope: Scope) -> Caller | None:
    caller: Caller | None = scope.get("state", {}).get(_CALLER)
    return caller


def digest_of(token: str) -> str:
    """The digest of a token, as the configuration file has it."""
    return hashlib.sha256(token.encode("utf-8")).hexdigest()


def _caller(token: TokenSettings) -> Caller:
    return Caller(token.name, token.scope, frozenset(token.groups) if token.groups else None)


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
