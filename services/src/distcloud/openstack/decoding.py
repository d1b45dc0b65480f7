"""Bodies of a cloud's answers, bounded before they cost memory or time: a small one may be decompressed or parsed into a huge one."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

# Of one decoded answer; a page of 500 servers has about 2.5 MiB.
ANSWER_BYTES = 8 * 2**20
# Pieces of one answer: each costs time of the event loop, however small it is.
_PIECES = 16_384
# Commas, opening brackets and colons of one answer, also those within strings. 500 servers have about 35,000, 15,000 and 75,000. The
# last one bounds the keys of objects, which cost most: the worst answer takes about 0.2 s to parse.
_COMMAS = 1_000_000
_BRACKETS = 150_000
_COLONS = 200_000


class AnswerTooLarge(Exception):
    """An answer is larger than any valid one."""


class Undecodable(Exception):
    """An answer is encoded in a way that is not understood; the message completes a sentence that begins with the answer."""


async def read_bounded(pieces: AsyncIterator[bytes], encoding: str, limit: int) -> bytes:
    """The decoded body. Raises AnswerTooLarge for more than `limit` bytes, of which no more is ever decoded, and Undecodable."""
    decoder = _decoder(encoding.strip().lower())
    content = bytearray()
    count = 0
    async for piece in pieces:
        count += 1
        if count > _PIECES:
            raise AnswerTooLarge
        if count % 64 == 0:
            await asyncio.sleep(0)  # many pieces may arrive at once
        content += piece if decoder is None else decoder.decode(piece, limit + 1 - len(content))
        if len(content) > limit:
            raise AnswerTooLarge
    if decoder is not None:
        decoder.check_complete(empty=count == 0)
    return bytes(content)


class _Decoder:
    """One layer of gzip or deflate (that is, zlib: RFC 9110, section 8.4.1.2)."""

    def __init__(self, window_bits: int) -> None:
        self._inflate = zlib.decompressobj(window_bits)

    def decode(self, piece: bytes, most: int) -> bytes:
        """At most `most` bytes, at least 1: if there were more, that many are returned."""
        try:
            decoded = self._inflate.decompress(piece, most)
        except zlib.error as error:
            raise Undecodable("is not encoded as it claims") from error
        if self._inflate.unused_data:
            raise Undecodable("has data after its end")
        return decoded

    def check_complete(self, empty: bool) -> None:
        if not self._inflate.eof and not empty:
            raise Undecodable("ends too early")


def _decoder(encoding: str) -> _Decoder | None:
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip"):
        return _Decoder(zlib.MAX_WBITS | 16)
    if encoding == "deflate":
        return _Decoder(zlib.MAX_WBITS)
    raise Undecodable("has a content encoding that was not asked for")


def parse_json(content: bytes) -> Any:
    """Raises ValueError for content that is not JSON, is nested too deeply or has more structure than any valid answer.

    The bounds count characters without regard to strings: that takes milliseconds, where `JsonLimits` would take longer than parsing.
    """
    if content.count(b",") > _COMMAS or content.count(b"[") + content.count(b"{") > _BRACKETS or content.count(b":") > _COLONS:
        raise ValueError("too complex")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
