"""Ends attempts that are past their deadline.

If no worker claimed the attempt, its hold is released and nothing is charged. If a worker claimed it, the worker is
lost, and so much is assumed to be spent as is known (`projections/lost_costs.py`). Both append under the stream's
version: if the worker records its result at the same moment, only one of the two is stored. A hold that is released
goes in the transaction that ends its request. If the attempt's outcome is counted already, its row is left over, and
is deleted.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

import asyncpg
import structlog

from domain.errors import ProviderTimeout, ProviderUnavailable, Unavailable
from domain.events import AttemptLost, RequestFailed, request_stream
from domain.job_result import JobFailure, failure_in_log
from domain.request_decider import decide_failed
from infra.crash_points import reach
from infra.database import Pool, database_errors
from infra.event_log import EventLog
from infra.presence import IsGone, gone_of
from infra.request_log import record
from projections.lost_costs import assumed_cost
from projections.unfinished import SELECT_ATTEMPTS, attempt_lost, request_failed, withdraw_each

GRACE_S = 5.0
"""The time after the deadline in which the worker's own result may still arrive."""
MAX_SWEPT = 500
_UNCLAIMED = SELECT_ATTEMPTS + "WHERE deadline < $1 AND delivery IS NULL LIMIT $2"
_IS_CLAIMED = (
    "WHERE deadline < $1 AND delivery IS NOT NULL "
    "AND project_id NOT IN (SELECT project_id FROM quarantined_projects) LIMIT $2"
)
_CLAIMED = SELECT_ATTEMPTS + _IS_CLAIMED
"""Those of a project in quarantine stay until its release."""
_RELEASE_COUNTED = (
    "SELECT settle(ARRAY[$1], ARRAY[$2::integer], ARRAY[$3], '{-1}') FROM ("
    "SELECT min(position) AS position FROM events WHERE stream = $4 AND CASE "
    "WHEN type IN ('CostIncurred', 'AttemptFailed', 'AttemptLost') THEN (data ->> 'attempt')::integer = $2 END"
    ") AS outcome WHERE position <= (SELECT position FROM projection_checkpoints WHERE projection = 'budgets') "
    "AND $5 NOT IN (SELECT project_id FROM quarantined_projects)"
)
"""A row that came after its attempt's outcome was counted: nothing else would ever delete it."""
ABANDONED = "the worker that made the request is gone, and the queue has lost it"
TIMED_OUT = "no worker finished the request in time"

log = structlog.get_logger(__name__)


async def sweep(
    pool: Pool,
    event_log: EventLog,
    now: datetime,
    notify: Callable[[str, JobFailure], Awaitable[None]],
    *,
    is_gone: IsGone,
) -> int:
    """End overdue attempts, at most `MAX_SWEPT` of each kind. Return their number.

    `notify` sends the failure to the API process, in case the caller still waits.
    """
    overdue = now - timedelta(seconds=GRACE_S)
    async with database_errors():
        unclaimed = await pool.fetch(_UNCLAIMED, overdue, MAX_SWEPT)
        claimed = await pool.fetch(_CLAIMED, overdue, MAX_SWEPT)
    dropped = await _withdraw(pool, unclaimed, now, notify) if unclaimed else 0
    gone = await gone_of((row["claimed_by"] for row in claimed if row["claimed_by"] is not None), is_gone)
    for row in claimed:
        try:
            lost = attempt_lost(row, await assumed_cost(pool, row, is_gone=row["claimed_by"] in gone))
            await _end(pool, event_log, row, lost, now, notify)
        except Unavailable:
            raise
        except Exception:
            log.exception("sweep_failed", request_id=row["request_id"], attempt=row["attempt"])  # the others are swept
    return dropped + len(claimed)


async def _withdraw(
    pool: Pool, rows: Sequence[asyncpg.Record], now: datetime, notify: Callable[[str, JobFailure], Awaitable[None]]
) -> int:
    """End overdue requests that no worker has claimed. Return their number."""
    reach("projector.during_sweep")
    dropped = await withdraw_each(pool, rows, now, lambda row: _timed_out(row, now))
    reach("projector.after_sweep")
    for row in rows:
        if row["request_id"] in dropped:
            log.warning("attempt_swept", request_id=row["request_id"], attempt=row["attempt"], claimed=False)
            await notify(row["reply_to"], failure_in_log(_timed_out(row, now)))
    return len(dropped)


async def _end(
    pool: Pool,
    event_log: EventLog,
    row: asyncpg.Record,
    lost: AttemptLost,
    now: datetime,
    notify: Callable[[str, JobFailure], Awaitable[None]],
) -> None:
    """End an overdue attempt that a worker has claimed, and its request."""
    failed = _timed_out(row, now)
    reach("projector.during_sweep")
    recorded = await record(
        event_log,
        request_id=row["request_id"],
        project_id=row["project_id"],
        at=now,
        decide=lambda history: decide_failed(history, lost, failed),
    )
    reach("projector.after_sweep")
    if recorded.added:
        log.warning("attempt_swept", request_id=row["request_id"], attempt=row["attempt"], claimed=True)
        await notify(row["reply_to"], failure_in_log(failed))
    else:
        stream = request_stream(row["request_id"])
        async with database_errors():
            await pool.execute(
                _RELEASE_COUNTED, row["request_id"], row["attempt"], row["key_id"], stream, row["project_id"]
            )


async def end_abandoned(pool: Pool, event_log: EventLog, request_id: str, seen_events: int, now: datetime) -> bool:
    """End a request whose claimed attempt no worker makes any more, before its deadline.

    False: its stream has more than `seen_events` by now, or the attempt is gone. If a worker comes back with the
    answer, the true cost replaces the assumed one.

    Raises:
        Unavailable: the database is away.

    """
    async with database_errors():
        row = await pool.fetchrow(
            SELECT_ATTEMPTS + "WHERE request_id = $1 AND delivery IS NOT NULL ORDER BY attempt DESC LIMIT 1",
            request_id,
        )
    if row is None:
        return False
    failed = request_failed(row, now, ProviderUnavailable, ABANDONED)
    lost = attempt_lost(row, await assumed_cost(pool, row, is_gone=False))
    recorded = await record(
        event_log,
        request_id=request_id,
        project_id=row["project_id"],
        at=now,
        decide=lambda history: decide_failed(history, lost, failed) if len(history) == seen_events else (),
    )
    return recorded.added


def _timed_out(row: asyncpg.Record, now: datetime) -> RequestFailed:
    return request_failed(row, now, ProviderTimeout, TIMED_OUT)
