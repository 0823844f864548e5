"""What is assumed of an attempt whose worker will not finish it, where its job is no longer at hand.

That is as much as its row in `inflight` and the latest answers to the same key tell. If the queue delivers the job
again, a worker knows more (`workers/lost_attempts.py`).
"""

import asyncpg
import msgspec

from domain.extras import NO_EXTRAS
from domain.habits import LATEST, LOOKED_THROUGH, usual_most
from domain.money import ZERO, NanoUsd
from domain.pricing import Price, charge
from domain.tokens import TokenUsage
from infra.database import Pool, database_errors

_LATEST_ANSWERS = (
    "SELECT completion_tokens, cost_nano_usd, price::text AS price FROM ("
    "SELECT * FROM requests WHERE key_id = $1 ORDER BY request_id DESC LIMIT $7) AS latest "
    "WHERE (model = $2 OR price ->> 'model' = ANY ($3)) AND provider = $4 AND operation = $5 "
    "AND status = 'completed' AND cost_nano_usd IS NOT NULL ORDER BY request_id DESC LIMIT $6"
)
"""A request through a route is in the table by the route's name: which of its models answered, the price tells."""

_decode_price = msgspec.json.Decoder(Price).decode


async def assumed_cost(pool: Pool, row: asyncpg.Record, *, is_gone: bool) -> NanoUsd:
    """The cost to assume of an attempt, by its row: at most its hold. `is_gone`: its worker is, with its connections.

    What a worker that is gone has reported of a stream is the most that this can have cost. Else it is what answers
    usually cost, of a prompt that is as long as it can be, and never less than what was reported: the stream may have
    gone on.

    Raises:
        Unavailable: the database is away.

    """
    hold = NanoUsd(row["hold_nano_usd"])
    reported = NanoUsd(row["assumed_nano_usd"]) if row["assumed_nano_usd"] is not None else None
    if is_gone and reported is not None:
        return min(hold, reported)
    async with database_errors():
        answers = await pool.fetch(
            _LATEST_ANSWERS,
            row["key_id"],
            row["model"],
            [row["model"], row["model"].removeprefix(f"{row['provider']}/"), row["upstream_model"]],
            row["provider"],
            row["operation"],
            LATEST,
            LOOKED_THROUGH,
        )
    known = usual_cost(answers, row["token_bound"])
    return hold if known is None else min(hold, max(known, reported or ZERO))


def usual_cost(answers: list[asyncpg.Record], input_tokens: int) -> NanoUsd | None:
    """Return the usual cost of an answer to a prompt of so many tokens, from answers, the newest first.

    At least what they usually cost: some charges are not for tokens. None: too few, or no price.
    """
    cost = usual_most(answer["cost_nano_usd"] for answer in answers)
    written = usual_most(answer["completion_tokens"] for answer in answers)
    if cost is None or written is None or not input_tokens or answers[0]["price"] is None:
        return None
    price = _decode_price(answers[0]["price"])
    _, breakdown = charge(TokenUsage(input=input_tokens, output=written), price, NO_EXTRAS)
    if breakdown is None or breakdown.unpriced:
        return None
    return NanoUsd(max(cost, breakdown.total_nano_usd))
