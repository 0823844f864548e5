"""What is assumed of an attempt whose worker died or stands still: no more than what is known allows.

What is known: what had come of it, if its worker reported that (`workers/progress.py`), and what the provider has
counted for the same key and model lately (`domain/habits.py`). What had come counts at least, however short answers
usually are. That is no bound, and so it is never held: a hold is the most that a request can cost. See
`docs/decisions/0042-assumptions-that-settle.md`.
"""

import asyncio
import math
import time
from fractions import Fraction

from cachetools import LRUCache
from msgspec import Struct
from msgspec.structs import replace

from domain.events import RequestCompleted, request_stream
from domain.extras import NO_EXTRAS, with_asked
from domain.habits import LATEST, LOOKED_THROUGH, usual_most
from domain.money import NanoUsd
from domain.pricing import charge
from domain.tokens import TokenUsage
from infra.admission import ClaimedAttempt, SeenStream
from infra.database import Pool, database_errors
from infra.event_log import EventLog
from infra.jobs import Job
from workers.estimated_usage import UNDER_WAY_TOKENS
from workers.progress import is_reported

REMEMBERED = 1_024
REMEMBERED_FOR_S = 60.0

_LATEST_ANSWERS = (
    "SELECT request_id FROM (SELECT * FROM requests WHERE key_id = $1 ORDER BY request_id DESC LIMIT $7) AS latest "
    "WHERE (model = $2 OR price ->> 'model' = $3) AND provider = $4 AND operation = $5 AND status = 'completed' "
    "ORDER BY request_id DESC LIMIT $6"
)
"""A request through a route is in the table by the route's name: which of its models answered, the price tells."""


_Place = tuple[str, ...]
"""Key, model, the model it is priced as, provider and operation: for these an answer's length is usual."""


class Habit(Struct, frozen=True, kw_only=True):
    """What is usual of answers to one key, from one model."""

    output_tokens: int
    """Of a whole answer."""
    input_density: Fraction
    """Tokens for each byte of a request."""
    output_density: Fraction | None
    """Tokens for each byte of text that a stream shows; None: too few were streams."""


class LostAttempts:
    """Assumes for one worker."""

    def __init__(self, pool: Pool, log: EventLog) -> None:
        self._pool = pool
        self._log = log
        self._habits: LRUCache[_Place, tuple[float, Habit | None]] = LRUCache(REMEMBERED)
        self._reads: dict[_Place, asyncio.Task[Habit | None]] = {}

    async def assumed(self, job: Job, lost: ClaimedAttempt, request_bytes: int, *, is_gone: bool) -> NanoUsd:
        """The cost to assume of an attempt. `is_gone`: its worker is, with its connections; else that stands still.

        Raises:
            Unavailable: the database is away.

        """
        return assumed_of(job, lost, await self._habit(job), request_bytes, is_gone=is_gone)

    async def _habit(self, job: Job) -> Habit | None:
        identity = job.identity
        priced_as = job.price.model if job.price is not None else identity.model
        place = (identity.key_id, identity.model, priced_as, identity.provider, identity.operation)
        known = self._habits.get(place)
        if known is not None and time.monotonic() - known[0] < REMEMBERED_FOR_S:
            return known[1]
        read = self._reads.get(place)
        if read is None:  # a dead worker leaves many attempts of one key: all of them wait for one read
            read = self._reads[place] = asyncio.create_task(self._read(place))
            read.add_done_callback(lambda _: self._reads.pop(place))
        return await asyncio.shield(read)

    async def _read(self, place: _Place) -> Habit | None:
        async with database_errors():
            rows = await self._pool.fetch(_LATEST_ANSWERS, *place, LATEST, LOOKED_THROUGH)
        stored = await self._log.read_streams(
            [request_stream(row["request_id"]) for row in rows], [RequestCompleted.__name__]
        )
        habit = habit_of([one.event for one in stored if isinstance(one.event, RequestCompleted)])
        self._habits[place] = (time.monotonic(), habit)
        return habit


def habit_of(answers: list[RequestCompleted]) -> Habit | None:
    """Learn from answers; None if there are too few of them."""
    tokens = usual_most(one.usage.completion_tokens for one in answers)
    read = usual_most(Fraction(one.usage.prompt_tokens, one.request_bytes) for one in answers if one.request_bytes)
    if tokens is None or read is None:
        return None
    written = usual_most(Fraction(one.usage.completion_tokens, one.output_bytes) for one in answers if one.output_bytes)
    return Habit(output_tokens=tokens, input_density=read, output_density=written)


def assumed_of(job: Job, lost: ClaimedAttempt, habit: Habit | None, request_bytes: int, *, is_gone: bool) -> NanoUsd:
    """The cost to assume of an attempt of which so much is known.

    A worker that is gone has cut its stream: what had come is what was written. The provider of one that stands still
    may write the answer to its end, as the provider of an answer in one piece does in any case.
    """
    seen = lost.seen if is_reported(job) else None
    if seen is None or not is_gone:
        costs = [usual_cost(job, habit, None, request_bytes)]
        if seen is not None:
            costs.append(usual_cost(job, habit, seen, request_bytes))
        known = None if None in costs else max(cost for cost in costs if cost is not None)
        most = lost.hold_nano_usd
    else:
        known = usual_cost(job, habit, seen, request_bytes)
        most = min(
            lost.hold_nano_usd, lost.assumed_nano_usd if lost.assumed_nano_usd is not None else lost.hold_nano_usd
        )
    return most if known is None else min(most, known)


def usual_cost(job: Job, habit: Habit | None, seen: SeenStream | None, request_bytes: int) -> NanoUsd | None:
    """What a request of this size costs by habit: to its end, or as far as it was seen.

    None: nothing is usual, or the request may use more than tokens, or has no price.
    """
    if habit is None or job.price is None or job.context_window or job.audio_bound or job.writes_audio:
        return None
    output = _usual_output(job, habit, seen)
    if output is None:
        return None
    read = seen.input_usage if seen is not None else None
    if read is None:
        tokens = min(job.input_bound, math.ceil(habit.input_density * request_bytes))
        read = TokenUsage(**{job.input_class: tokens})
    unseen = {job.input_class: getattr(read, job.input_class) + job.unseen_input_tokens}
    usage = replace(read, output=output + job.unseen_output_tokens, **unseen)
    _, breakdown = charge(usage, job.price, with_asked(NO_EXTRAS, job.asked_terms))
    return breakdown.total_nano_usd if breakdown is not None and not breakdown.unpriced else None


def _usual_output(job: Job, habit: Habit, seen: SeenStream | None) -> int | None:
    """The tokens of an answer, or of what had come of one; None: those of so many bytes are not known."""
    if seen is None:
        return min(job.output_bound, habit.output_tokens * job.choices)
    if not seen.received_bytes:
        written = UNDER_WAY_TOKENS * job.choices
    elif habit.output_density is None:
        return None
    else:  # it may have come as far as to where its next report was due
        written = math.ceil(habit.output_density * max(seen.received_bytes, seen.covered_bytes))
    return min(job.output_bound, max(written, seen.output_tokens))
