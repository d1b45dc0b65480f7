"""How a call to a cloud can fail."""

from __future__ import annotations

from enum import StrEnum

from ..common.text import printable

_TEXT = 1000  # characters of a message, which may quote the cloud


class ErrorKind(StrEnum):
    AUTH = "auth"  # the credential is refused
    QUOTA = "quota"
    NOT_FOUND = "not_found"
    UNREACHABLE = "unreachable"  # no answer, or an answer that says nothing about the request
    REJECTED = "rejected"  # understood and refused


class CloudError(Exception):
    """A call to a cloud failed. The message names cloud, cause and remedy, and holds no secret.

    `no_effect` is true when the cloud certainly did nothing: only then may a create be repeated.
    """

    def __init__(self, kind: ErrorKind, cloud: str, message: str, *, no_effect: bool) -> None:
        super().__init__(printable(f"cloud {cloud}: {message}", _TEXT))
        self.kind = kind
        self.cloud = cloud
        self.no_effect = no_effect
