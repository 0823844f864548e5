"""A constant load for the soak: requests of several keys at an even pace, each read to its end.

Of ten requests two are streams, two can be answered by the cache, and six are whole answers that no cache has, over
the native API and both vendors' surfaces. A request is late if it takes longer than the gateway's deadline.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Sequence

from tests.support.load import ANSWERED, BROKE_OFF, Asked, ask
from tests.support.streams import CHAT_GPT, MESSAGES_GPT, NATIVE_GPT, StreamCall, Streamer

MAX_UNDER_WAY = 1_000
MAX_BEHIND_S = 1.0
"""If the load falls behind its pace by more, what was missed is not made up for."""
DELAY_MS = 50
CHUNKS, PACE_MS = 12, 35
"""Of a stream, which so takes 0.4 s, and has less tokens than are assumed to be under way of one that has shown nothing
(`UNDER_WAY_TOKENS` in `workers/estimated_usage.py`): so nothing that is assumed is below the bill.
"""
CACHED_PROMPTS, CACHED_FOR_REQUESTS = 20, 2_000
"""So many prompts are asked again and again; after so many requests others take their place."""
_CALLS: Sequence[StreamCall] = (NATIVE_GPT, CHAT_GPT, MESSAGES_GPT)
_STREAMS, _CACHED, _OF = 2, 2, 10


class SoakLoad:
    """What was asked, and how it ended."""

    def __init__(self, streamers: Sequence[Streamer]) -> None:
        self._streamers = streamers
        self._numbers = itertools.count()
        self._under_way: set[asyncio.Task[None]] = set()
        self.outcomes: Counter[str] = Counter()
        self.not_answered: list[Asked] = []
        self.prompts: list[str] = []
        """Of every request that has ended."""
        self.slowest_s = 0.0
        self.most_under_way = 0
        self.left_out = 0
        """Requests that were not made because the load had fallen behind its pace."""

    async def as_fast_as_possible(self, callers: int, seconds: float) -> float:
        """Ask by so many callers, each one request after the other. Return the answers a second."""
        until_s, began_s, before = time.monotonic() + seconds, time.monotonic(), self.outcomes[ANSWERED]

        async def caller() -> None:
            while time.monotonic() < until_s:
                await self._ask(next(self._numbers))

        await asyncio.gather(*(caller() for _ in range(callers)))
        return (self.outcomes[ANSWERED] - before) / (time.monotonic() - began_s)

    async def at_a_pace(self, per_second: float, stop: asyncio.Event) -> None:
        """Ask so many requests a second until `stop` is set, and then wait for those under way."""
        next_s = time.monotonic()
        while not stop.is_set():
            behind_s = time.monotonic() - next_s
            if behind_s > MAX_BEHIND_S:
                self.left_out += int(behind_s * per_second)
                next_s += behind_s
            if len(self._under_way) < MAX_UNDER_WAY:
                task = asyncio.create_task(self._ask(next(self._numbers)))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
                self.most_under_way = max(self.most_under_way, len(self._under_way))
            else:
                self.left_out += 1
            next_s += 1 / per_second
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))
        await asyncio.gather(*self._under_way)

    async def _ask(self, number: int) -> None:
        streamer = self._streamers[number % len(self._streamers)]
        turn = number // len(self._streamers)
        call, kind = _CALLS[turn % len(_CALLS)], turn // len(_CALLS) % _OF
        is_stream, is_cached = kind < _STREAMS, _STREAMS <= kind < _STREAMS + _CACHED
        if is_stream:
            prompt = f"stream {number} [[chunks={CHUNKS}]] [[big={CHUNKS * 4}]] [[pace={PACE_MS}]]"
        elif is_cached:
            prompt = f"again {number // CACHED_FOR_REQUESTS} {turn % CACHED_PROMPTS} [[delay={DELAY_MS}]]"
        else:
            prompt = f"new {number} [[delay={DELAY_MS}]]"
        asked = await ask(streamer, call, prompt, is_stream=is_stream, is_cached=is_cached)
        self.outcomes[asked.outcome] += 1
        self.prompts.append(prompt)
        self.slowest_s = max(self.slowest_s, asked.waited_s)
        if asked.outcome != ANSWERED:
            self.not_answered.append(asked)

    def failed(self, killed_at_s: Sequence[float]) -> list[Asked]:
        """Return the requests that were not answered, but for streams that were under way as a worker was killed.

        Such a stream ends with an error event: its caller has a part of an answer that no other worker can continue.
        """
        return [
            asked
            for asked in self.not_answered
            if asked.outcome != BROKE_OFF or not any(asked.began_s <= at_s <= asked.ended_s for at_s in killed_at_s)
        ]
