"""What is assumed of an attempt whose worker died: no more than what is known allows.

What is known: how far the attempt was, if its worker reported that (`workers/progress.py`), and what the provider has
counted for the same key and model lately. An answer is taken to be as long as the longest of those, and its prompt as
dense as the densest. That is no bound, and so it is never held: a hold is the most that a request can cost. See
`docs/decisions/0036-when-processes-die.md`.
"""

import math
import time
from fractions import Fraction

from cachetools import LRUCache
from msgspec import Struct

from domain.events import RequestCompleted, request_stream
from domain.extras import NO_EXTRAS, with_asked
from domain.money import NanoUsd
from domain.pricing import charge
from domain.tokens import TokenUsage
from infra.admission import ClaimedAttempt
from infra.database import Pool, database_errors
from infra.event_log import EventLog
from infra.jobs import Job

LATEST = 100
"""Answers that are looked at. That one more is longer than all of them is as rare as one in so many."""
FEWEST = 20
"""With fewer answers, nothing is known of them."""
REMEMBERED = 1_024
REMEMBERED_FOR_S = 60.0

_OF_KEY = (
    "SELECT request_id FROM requests WHERE key_id = $1 AND model = $2 AND provider = $3 AND operation = $4 "
    "AND status = 'completed' ORDER BY request_id DESC LIMIT $5"
)


class Habit(Struct, frozen=True, kw_only=True):
    """What answers to one key, from one model, have counted lately."""

    longest_output: int
    densest_input: Fraction
    """The most tokens for each byte of a request."""


class LostAttempts:
    """Assumes for one worker."""

    def __init__(self, pool: Pool, log: EventLog) -> None:
        self._pool = pool
        self._log = log
        self._habits: LRUCache[tuple[str, ...], tuple[float, Habit | None]] = LRUCache(REMEMBERED)

    async def assumed(self, job: Job, lost: ClaimedAttempt, request_bytes: int) -> NanoUsd:
        """The cost to assume of an attempt whose worker is gone, with its connections.

        Raises:
            Unavailable: the database is away.

        """
        reported = lost.assumed_nano_usd if lost.assumed_nano_usd is not None else lost.hold_nano_usd
        habit = await self._habit(job)
        usual = usual_cost(job, habit, request_bytes) if habit is not None else None
        return min(reported, lost.hold_nano_usd, *([usual] if usual is not None else []))

    async def _habit(self, job: Job) -> Habit | None:
        identity = job.identity
        place = (identity.key_id, identity.model, identity.provider, identity.operation)
        known = self._habits.get(place)
        if known is not None and time.monotonic() - known[0] < REMEMBERED_FOR_S:
            return known[1]
        async with database_errors():
            rows = await self._pool.fetch(_OF_KEY, *place, LATEST)
        stored = await self._log.read_streams(
            [request_stream(row["request_id"]) for row in rows], [RequestCompleted.__name__]
        )
        habit = habit_of([one.event for one in stored if isinstance(one.event, RequestCompleted)])
        self._habits[place] = (time.monotonic(), habit)
        return habit


def habit_of(answers: list[RequestCompleted]) -> Habit | None:
    """Learn from answers; None if there are fewer than `FEWEST`."""
    counted = [one for one in answers if one.request_bytes]
    if len(counted) < FEWEST:
        return None
    return Habit(
        longest_output=max(one.usage.completion_tokens for one in counted),
        densest_input=max(Fraction(one.usage.prompt_tokens, one.request_bytes) for one in counted),
    )


def usual_cost(job: Job, habit: Habit, request_bytes: int) -> NanoUsd | None:
    """The most that a request of this size costs by habit; None if it may use more than tokens, or has no price."""
    if job.price is None or job.context_window or job.audio_bound or job.writes_audio:
        return None
    input_tokens = min(job.input_bound, math.ceil(habit.densest_input * request_bytes) + job.unseen_input_tokens)
    output = min(job.output_bound, habit.longest_output * job.choices) + job.unseen_output_tokens
    usage = TokenUsage(**{job.input_class: input_tokens, "output": output})
    _, breakdown = charge(usage, job.price, with_asked(NO_EXTRAS, job.asked_terms))
    return breakdown.total_nano_usd if breakdown is not None and not breakdown.unpriced else None
