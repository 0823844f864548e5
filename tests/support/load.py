"""Callers that ask one request after the other, in one piece and streamed, and what each of them sees."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
from msgspec import Struct

from tests.support.streams import CHAT_GPT, MESSAGES_GPT, NATIVE_GPT, StreamCall, Streamer, digest_of, error_in
from tests.support.waiting import eventually

ANSWERED, BROKE_OFF, CUT_OFF = "answered", "broke off", "cut off"
CLEAR_ERRORS = frozenset({"502", "503", "504", "529"})
"""What a caller may be told when a part of the gateway is away. 529 is Anthropic's 503."""
_CALLS: Sequence[tuple[StreamCall, bool]] = ((NATIVE_GPT, False), (CHAT_GPT, True), (MESSAGES_GPT, True))


class Asked(Struct, frozen=True, kw_only=True):
    """A request as its caller saw it."""

    prompt: str
    outcome: str
    """`answered`; `broke off`: a stream that ended with an error event; `cut off`: a broken connection; or a status."""
    error: str
    """The error's text; empty if there is none."""
    began_s: float
    ended_s: float

    @property
    def waited_s(self) -> float:
        """Return how long the caller waited."""
        return self.ended_s - self.began_s


class Load:
    """Callers that ask until they are told to stop."""

    def __init__(self, session: aiohttp.ClientSession, addresses: Sequence[str], key: str, words: str) -> None:
        self.asked: list[Asked] = []
        self._streamers = [Streamer(session, address, key) for address in addresses]
        self._words = words
        self._stop = asyncio.Event()

    @asynccontextmanager
    async def asking(self, callers: int) -> AsyncIterator["Load"]:
        """Ask until the block ends. It begins when every caller has been answered; at its end the last ones are."""
        running = [asyncio.create_task(self._ask_on(caller)) for caller in range(callers)]
        try:
            await eventually(lambda: len(self.asked) >= callers, within_s=60)
            yield self
        finally:
            self._stop.set()
            await asyncio.gather(*running)

    async def _ask_on(self, caller: int) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            call, is_stream = _CALLS[(caller + number) % len(_CALLS)]
            streamer = self._streamers[(caller + number) % len(self._streamers)]
            self.asked.append(await ask(streamer, call, f"{caller} asks {number} {self._words}", is_stream=is_stream))
            if self.asked[-1].outcome != ANSWERED:
                await asyncio.sleep(0.1)

    def since(self, at_s: float) -> list[Asked]:
        """Return the requests that ended after a moment."""
        return [one for one in self.asked if one.ended_s > at_s]

    async def until_answered(self, since_s: float, within_s: float) -> float:
        """Wait until a request that began after a moment is answered. Return the seconds between."""

        def answered() -> list[float]:
            return [one.ended_s - since_s for one in self.asked if one.began_s >= since_s and one.outcome == ANSWERED]

        await eventually(answered, within_s=within_s)
        return min(answered())


async def ask(
    streamer: Streamer, call: StreamCall, prompt: str, *, is_stream: bool = False, is_cached: bool = False
) -> Asked:
    """Send a request, and read what comes to its end."""
    began_s = time.monotonic()
    noted = {
        "x-gateway-metadata": json.dumps({"prompt": digest_of(prompt)}),
        "x-gateway-cache": "on" if is_cached else "off",
    }
    try:
        async with streamer.opened(call, call.body(prompt, stream=is_stream), **noted) as answer:
            content = await answer.read()
        outcome, error = _outcome(answer.status, content, is_stream=is_stream)
    except (aiohttp.ClientError, OSError) as failure:
        outcome, error = CUT_OFF, repr(failure)
    return Asked(prompt=prompt, outcome=outcome, error=error, began_s=began_s, ended_s=time.monotonic())


def _outcome(status: int, content: bytes, *, is_stream: bool) -> tuple[str, str]:
    if status != 200:
        return str(status), content.decode(errors="replace")[:300]
    if is_stream and (error := error_in(content)):
        return BROKE_OFF, str(error)[:300]
    return ANSWERED, ""


def summary(asked: Sequence[Asked]) -> str:
    """Return how the requests ended, and how long the slowest took."""
    counted = dict(Counter(one.outcome for one in asked))
    slowest_s = max((one.waited_s for one in asked), default=0.0)
    errors = sorted({one.error for one in asked if one.error})[:3]
    return f"{counted}, slowest {slowest_s:.1f} s{', '.join(['', *errors])}"
