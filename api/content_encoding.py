"""Unpacks request bodies that came with a `Content-Encoding` (RFC 9110, 8.4): gzip, deflate, zstd, br.

Knows no limit but its callers': it unpacks piece by piece, and only as far as it is asked. So a small body that would
unpack to gigabytes costs no more than what its caller takes of it.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, cast

import brotli
import zstandard

from domain.errors import BodyTooLarge, InvalidRequest, UnsupportedEncoding

MAX_ENCODINGS = 2
"""The most encodings of one body; `identity` does not count. Some proxies compress a body that is compressed."""
MAX_GZIP_MEMBERS = 64
"""A gzip body is one member or several in a row; an empty one takes twenty bytes and a turn of a loop."""
PIECE_BYTES = 64 * 1024
"""About the most that is unpacked at a time, of each layer."""
MAX_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
"""The largest window that RFC 9659 allows in HTTP. The reader allocates as many bytes as the window has."""

_GZIP_WBITS, _ZLIB_WBITS, _RAW_WBITS = 31, 15, -15
_ZLIB_METHOD = 8

Unpack = Callable[[Iterator[bytes]], Iterator[bytes]]
"""From packed pieces, none of them empty."""


def encodings_of(headers: Sequence[str]) -> tuple[str, ...]:
    """The encodings that a body has, the last applied first; `headers` are the lines of `Content-Encoding`.

    Raises:
        UnsupportedEncoding: one is not known, or there are too many.

    """
    named = [name.strip().lower() for line in headers for name in line.split(",")]
    names = [name for name in named if name not in ("", "identity")]
    unknown = next((name for name in names if name not in _UNPACK), None)
    if unknown is not None:
        raise UnsupportedEncoding(f"`content-encoding` {unknown[:40]!r} is not read here: {', '.join(READ)} are")
    if len(names) > MAX_ENCODINGS:
        raise UnsupportedEncoding(f"a body may have {MAX_ENCODINGS} encodings in a row, this one has {len(names)}")
    return tuple(reversed(names))


def unpacked(body: bytes, encodings: Sequence[str], max_bytes: int) -> Iterator[bytes]:
    """Unpack a body, in pieces of about `PIECE_BYTES`. Nothing is unpacked before it is asked for.

    Raises:
        InvalidRequest: the body is not what its encoding says.
        BodyTooLarge: more than `max_bytes` come out of it, or out of one of its layers.

    """
    pieces: Iterator[bytes] = (body[start : start + PIECE_BYTES] for start in range(0, len(body), PIECE_BYTES))
    for name in encodings:
        pieces = _limited(_checked(_UNPACK[name](pieces), name), max_bytes)
    return pieces


def taken(pieces: Iterator[bytes], size_bytes: int) -> bytes:
    """Join the next pieces, to `size_bytes` or a little more. Empty: there are no more. Raises as `unpacked`."""
    parts, left_bytes = [], size_bytes
    for piece in pieces:
        parts.append(piece)
        left_bytes -= len(piece)
        if left_bytes <= 0:
            break
    return b"".join(parts)


def _checked(pieces: Iterator[bytes], name: str) -> Iterator[bytes]:
    try:
        yield from pieces
    except (zlib.error, zstandard.ZstdError, brotli.error, EOFError) as error:
        raise InvalidRequest(f"the body is not valid {name}, which its `content-encoding` says: {error}") from None


def _limited(pieces: Iterator[bytes], max_bytes: int) -> Iterator[bytes]:
    size_bytes = 0
    for piece in pieces:
        size_bytes += len(piece)
        if size_bytes > max_bytes:
            raise BodyTooLarge(f"the body may have {max_bytes} bytes when it is unpacked")
        if piece:
            yield piece


def _gzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    stream, members = zlib.decompressobj(_GZIP_WBITS), 1
    for packed in pieces:
        rest = packed
        while rest:
            if stream.eof:
                members += 1
                if members > MAX_GZIP_MEMBERS:
                    raise zlib.error(f"it has more than {MAX_GZIP_MEMBERS} members")
                stream = zlib.decompressobj(_GZIP_WBITS)
            yield stream.decompress(rest, PIECE_BYTES)
            rest = stream.unused_data if stream.eof else stream.unconsumed_tail
    yield from _rest_of(stream)


def _deflate(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """`deflate` means zlib's format; some clients send the bare one, and servers read both (RFC 9110, 8.4.1.2)."""
    packed = next(pieces, b"")
    if not packed:
        return
    stream = zlib.decompressobj(_ZLIB_WBITS if packed[0] & 0x0F == _ZLIB_METHOD else _RAW_WBITS)
    while packed:
        yield stream.decompress(packed, PIECE_BYTES)
        if stream.unused_data:
            raise zlib.error("more follows its end")
        packed = stream.unconsumed_tail or next(pieces, b"")
    yield from _rest_of(stream)


def _rest_of(stream: "zlib._Decompress") -> Iterator[bytes]:
    """The rest of the output, once zlib has all of the input."""
    while piece := stream.decompress(b"", PIECE_BYTES):
        yield piece
    if not stream.eof:
        raise EOFError("it ends too early")


def _zstd(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """One frame or several in a row. A frame that was cut is not told here, but by the JSON that does not end."""
    source = cast("IO[bytes]", _Source(pieces))  # all that is asked of it
    unpacking = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES)
    stream = unpacking.stream_reader(source, read_size=PIECE_BYTES, read_across_frames=True)
    while piece := stream.read(PIECE_BYTES):
        yield piece


def _brotli(pieces: Iterator[bytes]) -> Iterator[bytes]:
    stream = brotli.Decompressor()
    for packed in pieces:
        if stream.is_finished():
            raise brotli.error("more follows its end")
        piece = stream.process(packed, output_buffer_limit=PIECE_BYTES)
        while piece or not stream.can_accept_more_data():
            yield piece
            piece = stream.process(b"", output_buffer_limit=PIECE_BYTES) if not stream.is_finished() else b""
    if not stream.is_finished():
        raise EOFError("it ends too early")


class _Source:
    """Pieces as the file that zstandard reads from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, _size: int = -1) -> bytes:
        return next(self._pieces, b"")


_UNPACK: dict[str, Unpack] = {"gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate, "zstd": _zstd, "br": _brotli}
READ = ("gzip", "deflate", "zstd", "br")
