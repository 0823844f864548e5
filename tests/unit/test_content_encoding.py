"""Packed request bodies: what they unpack to, what is refused, and that no more is unpacked than is asked for."""

import gzip
import random
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from api.content_encoding import (
    MAX_GZIP_MEMBERS,
    PIECE_BYTES,
    encodings_of,
    taken,
    unpacked,
)
from domain.errors import BodyTooLarge, InvalidRequest, UnsupportedEncoding

MIB = 1024 * 1024
TEXT = random.Random(7).randbytes(300_000) + b'{"a": 1}' * 100_000


def _bare(data: bytes) -> bytes:
    packing = zlib.compressobj(wbits=-15)
    return packing.compress(data) + packing.flush()


PACK: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without its head": ("deflate", _bare),
    "zstd": ("zstd", zstandard.ZstdCompressor().compress),
    "br": ("br", brotli.compress),
}
each = pytest.mark.parametrize(("name", "pack"), PACK.values(), ids=PACK)


def _all(body: bytes, *encodings: str, most: int = 64 * MIB) -> bytes:
    return b"".join(unpacked(body, encodings, most))


@each
@pytest.mark.parametrize("data", [b"", b"{}", TEXT], ids=["empty", "small", "large"])
def test_every_encoding_is_unpacked(name: str, pack: Callable[[bytes], bytes], data: bytes) -> None:
    assert _all(pack(data), name) == data


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_several_members_in_a_row_are_one_body(name: str) -> None:
    _, pack = PACK[name]
    assert _all(pack(TEXT[:1000]) + pack(b"") + pack(TEXT[1000:]), name) == TEXT


def test_two_encodings_in_a_row_are_unpacked_from_the_outside() -> None:
    packed = gzip.compress(brotli.compress(TEXT))
    assert _all(packed, *encodings_of(["br, gzip"])) == TEXT


def test_headers_name_encodings_in_any_case_and_on_several_lines() -> None:
    assert encodings_of([]) == ()
    assert encodings_of(["identity", " , "]) == ()
    assert encodings_of(["BR", "identity, Gzip"]) == ("gzip", "br")


@pytest.mark.parametrize("header", ["compress", "gzip, lzma", "x" * 5_000])
def test_an_unknown_encoding_is_refused_by_name(header: str) -> None:
    with pytest.raises(UnsupportedEncoding) as refused:
        encodings_of([header])
    assert header.rpartition(", ")[2][:40] in refused.value.message
    assert "gzip, deflate, zstd, br" in refused.value.message
    assert len(refused.value.message) < 200


def test_three_encodings_in_a_row_are_refused() -> None:
    with pytest.raises(UnsupportedEncoding, match="2 encodings in a row, this one has 3"):
        encodings_of(["gzip, gzip", "gzip"])


@each
def test_what_its_encoding_does_not_fit_is_refused(name: str, pack: Callable[[bytes], bytes]) -> None:
    with pytest.raises(InvalidRequest, match=f"not valid {name}"):
        _all(b'{"model": "gpt-4o", "messages": []}', name)
    with pytest.raises(InvalidRequest, match=f"not valid {name}"):
        _all(pack(TEXT) + b"and more", name)


@pytest.mark.parametrize("name", ["gzip", "deflate", "br"])
@pytest.mark.parametrize("kept", [1, 100, -1])
def test_a_body_that_was_cut_is_refused(name: str, kept: int) -> None:
    with pytest.raises(InvalidRequest, match=f"not valid {name}"):
        _all(PACK[name][1](TEXT)[:kept], name)


@each
def test_a_bomb_is_refused_as_soon_as_it_is_too_large(name: str, pack: Callable[[bytes], bytes]) -> None:
    bomb, seen = pack(bytes(64 * MIB)), 0
    with pytest.raises(BodyTooLarge, match=f"{MIB} bytes when"):  # noqa: PT012 - what came before it counts
        for piece in unpacked(bomb, (name,), MIB):
            assert len(piece) <= 2 * PIECE_BYTES
            seen += len(piece)
    assert seen <= MIB


def test_a_bomb_inside_another_is_refused_at_the_layer_that_grows() -> None:
    empty_blocks = zlib.compress(b"")[:2] + b"\x00\x00\x00\xff\xff" * (4 * MIB)  # unpacks to nothing
    with pytest.raises(BodyTooLarge):
        _all(gzip.compress(empty_blocks), "gzip", "deflate", most=MIB)


def test_a_row_of_empty_members_ends() -> None:
    with pytest.raises(InvalidRequest, match="members"):
        _all(gzip.compress(b"") * (MAX_GZIP_MEMBERS + 1), "gzip")


def test_a_large_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    packing = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(InvalidRequest, match="zstd"):
        _all(packing.compress(TEXT) + packing.flush(), "zstd")


def test_nothing_is_unpacked_before_it_is_asked_for() -> None:
    asked = 0

    def pieces() -> object:
        nonlocal asked
        for _ in range(100):
            asked += 1
            yield b"x" * 10

    assert taken(pieces(), 25) == b"x" * 30  # type: ignore[arg-type]
    assert asked == 3
