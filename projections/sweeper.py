"""Ends attempts that are past their deadline.

If no worker claimed the attempt, its hold is released and nothing is charged. If a worker claimed it, the worker is
lost and the hold is assumed to be spent. Both append under the stream's version: if the worker records its result at
the same moment, only one of the two is stored.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import structlog

from domain.errors import Unavailable
from domain.events import AttemptLost, RequestFailed
from domain.idempotency import Idempotency
from domain.job_result import JobFailure
from domain.request_decider import decide_failed
from infra.database import Pool
from infra.event_log import EventLog
from infra.request_log import record

GRACE_S = 5.0
"""The time after the deadline in which the worker's own result may still arrive."""
MAX_SWEPT = 500
TIMED_OUT = "no worker finished the request in time"

_ROW = "*, metadata::text AS metadata, idempotency::text AS idempotency"

log = structlog.get_logger(__name__)
_decode_idempotency = msgspec.json.Decoder(Idempotency).decode


async def sweep(
    pool: Pool, event_log: EventLog, now: datetime, notify: Callable[[str, JobFailure], Awaitable[None]]
) -> int:
    """End overdue attempts, at most `MAX_SWEPT` of each kind. Return their number.

    `notify` sends the failure to the API process, in case the caller still waits.
    """
    overdue = now - timedelta(seconds=GRACE_S)
    dropped = await pool.fetch(f"SELECT {_ROW} FROM drop_overdue($1, $2)", overdue, MAX_SWEPT)  # noqa: S608 - a constant
    claimed = await pool.fetch(
        f"SELECT {_ROW} FROM inflight WHERE deadline < $1 AND delivery IS NOT NULL "  # noqa: S608 - a constant
        "AND project_id NOT IN (SELECT project_id FROM quarantined_projects) LIMIT $2",  # these stay until the release
        overdue,
        MAX_SWEPT,
    )
    for row in [*dropped, *claimed]:
        try:
            await _end(event_log, row, now, notify)
        except Unavailable:
            raise
        except Exception:
            log.exception("sweep_failed", request_id=row["request_id"], attempt=row["attempt"])  # the others are swept
    return len(dropped) + len(claimed)


async def _end(
    event_log: EventLog, row: asyncpg.Record, now: datetime, notify: Callable[[str, JobFailure], Awaitable[None]]
) -> None:
    """End an overdue attempt and its request."""
    failed = RequestFailed(
        **_subject(row), code="PROVIDER_TIMEOUT", message=TIMED_OUT, latency_ms=_latency_ms(row, now)
    )
    lost = _lost(row) if row["delivery"] is not None else None
    recorded = await record(
        event_log,
        request_id=row["request_id"],
        project_id=row["project_id"],
        at=now,
        decide=lambda history: decide_failed(history, lost, failed),
    )
    if recorded.added:
        log.warning("attempt_swept", request_id=row["request_id"], attempt=row["attempt"], claimed=lost is not None)
        await notify(row["reply_to"], JobFailure(code=failed.code, message=failed.message, provider=failed.provider))


def _subject(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "request_id": row["request_id"],
        "key_id": row["key_id"],
        "operation": row["operation"],
        "model": row["model"],
        "provider": row["provider"],
        "metadata": msgspec.json.decode(row["metadata"]) if row["metadata"] is not None else None,
        "idempotency": _decode_idempotency(row["idempotency"]) if row["idempotency"] is not None else None,
    }


def _lost(row: asyncpg.Record) -> AttemptLost:
    return AttemptLost(
        **_subject(row),
        attempt=row["attempt"],
        upstream_model=row["upstream_model"],
        reason="worker_lost",
        assumed_nano_usd=row["hold_nano_usd"],
        budget_day=row["budget_day"],
    )


def _latency_ms(row: asyncpg.Record, now: datetime) -> int:
    admitted_at: datetime = row["admitted_at"]
    return max(0, round((now - admitted_at).total_seconds() * 1000))
