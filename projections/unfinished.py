"""Ends requests with an attempt in `inflight` that nobody will finish: their events, and how they are appended."""

from collections.abc import Callable, Sequence
from datetime import datetime

import asyncpg
import structlog

from domain.errors import GatewayError, Unavailable
from domain.events import AttemptLost, RequestFailed, request_stream
from domain.money import NanoUsd
from infra.admission import SeenStream, Withdrawal, decode_seen, withdraw
from infra.attempt_rows import identity_of
from infra.database import Pool
from infra.event_log import Commit

SELECT_ATTEMPTS = (
    "SELECT *, metadata::text AS metadata, idempotency::text AS idempotency, said::text AS said, seen::text AS seen "
    "FROM inflight "
)
"""What the functions here read of a row."""

log = structlog.get_logger(__name__)


def request_failed(row: asyncpg.Record, now: datetime, error: type[GatewayError], message: str) -> RequestFailed:
    """Return the event by which the request of an attempt ends now."""
    admitted_at: datetime = row["admitted_at"]
    latency_ms = max(0, round((now - admitted_at).total_seconds() * 1000))
    return RequestFailed(**identity_of(row).event_fields(), code=error.code, message=message, latency_ms=latency_ms)


def attempt_lost(row: asyncpg.Record, assumed_nano_usd: NanoUsd) -> AttemptLost:
    """Return the event by which an attempt is assumed to have cost so much."""
    seen = decode_seen(row["seen"]) if row["seen"] is not None else SeenStream()
    return AttemptLost(
        **identity_of(row).attempt_fields(row["attempt"]),
        reason="worker_lost",
        assumed_nano_usd=assumed_nano_usd,
        budget_day=row["budget_day"],
        hold_nano_usd=row["hold_nano_usd"],
        credential=seen.credential,
        response_id=seen.response_id,
        kept=seen.kept,
    )


async def withdraw_each(
    pool: Pool, rows: Sequence[asyncpg.Record], now: datetime, end: Callable[[asyncpg.Record], RequestFailed]
) -> set[str]:
    """End requests that no worker has claimed, in one step. Return those that were ended: others are claimed, or gone.

    A request that cannot be ended is logged, and stops no other.

    Raises:
        Unavailable: the database is away.

    """
    if not rows:
        return set()
    try:
        dropped, _ = await withdraw(pool, [_withdrawal(row, now, end(row)) for row in rows])
    except Unavailable:
        raise
    except Exception:
        if len(rows) > 1:
            return set().union(*[await withdraw_each(pool, [row], now, end) for row in rows])
        log.exception("sweep_failed", request_id=rows[0]["request_id"])
        return set()
    return dropped


def _withdrawal(row: asyncpg.Record, now: datetime, failed: RequestFailed) -> Withdrawal:
    stream, project_id = request_stream(row["request_id"]), row["project_id"]
    commit = Commit(stream=stream, expected_version=0, project_id=project_id, at=now, events=(failed,))
    return Withdrawal(request_id=row["request_id"], ended=commit)
