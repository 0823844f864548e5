"""Reads the body of a provider's answer within the limits of its call: in one piece, or as the events of a stream."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO

import aiohttp

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


def moment_after(time_s: float | None) -> float | None:
    """The event loop's time after so long; None: never."""
    return asyncio.get_running_loop().time() + time_s if time_s is not None else None


@asynccontextmanager
async def time_limit(until: float | None, limit: TimeLimit) -> AsyncIterator[None]:
    """Bound a block by a moment of the event loop's. None: it has no limit.

    Raises:
        TimeIsOver: it was not done by then.

    """
    try:
        async with asyncio.timeout_at(until) as clock:
            yield
    except TimeoutError:
        if clock.expired():
            raise TimeIsOver(limit) from None
        raise


async def _pieces(
    response: aiohttp.ClientResponse, call: ProviderCall, first_byte_at: float | None
) -> AsyncGenerator[bytes, None]:
    """The pieces of an answer's body, within the call's limits."""
    if first_byte_at is None and call.idle_s is None:
        async for data in response.content.iter_chunked(PIECE_BYTES):
            yield data
        return
    pieces, until, limit = aiter(response.content.iter_chunked(PIECE_BYTES)), first_byte_at, FIRST_BYTE
    while True:
        try:
            async with time_limit(until, limit):
                data = await anext(pieces)
        except StopAsyncIteration:
            return
        yield data
        until, limit = moment_after(call.idle_s), IDLE


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
    parser = SseParser()
    size = 0
    try:
        async for data in _to_the_last(response, call, first_byte_at):
            size += len(data)
            _check_size(size, call.identity.provider)
            if len(data) >= TURN_PIECE_BYTES:
                await turns.take()
            if events := parser.feed(data):
                size_bytes = sum([len(event.raw) for event in events])
                if events := await offload(size_bytes, stream_filter.take, events):
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


async def _to_the_last(
    response: aiohttp.ClientResponse, call: ProviderCall, first_byte_at: float | None
) -> AsyncGenerator[bytes, None]:
    """Yield the body's bytes, up to the last one before the connection breaks.

    aiohttp reports the break first and keeps what came before it, which was waiting to be read, to itself.
    """
    content = response.content
    try:
        async for data in _pieces(response, call, first_byte_at):
            yield data
    except aiohttp.ClientError:
        if not content.is_eof() and content._buffer:  # noqa: SLF001 - see above
            yield content._read_nowait(-1)  # noqa: SLF001
        raise


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
    buffer = BytesIO()  # gives its content away without a copy
    size, clock = 0, asyncio.get_running_loop().time
    turn_at_s: float | None = None
    async with asyncio.timeout(call.timeout_s) as limit:
        async for part in _pieces(response, call, first_byte_at):
            size += len(part)
            _check_size(size, call.identity.provider)
            buffer.write(part)
            if size > LARGE_ANSWER_BYTES:
                if turn_at_s is None:
                    await call.take_turn()
                    turn_at_s = clock()
                limit.reschedule(turn_at_s + turn_grace_s + size / TURN_BYTES_PER_S)
    return buffer.getvalue()
