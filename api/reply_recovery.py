"""Finds out about requests of which no frame comes: what has ended stands in the log, what no worker has is dispatched.

Frames travel over core NATS, which keeps none of them. One query looks up all requests that have been silent for a
while, more rarely the longer they are silent; right after a reconnect it looks up all that wait. A job that the queue
holds back, because it has no leader, goes to a worker directly. Does not answer callers: it gives the end to the
collector of a request's frames.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence

import structlog
from msgspec import Struct
from msgspec.structs import replace

from domain.errors import Overloaded, Unavailable
from domain.events import CostIncurred, RequestCompleted, RequestFailed, StoredEvent, request_stream
from domain.job_result import JobFailure, failure_in_log, receipt_of
from domain.request_decider import cost_of, ending
from infra.admission import Admission
from infra.broker import BrokerErrors
from infra.direct import DirectDispatch
from infra.event_log import EventLog
from infra.jobs import ACK_WAIT_S, JobQueue
from infra.replies import Completed, ReplyInbox

TICK_S = 0.5
SILENT_S = 1.0
"""After so long without a frame a request is looked up, then each time after twice as long."""
MAX_SILENT_S = 4.0
LOOKED_UP_AT_ONCE = 500
MAX_LOOKED_UP = 5_000
"""In one tick; the others come with the next."""
MAX_REFUSALS = 16
"""In one tick. Of a project that no worker has room for no more is offered: the queue is not stuck then, but long."""
MAX_CHECKED = 100
"""Dispatched jobs in one tick that are checked: does their worker still have them?"""
_ENDINGS = [kind.__name__ for kind in (RequestCompleted, RequestFailed, CostIncurred)]

log = structlog.get_logger(__name__)


class _Silence(Struct):
    """How long nothing has come for a request."""

    progress: tuple[int, int]
    look_at_s: float
    wait_s: float = SILENT_S
    looks: int = 0


class ReplyRecovery:
    """Looks after the requests that one API process waits for."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        admission: Admission,
        queue: JobQueue,
        direct: DirectDispatch,
        inbox: ReplyInbox,
    ) -> None:
        self._log = event_log
        self._admission = admission
        self._queue = queue
        self._direct = direct
        self._inbox = inbox
        self._silences: dict[str, _Silence] = {}
        self._missed_at_s: dict[str, float] = {}
        """When a job that a worker was given directly was found in no worker's hand."""
        self._reconnected = asyncio.Event()

    def reconnected(self) -> None:
        """Look all requests up now: their frames may have been lost with the connection."""
        self._reconnected.set()

    async def run(self) -> None:
        """Look up what is silent, until it is cancelled."""
        while True:
            try:
                await asyncio.wait_for(self._reconnected.wait(), TICK_S)
            except TimeoutError:
                is_anew = False
            else:
                is_anew = True
                self._reconnected.clear()
            try:
                await self.look(is_anew=is_anew)
            except (Overloaded, Unavailable) as error:
                log.warning("replies_not_looked_up", message=error.message)
            except Exception:
                log.exception("replies_not_looked_up")  # without this loop all who wait would wait to their deadlines

    async def look(self, *, is_anew: bool = False) -> int:
        """Give the end that the log has to the requests that are silent, or to all; returns how many were looked up."""
        silent = self._silent(time.monotonic(), is_anew=is_anew)[:MAX_LOOKED_UP]
        waiting: list[str] = []
        for start in range(0, len(silent), LOOKED_UP_AT_ONCE):
            chunk = silent[start : start + LOOKED_UP_AT_ONCE]
            stored = await self._log.read_streams([request_stream(request_id) for request_id in chunk], _ENDINGS)
            ends = _ends(stored)
            for request_id, end in ends.items():
                log.info("reply_recovered", request_id=request_id, completed=isinstance(end, Completed))
                self._inbox.end_by_log(request_id, end)
            waiting += (request_id for request_id in chunk if request_id not in ends)
        await self._offer([request_id for request_id in waiting if request_id not in self._direct.dispatched])
        await self._look_after_dispatched(waiting)
        return len(silent)

    async def _offer(self, request_ids: Sequence[str]) -> None:
        """Offer the jobs that the queue has not delivered, though it should have, to workers that have room.

        What a queue that works has not brought to a worker by the second look was lost with the worker's connection.
        """
        unclaimed = await self._admission.unclaimed(request_ids) if request_ids else set[str]()
        if unclaimed and await self._delivers():
            unclaimed = {request_id for request_id in unclaimed if self._silences[request_id].looks > 1}
        refused: set[str] = set()
        for request_id in sorted(unclaimed):
            job = self._inbox.job(request_id)
            if job is None or job.identity.project_id in refused:
                continue
            if not await self._direct.offer(job):
                refused.add(job.identity.project_id)
            if len(refused) == MAX_REFUSALS:
                return

    async def _delivers(self) -> bool:
        """The queue has a leader, and workers that wait for its jobs: what it has not delivered is about to come."""
        try:
            return await self._queue.has_workers()
        except BrokerErrors:
            return False

    async def _look_after_dispatched(self, waiting: Sequence[str]) -> None:
        """Put a job into the queue, as its next delivery, if the worker that took it directly is gone."""
        for request_id in self._direct.dispatched.keys() - self._silences.keys():
            self._direct.forget(request_id)
            self._missed_at_s.pop(request_id, None)
        dispatched = [request_id for request_id in waiting if request_id in self._direct.dispatched][:MAX_CHECKED]
        held = await asyncio.gather(*(self._direct.is_in_hand(request_id) for request_id in dispatched))
        for request_id, is_held in zip(dispatched, held, strict=True):
            now_s = time.monotonic()
            if is_held:
                self._missed_at_s.pop(request_id, None)
            elif now_s - self._missed_at_s.setdefault(request_id, now_s) >= ACK_WAIT_S:
                await self._queue_again(request_id)

    async def _queue_again(self, request_id: str) -> None:
        job = self._direct.dispatched[request_id]
        following = replace(job, deliveries_before=job.deliveries_before + 1)
        self._direct.forget(request_id)
        self._missed_at_s.pop(request_id, None)
        log.warning("direct_job_lost", request_id=request_id)
        try:
            await self._queue.publish(following, otherwise=self._direct.offer)
        except (Overloaded, Unavailable) as error:
            self._direct.dispatched[request_id] = job  # it is tried again
            log.warning("direct_job_not_queued", request_id=request_id, message=error.message)

    def _silent(self, now_s: float, *, is_anew: bool) -> list[str]:
        """The requests to be looked up now, those that are silent longest first."""
        before, self._silences = self._silences, {}
        silent = []
        for request_id, collector in self._inbox.collectors():
            silence = before.get(request_id)
            if silence is None or silence.progress != collector.progress or is_anew:
                is_silent = silence is not None and silence.progress == collector.progress
                looks = silence.looks + 1 if silence is not None and is_silent else 0
                silence = _Silence(collector.progress, now_s + SILENT_S, looks=looks)
                if is_anew:
                    silent.append(request_id)
            elif silence.look_at_s <= now_s:
                silence.wait_s = min(MAX_SILENT_S, 2 * silence.wait_s)
                silence.look_at_s = now_s + silence.wait_s
                silence.looks += 1
                silent.append(request_id)
            self._silences[request_id] = silence
        return silent


def _ends(stored: Sequence[StoredEvent]) -> dict[str, Completed | JobFailure]:
    """How requests ended, by their id; those that have not ended are left out."""
    streams: defaultdict[str, list[StoredEvent]] = defaultdict(list)
    for one in stored:
        streams[one.stream].append(one)
    ends: dict[str, Completed | JobFailure] = {}
    for events in streams.values():
        history = [one.event for one in events]
        end = ending(history)
        if isinstance(end, RequestFailed):
            ends[end.request_id] = failure_in_log(end)
        elif end is not None and (cost := cost_of(history, end.attempt)) is not None:
            answered_at = next(one.at for one in events if one.event is end)
            receipt = receipt_of(end, cost, answered_at)
            ends[end.request_id] = Completed(
                attempt=end.attempt,
                digest=bytes.fromhex(end.answer_digest),
                receipt=receipt,
                size_bytes=end.answer_bytes,
            )
    return ends
