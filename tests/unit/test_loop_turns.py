"""Streams with large pieces take turns, and whoever has something small to do waits for one piece, not for all."""

import asyncio

from workers.loop_turns import LoopTurns


async def work(turns: LoopTurns, name: str, pieces: int, done: list[str]) -> None:
    for _ in range(pieces):
        await turns.take()
        done.append(name)


async def test_streams_take_turns_in_the_order_in_which_they_came() -> None:
    turns, done = LoopTurns(), list[str]()
    await asyncio.gather(*(work(turns, name, 3, done) for name in "abc"))
    assert "".join(done) == "a" + "abc" * 2 + "bc", "the first one waited for nothing, and then asked before the others"


async def test_in_each_pass_of_the_loop_one_piece_is_worked_on() -> None:
    turns, done = LoopTurns(), list[str]()
    streams = [asyncio.create_task(work(turns, "stream", 10, done)) for _ in range(20)]
    before = 0
    for _ in range(100):
        await asyncio.sleep(0)
        assert len(done) <= before + 1
        before = len(done)
    await asyncio.gather(*streams)
    assert len(done) == 200


async def test_a_stream_that_is_cancelled_leaves_its_turn_to_the_next() -> None:
    turns, done = LoopTurns(), list[str]()
    first, second, third = (asyncio.create_task(work(turns, name, 1, done)) for name in "abc")
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, second, third, return_exceptions=True)
    assert done == ["a", "c"]


async def test_a_stream_that_is_alone_waits_for_nothing() -> None:
    turns = LoopTurns()
    taking = turns.take()
    try:
        taking.send(None)
    except StopIteration:
        pass
    else:
        raise AssertionError("it waited")
