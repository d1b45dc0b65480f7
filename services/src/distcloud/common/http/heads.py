"""Which heads of requests are refused: those whose end or whose addressee a proxy might see differently (request smuggling)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

# RFC 3986: a name or IPv4 address, or an IPv6 address in brackets, then perhaps a port. RFC 9112 allows an empty value.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response that ends the connection."""

    status: HTTPStatus
    reason: str

    def encode(self) -> bytes:
        text = self.reason.encode() + b"\n"
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
            f"content-length: {len(text)}\r\nconnection: close\r\n\r\n"
        )
        return head.encode() + text


TOO_LARGE = Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request line and headers are too large")
MALFORMED = Refusal(HTTPStatus.BAD_REQUEST, "the request is not valid HTTP")


def refusal_of(version: str, method: bytes, headers: Sequence[tuple[bytes, bytes]], *, upgrade: bool) -> Refusal | None:
    """Why a request must not be executed, or None. Names of `headers` are in lower case; `upgrade` as the parser decides it.

    A request that asks for another protocol is served without it (RFC 9110, 7.8), but not with a body: the parser drops that.
    """
    if version not in ("1.0", "1.1"):
        return Refusal(HTTPStatus.BAD_REQUEST, "the version of HTTP should be 1.1 or 1.0")
    hosts = _values(headers, b"host")
    if len(hosts) > 1 or (version == "1.1" and not hosts):
        return Refusal(HTTPStatus.BAD_REQUEST, "give one Host header")
    if hosts and not _HOST.fullmatch(hosts[0]):
        return Refusal(HTTPStatus.BAD_REQUEST, "the Host header is malformed")
    if method == b"CONNECT":
        return Refusal(HTTPStatus.NOT_IMPLEMENTED, "this server does not forward requests")
    codings, lengths = _values(headers, b"transfer-encoding"), _values(headers, b"content-length")
    if codings:
        if version == "1.0" or lengths:
            return Refusal(HTTPStatus.BAD_REQUEST, "Transfer-Encoding needs HTTP/1.1 and no Content-Length")
        if [coding.lower() for coding in codings] != [b"chunked"]:
            return Refusal(HTTPStatus.NOT_IMPLEMENTED, "the only supported Transfer-Encoding is chunked")
    if len(lengths) > 1:
        return Refusal(HTTPStatus.BAD_REQUEST, "give one Content-Length")
    if upgrade and (codings or lengths not in ([], [b"0"])):
        return Refusal(HTTPStatus.NOT_IMPLEMENTED, "no other protocol is supported: send the request without Upgrade")
    return None


def _values(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> list[bytes]:
    return [value.strip(b" \t") for name, value in headers if name == wanted]
