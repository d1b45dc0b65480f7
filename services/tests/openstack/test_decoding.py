"""Bodies of a hostile cloud: what is decoded and parsed is bounded before it costs memory."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distcloud.openstack import decoding
from distcloud.openstack.decoding import AnswerTooLarge, Undecodable, parse_json, read_bounded

ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.compress,
    "X-Gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate ": zlib.compress,
}


def read(pieces: list[bytes], encoding: str, limit: int) -> bytes:
    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return asyncio.run(read_bounded(stream(), encoding, limit))


@given(st.binary(max_size=3000), st.sampled_from(sorted(ENCODERS)), st.integers(1, 500), st.integers(1, 3000))
def test_body_is_returned_whole_or_refused(content: bytes, encoding: str, step: int, limit: int) -> None:
    sent = ENCODERS[encoding](content)
    pieces = [sent[at : at + step] for at in range(0, len(sent), step)]
    if len(content) > limit:
        with pytest.raises(AnswerTooLarge):
            read(pieces, encoding, limit)
    else:
        assert read(pieces, encoding, limit) == content


def test_no_more_is_decoded_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    decode = decoding._Decoder.decode

    def counted(self: decoding._Decoder, piece: bytes, most: int) -> bytes:
        found = decode(self, piece, most)
        decoded.append(len(found))
        return found

    monkeypatch.setattr(decoding._Decoder, "decode", counted)
    with pytest.raises(AnswerTooLarge):
        read([gzip.compress(bytes(50 * 2**20))], "gzip", 1000)
    assert sum(decoded) == 1001


@pytest.mark.parametrize("encoding", ["gzip, gzip", "gzip, identity", "br", "zstd", "compress", "gzip,deflate"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(Undecodable, match="not asked for"):
        read([gzip.compress(gzip.compress(b"x"))], encoding, 1000)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"no gzip", "not encoded as it claims"),
        (gzip.compress(b"x") + b"y", "data after its end"),
        (gzip.compress(b"x") * 2, "data after its end"),
        (gzip.compress(b"x" * 100)[:-9], "ends too early"),
    ],
)
def test_malformed_gzip_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(Undecodable, match=why):
        read([content], "gzip", 1000)


def test_empty_body_needs_no_encoding() -> None:
    assert read([], "gzip", 1000) == b""


def test_many_small_pieces_are_refused() -> None:
    with pytest.raises(AnswerTooLarge):
        read([b"x"] * 20_000, "", 2**20)


@pytest.mark.parametrize(
    "content",
    [
        b"[" + b"1," * 1_000_001 + b"1]",
        b"[" + b"{}," * 150_000 + b"{}]",
        b"[" + b"[]," * 150_000 + b"[]]",
        b"{" + b'"a":1,' * 200_001 + b'"b":1}',
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * 200_000,
    ],
)
def test_complex_json_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"too complex|too deeply"):
        parse_json(content)
