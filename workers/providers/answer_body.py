"""Reads the body of a provider's answer within the limits of its call: in one piece, or as the events of a stream."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Coroutine
from io import BytesIO
from typing import Any, TypeVar

import aiohttp
from aiohttp import EMPTY_PAYLOAD

from domain.dialects.sse import SseEvent, SseParser
from domain.errors import ProviderLost, TimeLimit
from infra.offload import offload
from workers.credential_filter import StreamFilter
from workers.large_answers import LARGE_ANSWER_BYTES
from workers.loop_turns import LoopTurns
from workers.providers.provider import ProviderCall

MAX_ANSWER_BYTES = 128 * 1024 * 1024
"""2,048 embeddings of 1,536 dimensions take about 100 MB, as OpenAI writes them."""
PIECE_BYTES = 32 * 1024
"""Read at a time. A socket may give eight times as much at once, whose events take a megabyte: they are made when those
before them have been sent on, and other streams have their turn between.
"""
TURN_PIECE_BYTES = 4 * 1024
"""A piece of a stream that is this large waits for a turn of the event loop. Providers send a few hundred bytes."""
TURN_GRACE_S = 30.0
TURN_BYTES_PER_S = 1024 * 1024
"""The least rate of a large answer after the grace: a slower one is given up, and its turn with it."""
FIRST_BYTE: TimeLimit = "first_byte"
IDLE: TimeLimit = "idle"

Result = TypeVar("Result")


class TimeIsOver(TimeoutError):
    """A limit of ours, and not the call's whole time."""

    def __init__(self, limit: TimeLimit) -> None:
        super().__init__()
        self.limit: TimeLimit = limit


TIMED_OUT: dict[TimeLimit, str] = {
    "total": "{provider} did not answer in time",
    "first_byte": "{provider} did not begin to answer in time",
    "idle": "{provider} stopped in the middle of its answer",
}


def moment_after(time_s: float) -> float:
    """The event loop's time after so long."""
    return asyncio.get_running_loop().time() + time_s


async def within(until: float, limit: TimeLimit, work: Awaitable[Result]) -> Result:
    """Wait for `work` until a moment of the event loop's.

    Raises:
        TimeIsOver: it was not done by then.

    """
    try:
        async with asyncio.timeout_at(until) as clock:
            return await work
    except TimeoutError:
        if clock.expired():
            raise TimeIsOver(limit) from None
        raise


class BodyPieces:
    """The pieces of an answer's body, within the call's limits."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        call: ProviderCall,
        first_byte_at: float | None,
        *,
        is_stream: bool = False,
    ) -> None:
        self._content = response.content
        self._read = _read_together if is_stream else _read
        self._idle_s = call.idle_s
        self._until = first_byte_at
        self._limit = FIRST_BYTE

    async def next(self) -> bytes:
        """Wait for the next piece; empty at the end. If the connection breaks, what came before is given first.

        Raises:
            TimeIsOver: it did not come within the limit of its own.
            aiohttp.ClientError, TimeoutError: the connection broke, or the call's whole time is over.

        """
        reading = self._read(self._content)
        try:
            piece = await (within(self._until, self._limit, reading) if self._until is not None else reading)
        except aiohttp.ClientError:
            # aiohttp reports the break first, and keeps what was waiting to be read to itself.
            if self._content.is_eof() or not self._content._buffer:  # noqa: SLF001 - see above
                raise
            return self._content._read_nowait(-1)  # noqa: SLF001
        self._until = moment_after(self._idle_s) if self._idle_s is not None else None
        self._limit = IDLE
        return piece


def _read(content: aiohttp.StreamReader) -> Coroutine[Any, Any, bytes]:
    return content.read(PIECE_BYTES)


async def _read_together(content: aiohttp.StreamReader) -> bytes:
    """As `_read`, of a body in chunks, of which a stream has one for each event. Those that came together are joined.

    aiohttp's own `read` asks the transport to go on after each of them: 14 calls, a tenth of a worker's with 26 chunks.
    """
    if content is not EMPTY_PAYLOAD:
        chunks = content._buffer  # noqa: SLF001 - see above; in what `read` does with them nothing else is changed
        while not chunks and not content.is_eof() and content.exception() is None:
            await content._wait("read")  # noqa: SLF001
        if len(chunks) > 1 and content._size <= PIECE_BYTES:  # noqa: SLF001
            together = b"".join(chunks)
            chunks.clear()
            chunks.append(together)
            splits = content._http_chunk_splits  # noqa: SLF001
            if splits:  # so does `read`, one by one, once all chunks are read
                last = splits[-1]
                splits.clear()
                splits.append(last)
    return await content.read(PIECE_BYTES)


async def events_of(
    response: aiohttp.ClientResponse,
    call: ProviderCall,
    first_byte_at: float | None,
    stream_filter: StreamFilter,
    turns: LoopTurns,
) -> AsyncGenerator[list[SseEvent], None]:
    """Yield a stream's events as they come, without the secrets. What is large takes `turns` with other streams'.

    Raises:
        TimeIsOver, TimeoutError: it did not come within the call's limits.
        ProviderLost: it is too large, or cannot be searched.

    """
    parser, pieces = SseParser(), BodyPieces(response, call, first_byte_at, is_stream=True)
    size = 0
    try:
        while data := await pieces.next():
            size += len(data)
            _check_size(size, call.identity.provider)
            if len(data) >= TURN_PIECE_BYTES:
                await turns.take()
            size_bytes = parser.pending_bytes + len(data)
            if (events := parser.feed(data)) and (events := await offload(size_bytes, stream_filter.take, events)):
                yield events
        if parser.rest() and (events := stream_filter.take(parser.feed(b"\n\n"))):
            yield events
    except (aiohttp.ClientError, TimeoutError, ProviderLost):
        if events := stream_filter.rest():
            yield events
        raise
    if events := stream_filter.rest():
        yield events


def _check_size(size_bytes: int, provider: str) -> None:
    if size_bytes > MAX_ANSWER_BYTES:
        raise ProviderLost(f"{provider} sent more than {MAX_ANSWER_BYTES} bytes", provider=provider)


async def read_answer(
    response: aiohttp.ClientResponse,
    call: ProviderCall,
    *,
    first_byte_at: float | None = None,
    turn_grace_s: float = TURN_GRACE_S,
) -> bytes:
    """The answer. One that is large waits for a turn; what the provider sends meanwhile stays in its socket.

    Then it has to come: others wait for the turn.

    Raises:
        TimeoutError: it does not come in time.

    """
    until = moment_after(call.timeout_s)
    pieces = BodyPieces(response, call, first_byte_at)
    piece = await pieces.next()
    if response.content.at_eof():  # as most answers come
        return piece
    buffer = BytesIO()  # gives its content away without a copy
    while piece:
        buffer.write(piece)
        if buffer.tell() > LARGE_ANSWER_BYTES:
            async with asyncio.timeout_at(until) as limit:
                await call.take_turn()
                await _read_rest(pieces, buffer, limit, call, turn_grace_s)
        piece = await pieces.next()
    return buffer.getvalue()


async def _read_rest(
    pieces: BodyPieces, buffer: BytesIO, limit: asyncio.Timeout, call: ProviderCall, turn_grace_s: float
) -> None:
    """Read on with a turn, while its limit moves with what has come."""
    turn_at_s = asyncio.get_running_loop().time()
    is_last = False
    while not is_last:
        _check_size(buffer.tell(), call.identity.provider)
        limit.reschedule(turn_at_s + turn_grace_s + buffer.tell() / TURN_BYTES_PER_S)
        is_last = not buffer.write(await pieces.next())
