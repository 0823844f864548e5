"""Only few large responses are in memory at a time, and no project has all the turns."""

import asyncio
from collections import deque
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.support.jobs import make_identity
from workers.large_answers import LARGE_ANSWER_BYTES, LargeAnswers, Turn
from workers.providers.answer_body import read_answer
from workers.providers.provider import ProviderCall


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def hold(turns: AbstractContextManager[Turn], end: asyncio.Event) -> None:
    with turns as turn:
        await turn.take()
        await turn.take()  # for the next part
        await end.wait()


async def test_one_project_takes_at_most_half_of_the_turns() -> None:
    answers, end = LargeAnswers(turns=6), asyncio.Event()
    flood = [asyncio.create_task(hold(answers.turn("flood", f"key {n}"), end)) for n in range(10)]
    await settle()
    with answers.turn("quiet", "key") as turn:
        await asyncio.wait_for(turn.take(), 1)
    waiting = asyncio.create_task(answers.take("flood", "key 11"))
    await settle()
    assert not waiting.done()
    waiting.cancel()
    end.set()
    await asyncio.gather(*flood)


async def test_returned_turn_goes_to_the_next_waiter() -> None:
    answers, end = LargeAnswers(turns=2), asyncio.Event()
    first = asyncio.create_task(hold(answers.turn("project", "key"), end))
    await settle()
    taking = asyncio.create_task(answers.take("project", "key"))
    await settle()
    assert not taking.done()
    end.set()
    await first
    await asyncio.wait_for(taking, 1)


@pytest.mark.parametrize("is_given", [False, True])
async def test_cancelled_waiter_keeps_no_turn(is_given: bool) -> None:
    answers = LargeAnswers(turns=1)
    await answers.take("project", "key")
    waiting = asyncio.create_task(answers.take("project", "key"))
    await settle()
    if is_given:
        answers.give_back("project", "key")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    if not is_given:
        answers.give_back("project", "key")
    await asyncio.wait_for(answers.take("project", "key"), 1)


async def test_a_turn_that_was_not_taken_is_not_given_back() -> None:
    answers = LargeAnswers(turns=1)
    with answers.turn("project", "key"):
        pass
    await asyncio.wait_for(answers.take("project", "key"), 1)


class Trickle:
    """A response that arrives in pieces, and may then stall."""

    def __init__(self, pieces: list[bytes], *, stalls: bool) -> None:
        self._pieces = deque(pieces)
        self._stalls = stalls

    @property
    def content(self) -> "Trickle":
        return self

    async def read(self, _size: int) -> bytes:
        if self._stalls and not self._pieces:
            await asyncio.Event().wait()
        return self._pieces.popleft() if self._pieces else b""

    def at_eof(self) -> bool:
        return not self._stalls and not self._pieces


async def test_stalled_provider_loses_its_large_response_turn() -> None:
    answers = LargeAnswers(turns=1)
    pieces = [bytes(LARGE_ANSWER_BYTES), b"more"]
    with answers.turn("prj_1", "key_1") as turn:
        call = ProviderCall(
            identity=make_identity(provider="slow"),
            path="",
            credential=None,
            timeout_s=60,
            take_turn=turn.take,
        )
        response: Any = Trickle(pieces, stalls=True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read_answer(response, call, turn_grace_s=-1), 30)
        full_response: Any = Trickle(pieces, stalls=False)
        assert await read_answer(full_response, call) == b"".join(pieces)
    with answers.turn("prj_2", "key_2") as other:
        await asyncio.wait_for(other.take(), 5)
