"""Chunks of a stream that came together are read as one piece, and leave the reader as aiohttp's own reads do."""

from types import SimpleNamespace
from typing import Any

from aiohttp import StreamReader

from tests.support.jobs import make_identity
from workers.providers.answer_body import PIECE_BYTES, BodyPieces
from workers.providers.provider import ProviderCall


class Connection:
    """Never has to pause."""

    def pause_reading(self) -> None:
        raise AssertionError("there is room")

    def resume_reading(self, *, resume_parser: bool = True) -> None:
        """It goes on."""


def body(*chunks: bytes, begun: bytes = b"") -> StreamReader:
    """The body of an answer of which these chunks have come, and the beginning of another."""
    connection: Any = Connection()
    reader = StreamReader(connection, PIECE_BYTES)
    for chunk in chunks:
        reader.begin_http_chunk_receiving()
        reader.feed_data(chunk)
        reader.end_http_chunk_receiving()
    reader.begin_http_chunk_receiving()
    reader.feed_data(begun)
    return reader


def pieces_of(content: StreamReader) -> BodyPieces:
    response: Any = SimpleNamespace(content=content)
    call = ProviderCall(identity=make_identity(), path="/", credential=None, timeout_s=1)
    return BodyPieces(response, call, None, is_stream=True)


def state_of(reader: StreamReader) -> tuple[object, ...]:
    return reader._size, reader._cursor, reader._http_chunk_splits, list(reader._buffer)


async def test_chunks_that_came_together_are_one_piece() -> None:
    reader = body(b"a", b"bc", b"d")
    assert await pieces_of(reader).next() == b"abcd"


async def test_reading_leaves_what_aiohttp_leaves() -> None:
    ours, theirs = body(b"a", b"bc", b"d"), body(b"a", b"bc", b"d")
    await pieces_of(ours).next()
    await theirs.read(PIECE_BYTES)
    assert state_of(ours) == state_of(theirs)


async def test_a_chunk_that_has_begun_is_not_at_its_end() -> None:
    ours, theirs = body(b"a", b"bc", begun=b"d"), body(b"a", b"bc", begun=b"d")
    await pieces_of(ours).next()
    await theirs.read(PIECE_BYTES)
    assert state_of(ours) == state_of(theirs)
    ours.feed_data(b"e")
    ours.end_http_chunk_receiving()
    assert await ours.readchunk() == (b"e", True)


async def test_chunks_after_a_read_are_read_too() -> None:
    reader = body(b"a", b"b")
    pieces = pieces_of(reader)
    await pieces.next()
    reader.feed_data(b"c")
    reader.end_http_chunk_receiving()
    reader.feed_eof()
    assert [await pieces.next(), await pieces.next()] == [b"c", b""]
