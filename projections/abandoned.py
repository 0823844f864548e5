"""Ends requests whose API process is gone, and that no worker has claimed.

If the process died before it had published the job, no worker will ever look at it. Nobody waits for such a request,
but it holds money, and identical requests wait for it: until its deadline, without this. What a worker has claimed is
the worker's to end.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from domain.errors import Unavailable
from infra.database import Pool, database_errors
from infra.jobs import PUBLISH_TIMEOUT_S
from projections.unfinished import SELECT_ATTEMPTS, request_failed, withdraw_each

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
_OF_PROCESSES = SELECT_ATTEMPTS + "WHERE delivery IS NULL AND split_part(reply_to, '.', 2) = ANY ($1) LIMIT $2"

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
        ended = await withdraw_each(self._pool, rows, now, lambda row: request_failed(row, now, Unavailable, REASON))
        for request_id in sorted(ended):
            log.warning("request_abandoned", request_id=request_id)
        return len(ended)
