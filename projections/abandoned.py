"""Ends requests whose API process is gone, and that no worker has claimed.

If the process died before it had published the job, no worker will ever look at it. Nobody waits for such a request,
but it holds money, and identical requests wait for it: until its deadline, without this. What a worker has claimed is
the worker's to end.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

import asyncpg
import msgspec
import structlog

from domain.errors import Unavailable
from domain.events import RequestFailed, request_stream
from infra.admission import Withdrawal, withdraw
from infra.database import Pool, database_errors
from infra.event_log import Commit
from infra.jobs import PUBLISH_TIMEOUT_S

LOOKED_AT_AFTER = timedelta(seconds=1)
"""A request that is unclaimed for so long is looked at. Most are claimed in milliseconds."""
GONE_FOR = timedelta(seconds=PUBLISH_TIMEOUT_S + 2)
"""A process that is not found for so long is gone. One that has only lost NATS has given up its requests by then."""
MAX_ENDED = 500
REASON = "the API process that had the request ended before a worker had it"

_PROCESSES = (
    "SELECT split_part(reply_to, '.', 2) AS process, min(reply_to) AS reply_to FROM inflight "
    "WHERE delivery IS NULL AND admitted_at < $1 GROUP BY 1"
)
_OF_PROCESSES = (
    "SELECT *, metadata::text AS metadata FROM inflight "
    "WHERE delivery IS NULL AND split_part(reply_to, '.', 2) = ANY ($1) LIMIT $2"
)

log = structlog.get_logger(__name__)


class AbandonedRequests:
    """Looks for processes that are gone, for one projector."""

    def __init__(self, pool: Pool, *, listens: Callable[[str], Awaitable[bool]], now: Callable[[], datetime]) -> None:
        """`listens` returns False if no process listens to a request's reply subject."""
        self._pool = pool
        self._listens = listens
        self._now = now
        self._gone_since: dict[str, datetime] = {}

    async def end(self) -> int:
        """Withdraw the requests of processes that are gone, at most `MAX_ENDED`. Return their number.

        Raises:
            Unavailable: the database is away.

        """
        now = self._now()
        async with database_errors():
            processes = await self._pool.fetch(_PROCESSES, now - LOOKED_AT_AFTER)
        missing = [one["process"] for one in processes if not await self._listens(one["reply_to"])]
        self._gone_since = {process: self._gone_since.get(process, now) for process in missing}
        gone = [process for process, since in self._gone_since.items() if now - since >= GONE_FOR]
        if not gone:
            return 0
        async with database_errors():
            rows = await self._pool.fetch(_OF_PROCESSES, gone, MAX_ENDED)
        return await self._withdraw(rows, now)

    async def _withdraw(self, rows: Sequence[asyncpg.Record], now: datetime) -> int:
        """End requests. One that cannot be ended stops no other."""
        if not rows:
            return 0
        try:
            dropped, _ = await withdraw(self._pool, [_withdrawal(row, now) for row in rows])
        except Unavailable:
            raise
        except Exception:
            if len(rows) > 1:
                return sum([await self._withdraw([row], now) for row in rows])
            log.exception("abandoned_not_ended", request_id=rows[0]["request_id"])
            return 0
        for request_id in sorted(dropped):
            log.warning("request_abandoned", request_id=request_id)
        return len(dropped)


def _withdrawal(row: asyncpg.Record, now: datetime) -> Withdrawal:
    failed = RequestFailed(
        request_id=row["request_id"],
        key_id=row["key_id"],
        operation=row["operation"],
        model=row["model"],
        provider=row["provider"],
        metadata=msgspec.json.decode(row["metadata"]) if row["metadata"] is not None else None,
        code=Unavailable.code,
        message=REASON,
        latency_ms=max(0, round((now - row["admitted_at"]).total_seconds() * 1000)),
    )
    commit = Commit(
        stream=request_stream(row["request_id"]),
        expected_version=0,
        project_id=row["project_id"],
        at=now,
        events=(failed,),
    )
    return Withdrawal(request_id=row["request_id"], ended=commit)
