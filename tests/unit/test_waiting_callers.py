"""Waiting callers: stream parts are joined within a bound, and a disconnect ends the wait."""

import asyncio
from collections.abc import Iterator

import pytest
from litestar.types import Receive

from api.client_disconnect import ClientDisconnect, watch_disconnect
from domain.errors import ClientDisconnected, Overloaded
from infra.byte_budget import ByteBudget, BytesInHand
from infra.incoming import MAX_JOINED_BYTES, IncomingStream
from infra.reply_frames import Frame

PIECE = b"x" * (MAX_JOINED_BYTES // 4)


async def test_parts_for_a_slow_caller_are_joined_in_order() -> None:
    stream = IncomingStream()
    sent = [bytes([number]) + PIECE for number in range(10)]
    for number, part in enumerate(sent, start=1):
        stream.take(Frame("part", 1, part, number=number))
    given = [await stream.next() for _ in range(4)]
    assert b"".join(part for part in given if isinstance(part, bytes)) == b"".join(sent)
    assert [len(part) // len(PIECE) for part in given if isinstance(part, bytes)] == [3, 3, 3, 1]


async def test_a_part_longer_than_the_bound_is_given_whole() -> None:
    stream = IncomingStream()
    long = b"y" * (MAX_JOINED_BYTES + 1)
    stream.take(Frame("part", 1, long, number=1))
    stream.take(Frame("part", 1, b"z", number=2))
    assert [await stream.next(), await stream.next()] == [long, b"z"]


async def test_a_stream_ends_where_its_caller_leaves_too_much_waiting() -> None:
    budget = ByteBudget(10 * len(PIECE))
    in_hand = BytesInHand(budget, "project")
    stream = IncomingStream(in_hand=in_hand)
    for number in (1, 2, 3):
        stream.take(Frame("part", 1, PIECE, number=number))
    assert budget.in_hand_bytes == 3 * len(PIECE)
    assert await stream.next() == 3 * PIECE
    assert budget.in_hand_bytes == 0
    for number in range(4, 9):
        stream.take(Frame("part", 1, PIECE, number=number))
    with pytest.raises(Overloaded) as error:
        stream.take(Frame("part", 1, PIECE, number=9))
    stream.fail(error.value)
    assert await stream.next() == 4 * PIECE
    assert await stream.next() == PIECE
    with pytest.raises(Overloaded):
        await stream.next()
    in_hand.close()
    assert budget.in_hand_bytes == 0


async def test_waiting_parts_of_an_old_attempt_are_not_counted() -> None:
    budget = ByteBudget(10 * len(PIECE))
    stream = IncomingStream(in_hand=BytesInHand(budget, "project"))
    stream.take(Frame("part", 1, PIECE, number=1))
    assert stream.begin_again()
    assert budget.in_hand_bytes == 0


async def test_a_part_that_comes_after_its_caller_has_given_up_waiting_is_kept() -> None:
    stream = IncomingStream()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stream.next(), 0.01)
    stream.take(Frame("part", 1, b"1", number=1))
    assert await stream.next() == b"1"
    waiting = asyncio.create_task(stream.next())
    await asyncio.sleep(0)
    stream.take(Frame("part", 1, b"2", number=2))
    stream.take(Frame("part", 1, b"3", number=3))
    assert await waiting == b"23"


async def test_disconnect_ends_the_wait() -> None:
    disconnect, never = ClientDisconnect(), asyncio.Event()
    waiting = asyncio.create_task(disconnect.or_disconnect(never.wait()))
    await asyncio.sleep(0)
    disconnect.note()
    with pytest.raises(ClientDisconnected):
        await waiting
    assert len(asyncio.all_tasks()) == 1, "no task waits any longer"


async def test_result_wins_over_a_simultaneous_disconnect() -> None:
    disconnect, came = ClientDisconnect(), asyncio.Event()
    waiting = asyncio.create_task(disconnect.or_disconnect(came.wait()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    came.set()
    disconnect.note()
    assert await waiting is True


async def test_awaited_error_is_raised() -> None:
    with pytest.raises(TimeoutError):
        await ClientDisconnect().or_disconnect(asyncio.wait_for(asyncio.Event().wait(), 0.01))


async def test_a_disconnect_is_noticed_after_other_messages() -> None:
    async with watch_disconnect(receiver("http.request", "http.disconnect")) as disconnect:
        with pytest.raises(ClientDisconnected):
            await disconnect.or_disconnect(asyncio.Event().wait())
    with pytest.raises(ClientDisconnected):
        disconnect.check()


def receiver(*kinds: str) -> Receive:
    """Return an ASGI `receive` with messages of these types."""
    left: Iterator[str] = iter(kinds)

    async def receive() -> dict[str, str]:
        return {"type": next(left)}

    return receive  # type: ignore[return-value]
